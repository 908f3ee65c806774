"""The largest batch that fits, and the Long Range Arena model as a measured model."""

import pytest

from harness.cases import runner
from harness.core.spec import ModelSpec
from harness.measure import largest_batch
from harness.profiles.selection import Selection

SPEC = ModelSpec(
    family="lra",
    head="sequence_classification",
    attention="yoso",
    seq_len=32,
    mode="training_step",
    layers=3,
    hidden_size=32,
    heads=2,
    vocab_size=50,
    largest_batch=True,
    conv_window=5,
)


@pytest.fixture
def available(monkeypatch) -> list[int]:
    """Bytes that are available, in a list so that a test can set them."""
    limit = [10**12]
    monkeypatch.setattr(largest_batch, "available_bytes", lambda device: limit[0])
    return limit


def test_the_batch_fits_and_twice_the_batch_does_not(available):
    one, two, four = (largest_batch._peak_bytes(SPEC, batch) for batch in (1, 2, 4))
    assert one < two < four
    # The extrapolation from one and two sequences predicts four, within the rounding of small tensors.
    assert one + 3 * (two - one) == pytest.approx(four, rel=0.05)
    for batch in (1, 4, 16):
        available[0] = one + (batch - 1) * (two - one)
        assert largest_batch.find(SPEC) == batch
        available[0] += (two - one) // 2
        assert largest_batch.find(SPEC) == batch
    available[0] = 0
    assert largest_batch.find(SPEC) == 1, "one sequence is always tried, so that running out of memory has a record"


def test_the_batch_has_a_limit(available, monkeypatch):
    monkeypatch.setattr(largest_batch, "LIMIT", 8)
    assert largest_batch.find(SPEC) == 8


def test_the_record_has_the_batch(available, monkeypatch):
    monkeypatch.setattr(largest_batch, "LIMIT", 4)
    record = runner.run(SPEC, Selection("paper").effort)
    assert record.status == "ok", record.reasons
    assert record.batch == 4
    assert "bmax" in record.case_id
    assert "conv5" in record.case_id
    assert record.timing is not None
    assert len(record.timing.wall_seconds) == 10
    common = runner.run(SPEC.model_copy(update={"largest_batch": False}), Selection("paper").effort)
    assert common.batch is None
    assert common.parameters == record.parameters
    more = runner.run(SPEC.model_copy(update={"largest_batch": False, "layers": 6}), Selection("paper").effort)
    assert more.parameters == common.parameters, "the layers do not share their weights"
    plain = runner.run(SPEC.model_copy(update={"largest_batch": False, "conv_window": None}), Selection("paper").effort)
    assert common.parameters - plain.parameters == 2 * 5, "expected one filter of five tokens per head"


def test_another_head_is_refused():
    record = runner.run(SPEC.model_copy(update={"head": "encoder"}), Selection("paper").effort)
    assert record.status == "crashed"
    assert "family 'lra' has the head 'sequence_classification' only" in record.reasons[0]
