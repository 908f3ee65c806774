"""An interrupted training is resumed to the same bits, and a limit of seconds ends a training."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cases import runner
from harness.core import registry
from harness.core.spec import Swap, TaskSpec
from harness.profiles.selection import Selection
from harness.training import CHECKPOINTS
from harness.training.checkpoints import SeedFolder, SeedResult
from harness.training.model_verification import Verification
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


DAMAGE = {
    "an empty spent.json": ("spent.json", b"", "spent.json is damaged"),
    "a cut off spent.json": ("spent.json", b'{"seco', "spent.json is damaged"),
    "no number of seconds": ("spent.json", b'{"seconds": NaN}', "spent.json is damaged"),
    "a cut off model": ("model.safetensors", None, "model.safetensors is damaged"),
    "an empty optimizer": ("optimizer.pt", b"", "optimizer.pt is damaged"),
    "a missing state": ("trainer_state.json", "missing", "trainer_state.json cannot be read"),
    "no spent.json": ("spent.json", "missing", "the training was interrupted while it was saved"),
}


def damage(checkpoint: Path, name: str, content: bytes | str | None) -> None:
    if content == "missing":
        (checkpoint / name).unlink()
    else:
        (checkpoint / name).write_bytes((checkpoint / name).read_bytes()[:-100] if content is None else content)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A training with two checkpoints, after steps 4 and 5, and the scores of the whole training."""
    spec = TaskSpec(attention="sdpa", **(SMALL | {"seeds": 1}))
    folder = tmp_path_factory.mktemp("interrupted")

    def progress(done: int, total: int) -> None:
        if done == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(spec, progress, folder, save_seconds=0)
    return spec, folder, train(spec).scores


@pytest.mark.parametrize("damaged", DAMAGE)
def test_a_damaged_checkpoint_is_replaced_by_the_one_before_it(interrupted, tmp_path, damaged):
    spec, folder, scores = interrupted
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    name, content, reason = DAMAGE[damaged]
    (newest,) = tmp_path.glob("*/seed-0/checkpoint-5")
    damage(newest, name, content)
    verification = Verification(registry.get("sdpa"), spec)
    seen: list[int] = []
    resumed = train(spec, lambda done, _: seen.append(done), tmp_path, save_seconds=0, verification=verification)
    assert min(seen) == 5
    assert resumed.scores == scores
    (finding,) = verification.findings
    assert f"seed 0: its training is resumed from checkpoint-4, and not from checkpoint-5 ({reason})" in finding


def test_if_no_checkpoint_is_whole_the_training_starts_from_the_beginning_and_says_so(interrupted, tmp_path, caplog):
    spec, folder, scores = interrupted
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for checkpoint in tmp_path.glob("*/seed-0/checkpoint-*"):
        damage(checkpoint, "model.safetensors", None)
    seen: list[int] = []
    assert train(spec, lambda done, _: seen.append(done), tmp_path, save_seconds=0).scores == scores
    assert min(seen) == 1
    assert "its training starts from the beginning: no checkpoint is whole, and not from checkpoint-5" in caplog.text


def test_a_damaged_result_is_trained_again_and_the_record_says_so(interrupted, tmp_path, monkeypatch):
    spec, folder, scores = interrupted
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (seed,) = tmp_path.glob("*/seed-0")
    (seed / "result.json").write_bytes(b"")
    monkeypatch.setenv(CHECKPOINTS, str(tmp_path))
    record = runner.run(spec, Selection().effort)
    assert record.status == "ok", record.reasons
    assert record.task is not None
    assert record.task.scores == scores
    (finding,) = record.findings
    assert "result.json cannot be read; it is trained again" in finding


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
