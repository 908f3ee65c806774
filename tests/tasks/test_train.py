"""Training: every attention has the same start, data and budget; a seed gives the same bits; divergence is an error."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from harness.attentions.softmax import EagerSoftmax, SoftmaxPlugin
from harness.cases import runner
from harness.core import registry
from harness.core.record import Divergence, Record, TaskResult
from harness.core.registry import RegistryError
from harness.core.spec import TaskSpec
from harness.profiles.selection import Selection
from harness.tasks.listops import ListOps
from harness.training import Diverged
from harness.training.task_models import make_model
from harness.training.train import train, train_with_progress_bar
from harness.training.trainer import make_trainer

ATTENTIONS = ["softmax", "sdpa", "yoso", "yoso_e"]
TINY: dict[str, Any] = {
    "seq_len": 16,
    "seeds": 1,
    "steps": 4,
    "batch": 8,
    "train_examples": 16,
    "eval_examples": 40,
    "layers": 1,
    "hidden_size": 16,
}


def tiny(attention: str = "sdpa", **changes: Any) -> TaskSpec:
    return TaskSpec(attention=attention, **(TINY | changes))


def trained(spec: TaskSpec, folder: Path, seed: int = 0) -> tuple[dict[str, torch.Tensor], list[list[list[int]]]]:
    """The weights after training, and the batches as the model saw them."""
    task = ListOps()
    data = task.dataset("train", spec.train_examples, spec.seq_len, spec.seed)
    model = make_model(spec, task, seed)
    trainer = make_trainer(spec, task, model, data, seed, str(folder))
    batches: list[list[list[int]]] = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: batches.append(kwargs["input_ids"].tolist()), with_kwargs=True
    )
    trainer.train()
    return dict(model.state_dict()), batches


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Breaks(SoftmaxPlugin):
    """Softmax attention that returns NaN from call number ``at`` on (the first call is 1)."""

    name = "breaks"

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def build(self, spec: Any) -> nn.Module:
        plugin = self

        class Module(EagerSoftmax):
            def forward(self, *args: Any) -> torch.Tensor:
                plugin.calls += 1
                return super().forward(*args) * (float("nan") if plugin.calls >= plugin.at else 1.0)

        return Module()


@pytest.fixture
def breaks_at(request: pytest.FixtureRequest) -> Iterator[int]:
    registry.add(Breaks(request.param))
    yield request.param
    registry.remove("breaks")


def test_every_attention_starts_from_the_same_weights():
    task = ListOps()
    first, *others = (dict(make_model(tiny(name), task, seed=3).state_dict()) for name in ATTENTIONS)
    assert all(equal(first, other) for other in others)
    assert not equal(first, dict(make_model(tiny("sdpa"), task, seed=4).state_dict()))


def test_every_attention_sees_the_same_batches_and_learns_its_own_weights(tmp_path):
    # Six steps with eight of sixteen examples are three epochs, while sampling also draws from torch's generator.
    runs = {name: trained(tiny(name, steps=6), tmp_path) for name in ATTENTIONS}
    batches = {name: run[1] for name, run in runs.items()}
    assert len(batches["sdpa"]) == 6
    assert all(seen == batches["sdpa"] for seen in batches.values())
    assert batches["sdpa"][:2] != batches["sdpa"][2:4], "the second epoch has the order of the first"
    assert batches["sdpa"] != trained(tiny("sdpa", steps=6), tmp_path, seed=1)[1]
    weights = {name: run[0]["yoso.encoder.layer.0.attention.self.value.weight"] for name, run in runs.items()}
    torch.testing.assert_close(weights["softmax"], weights["sdpa"], rtol=0, atol=1e-4)
    assert (weights["sdpa"] - weights["yoso_e"]).abs().max() > 1e-4
    assert (weights["yoso"] - weights["yoso_e"]).abs().max() > 1e-4


def test_a_name_that_contains_flash_trains(tmp_path):
    weights = {name: trained(tiny(name), tmp_path)[0] for name in ("sdpa_flash", "softmax")}
    torch.testing.assert_close(weights["sdpa_flash"], weights["softmax"], rtol=0, atol=1e-4)


def test_knobs_reach_the_attention(tmp_path):
    few, many = (trained(tiny("yoso", knobs={"num_hash": m}), tmp_path)[0] for m in (1, 64))
    assert not equal(few, many)
    sharp, flat = (trained(tiny("yoso_e", knobs={"hash_code_len": tau}), tmp_path)[0] for tau in (2, 9))
    assert not equal(sharp, flat)


@pytest.mark.parametrize("attention", ["sdpa", "yoso"])
def test_the_same_seed_gives_the_same_bits(attention, tmp_path):
    assert equal(trained(tiny(attention), tmp_path)[0], trained(tiny(attention), tmp_path)[0])
    scores = [train(tiny(attention, seeds=2)).scores for _ in range(2)]
    assert scores[0] == scores[1]
    assert train(tiny(attention, seeds=1)).scores == scores[0][:1], "a training depends on the previous one"


def test_the_result_is_complete_and_the_model_learns():
    spec = tiny(
        "sdpa", seq_len=32, seeds=2, steps=120, batch=32, train_examples=2000, eval_examples=500, hidden_size=64
    )
    result = train(spec)
    assert isinstance(result, TaskResult)
    assert (result.metric, result.chance, result.steps) == ("accuracy", 0.1, [120, 120])
    assert len(result.scores) == len(result.train_seconds) == 2
    assert min(result.train_seconds) > 0
    labels = ListOps().dataset("eval", 500, 32, 0).labels
    assert result.majority == pytest.approx((torch.bincount(labels).max() / 500).item())
    assert min(result.scores) > result.majority + 0.05
    assert "generated" in result.data
    assert (result.train_examples, result.eval_examples, result.sources) == (2000, 500, {})
    assert result.parameters == sum(p.numel() for p in make_model(spec, ListOps(), 0).parameters())
    assert result.train_memory is not None
    # At least one batch of hidden states per layer, in float32.
    assert result.train_memory.peak_bytes > 2 * 32 * 32 * 64 * 4
    assert result.examples_sha256 == train(spec.model_copy(update={"steps": 1, "seeds": 1})).examples_sha256


@pytest.mark.parametrize("attention", ["softmax", "yoso_e"])
def test_a_learning_rate_near_zero_learns_nothing(attention):
    # The control of the test above: the same code with a learning rate that cannot change the weights.
    result = train(tiny(attention, seq_len=32, learning_rate=1e-12, eval_examples=500))
    assert max(result.scores) < 0.22


@pytest.mark.parametrize(("breaks_at", "step"), [(1, 1), (3, 3), (5, 4)], indirect=["breaks_at"])
def test_a_loss_that_is_not_finite_raises_diverged_with_the_step(breaks_at, step):
    # One layer makes one call per step; call five is the evaluation after the fourth and last step.
    with pytest.raises(Diverged, match=f"at step {step}") as caught:
        train(tiny("breaks", seed=7))
    assert (caught.value.seed, caught.value.step) == (7, step)


def test_nothing_is_printed_and_nothing_is_written(tmp_path, monkeypatch, capfd):
    work, temporary = tmp_path / "work", tmp_path / "tmp"
    work.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    train(tiny())
    assert not list(work.iterdir())
    assert not list(temporary.iterdir())
    printed = capfd.readouterr()
    assert printed.out == ""
    errors = [line for line in printed.err.splitlines() if "ActivityProfiler" not in line]
    assert errors == [], "only torch's profiler may print"


def test_the_record_of_a_diverged_training_has_status_diverged():
    registry.add(Breaks(7))  # four calls verify the untrained model
    try:
        record = runner.run(tiny("breaks", seed=7), Selection().effort)
    finally:
        registry.remove("breaks")
    assert record.status == "diverged"
    assert record.divergence == Divergence(seed=7, step=3)
    assert record.reasons == ["training with seed 7 diverged: no finite number at step 3"]
    assert record.task is None
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_progress_counts_the_steps_of_all_seeds():
    calls: list[tuple[int, int]] = []
    train(tiny(seeds=2, steps=3), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 6) for n in range(1, 7)]


def test_bfloat16_and_float32_train():
    full, half = train(tiny()), train(tiny(dtype="bfloat16"))
    assert len(full.scores) == len(half.scores) == 1


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (tiny("nothing"), RegistryError, "unknown attention 'nothing'; known: .*yoso"),
        (tiny(task="nothing"), RegistryError, "unknown task 'nothing'; known: .*listops"),
        (tiny(device="tpu"), ValueError, "device must be 'cpu' or 'cuda', got 'tpu'"),
        (tiny(seq_len=8), ValueError, "seq_len must be at least 16, got 8"),
        (tiny("yoso", knobs={"hashes": 3}), ValueError, r"no knob \['hashes'\]"),
        (tiny(hidden_size=15), ValueError, "multiple of num_attention_heads"),
    ],
)
def test_bad_settings_are_rejected_before_training(spec, error, words, monkeypatch):
    monkeypatch.setattr("harness.training.trainer.Trainer.train", lambda *_: pytest.fail("training started"))
    with pytest.raises(error, match=words):
        train(spec)


def test_a_terminal_shows_a_progress_bar_and_a_file_does_not():
    for terminal in (True, False):
        written = StringIO()
        console = Console(file=written, force_terminal=terminal, color_system=None, width=120)
        result = train_with_progress_bar(tiny(seeds=2), None, console)
        assert len(result.scores) == 2
        assert ("8/8 steps" in written.getvalue()) == terminal
        assert ("listops, sdpa, 2 seeds" in written.getvalue()) == terminal
