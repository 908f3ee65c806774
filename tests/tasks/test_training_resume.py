"""An interrupted training is resumed to the same bits, and a limit of seconds ends a training."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cases import runner
from harness.core.spec import Swap, TaskSpec
from harness.profiles.selection import Selection
from harness.training import CHECKPOINTS
from harness.training.checkpoints import SeedFolder, SeedResult
from harness.training.train import train

SMALL: dict[str, Any] = {
    "seq_len": 16,
    "seeds": 2,
    "steps": 7,
    "batch": 8,
    "train_examples": 20,  # three batches an epoch, the last one smaller: interruptions fall inside epochs
    "eval_examples": 40,
    "layers": 1,
    "hidden_size": 16,
    "dropout": 0.1,
}


class Interrupted(Exception):
    """Stands for a user's Ctrl-C."""


def interrupt_at(number: int):
    """A progress callback that interrupts the training at the given step, counted over all seeds."""

    def progress(done: int, total: int) -> None:
        assert total == 14
        if done == number:
            raise Interrupted

    return progress


def test_two_processes_that_finish_a_seed_together_both_succeed(tmp_path, monkeypatch):
    folder = SeedFolder(tmp_path, TaskSpec(attention="sdpa", **SMALL), "", 0)
    result = SeedResult(scores={}, swapped=[], swapped_seconds=[], train_seconds=1, eval_seconds=1, steps=1)
    replace = Path.replace

    def after_the_other(part: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr(os, "getpid", lambda: 1)
        folder.finish(result)
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", after_the_other)
    folder.finish(result)
    assert folder.finished() == result


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (file,) = folder.glob("*/seed-1/checkpoint-7/model.safetensors")
    return load_file(file)


@pytest.mark.parametrize("attention", ["sdpa", "yoso"])
@pytest.mark.parametrize("at", [[1], [5], [7], [10], [3, 9, 14]])
def test_an_interrupted_training_resumes_to_the_same_bits(attention, at, tmp_path):
    spec = TaskSpec(attention=attention, evaluate_with=(Swap(attention="yoso", knobs={"num_hash": 4}),), **SMALL)
    whole = train(spec, checkpoints=tmp_path / "whole", save_seconds=0)
    for number in at:
        with pytest.raises(Interrupted):
            train(spec, interrupt_at(number), tmp_path / "parts", save_seconds=0)
    seen: list[int] = []
    resumed = train(spec, lambda done, _: seen.append(done), tmp_path / "parts", save_seconds=0)
    assert not seen or min(seen) >= at[-1], "the training started again from the beginning"
    assert resumed.scores == whole.scores
    assert resumed.evaluated_with[0].scores == whole.evaluated_with[0].scores
    assert resumed.steps == [7, 7]
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_finished_case_is_not_trained_again(tmp_path, monkeypatch):
    spec = TaskSpec(attention="sdpa", **SMALL)
    first = train(spec, checkpoints=tmp_path)
    monkeypatch.setattr("harness.training.trainer.Trainer.train", lambda *_, **__: pytest.fail("training started"))
    again = train(spec, checkpoints=tmp_path)
    assert again.model_copy(update={"train_memory": None}) == first.model_copy(update={"train_memory": None})


def test_only_the_same_training_is_resumed(tmp_path):
    spec = TaskSpec(attention="sdpa", **SMALL)
    train(spec, checkpoints=tmp_path)
    longer = spec.model_copy(update={"steps": 8})
    assert train(longer, checkpoints=tmp_path).steps == [8, 8]
    assert SeedFolder(tmp_path, spec, "other data", 0).finished() is None


def test_an_incomplete_checkpoint_is_skipped(tmp_path):
    folder = SeedFolder(tmp_path, TaskSpec(attention="sdpa", seq_len=32), "", 0)
    for step, complete in ((9, True), (10, True), (11, False)):
        (folder.path / f"checkpoint-{step}").mkdir()
        if complete:
            (folder.path / f"checkpoint-{step}" / "spent.json").write_text(f'{{"seconds": {step}.5}}')
    assert folder.last_checkpoint() == (folder.path / "checkpoint-10", 10.5)


def test_the_environment_variable_names_the_folder_of_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv(CHECKPOINTS, str(tmp_path))
    record = runner.run(TaskSpec(attention="sdpa", **SMALL), Selection().effort)
    assert record.status == "ok", record.reasons
    assert len(list(tmp_path.glob("*/seed-*/result.json"))) == 2


@pytest.mark.alone
def test_a_limit_of_seconds_ends_a_training_after_a_step(monkeypatch):
    spec = TaskSpec(attention="sdpa", seconds=0.5, **(SMALL | {"steps": 100_000, "seeds": 1}))
    start = time.perf_counter()
    result = train(spec)
    assert time.perf_counter() - start < 10
    assert 1 <= result.steps[0] < 100_000
    assert 0.5 < result.train_seconds[0] < 5
