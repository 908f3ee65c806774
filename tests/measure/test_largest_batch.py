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
def room(monkeypatch) -> list[int]:
    """Bytes that are available; a test sets them."""
    found = [10**12]
    monkeypatch.setattr(largest_batch, "available_bytes", lambda device: found[0])
    return found


def test_it_fits_and_its_double_does_not(room):
    one, two, four = (largest_batch._peak_bytes(SPEC, batch) for batch in (1, 2, 4))
    assert one < two < four
    # What is foreseen from one and two sequences is what four take, within the rounding of small tensors.
    assert one + 3 * (two - one) == pytest.approx(four, rel=0.05)
    for batch in (1, 4, 16):
        room[0] = one + (batch - 1) * (two - one)
        assert largest_batch.find(SPEC) == batch
        room[0] += (two - one) // 2
        assert largest_batch.find(SPEC) == batch
    room[0] = 0
    assert largest_batch.find(SPEC) == 1, "one sequence is always tried: it ends as out of memory, with a record"


def test_it_has_a_limit(room, monkeypatch):
    monkeypatch.setattr(largest_batch, "LIMIT", 8)
    assert largest_batch.find(SPEC) == 8


def test_the_record_says_which_batch_was_found(room, monkeypatch):
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
    assert more.parameters == common.parameters, "layers do not share their weights"
    plain = runner.run(SPEC.model_copy(update={"largest_batch": False, "conv_window": None}), Selection("paper").effort)
    assert common.parameters - plain.parameters == 2 * 5, "one filter of five tokens a head"


def test_another_head_is_refused():
    record = runner.run(SPEC.model_copy(update={"head": "encoder"}), Selection("paper").effort)
    assert record.status == "crashed"
    assert "family 'lra' has the head 'sequence_classification' only" in record.reasons[0]
