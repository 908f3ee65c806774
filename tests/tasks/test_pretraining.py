"""Denoising before a training: no held-out example, no label, and the same bits after an interruption."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core import registry
from harness.core.spec import TaskSpec
from harness.tasks.task import IGNORED, LabelledSequences
from harness.training import pretraining
from harness.training import train as training
from harness.training.checkpoints import SeedFolder
from harness.training.pretraining import Denoising, Pretraining
from harness.training.task_models import make_model
from harness.training.train import train

TINY: dict[str, Any] = {
    "task": "needle",
    "seq_len": 16,
    "seeds": 1,
    "steps": 4,
    "batch": 8,
    "train_examples": 20,
    "eval_examples": 20,
    "layers": 1,
    "hidden_size": 16,
}


@pytest.mark.parametrize("name", ["needle", "digits", "choice_search"])
def test_a_share_of_the_real_tokens_is_masked_and_asked_for(name):
    task = registry.get_task(name)
    examples = task.dataset("train", 60, 70, 0)
    denoising = Denoising(task, examples)
    masked = denoising.checked_dataset("train", 60, 70, seed=3)
    original, real = examples.input_ids.flatten(0, -2), examples.attention_mask.flatten(0, -2).bool()
    at = masked.labels != IGNORED
    assert torch.equal(masked.input_ids == task.vocab_size, at)
    assert torch.equal(masked.labels[at], original[at].long())
    assert torch.equal(masked.input_ids[~at], original[~at])
    assert not at[~real].any()
    assert at.sum() / real.sum() == pytest.approx(0.15, abs=0.03)
    assert at.any(-1).all(), "a sequence has no masked token"
    assert torch.equal(masked.input_ids, denoising.dataset("train", 60, 70, 3).input_ids)
    assert not torch.equal(masked.input_ids, denoising.dataset("train", 60, 70, 4).input_ids)


@pytest.mark.parametrize("attention", ["sdpa", "linformer"])
def test_the_model_has_the_weights_of_the_encoder_and_its_own_head(attention, tmp_path):
    spec = TaskSpec(attention=attention, pretrain_steps=3, **TINY)
    task = registry.get_task("needle")
    data = training._data_of(spec)
    model, before = (make_model(spec, task, 0) for _ in range(2))
    Pretraining(spec, SeedFolder(tmp_path, spec, data.sha256, 0), data.sha256, 0).run(task, data.train, model, None)
    changed = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before.state_dict()[name])
    }
    assert not any(name.startswith("classifier") for name in changed)
    assert "yoso.embeddings.word_embeddings.weight" in changed
    assert any("attention.self.query" in name for name in changed)
    assert any("linformer" in name for name in changed) == (attention == "linformer")


class Interrupted(Exception):
    """Stands for the end of the process."""


def test_an_interruption_in_either_part_changes_no_bit(tmp_path, monkeypatch):
    spec = TaskSpec(attention="yoso", pretrain_steps=5, **TINY)
    whole = train(spec, checkpoints=tmp_path / "whole", save_seconds=0)
    assert len(whole.pretrain_seconds) == 1
    ended: list[int] = []

    class EndsAt(pretraining.SavePeriodically):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3 and not ended:
                ended.append(3)
                raise Interrupted

    monkeypatch.setattr(pretraining, "SavePeriodically", EndsAt)
    with pytest.raises(Interrupted):
        train(spec, checkpoints=tmp_path / "parts", save_seconds=0)

    def progress(done: int, total: int) -> None:
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(spec, progress, tmp_path / "parts", save_seconds=0)
    monkeypatch.setattr(pretraining.Pretraining, "run", lambda *_: pytest.fail("it was pretrained again"))
    resumed = train(spec, checkpoints=tmp_path / "parts", save_seconds=0)
    assert resumed.scores == whole.scores
    assert len(resumed.pretrain_seconds) == 1
    a, b = (last_weights(tmp_path / part) for part in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (file,) = folder.glob("*/seed-0/checkpoint-4/model.safetensors")
    return load_file(file)


def test_no_held_out_example_is_read(monkeypatch):
    seen: list[LabelledSequences] = []
    original = Denoising.__init__

    def watched(self: Denoising, task: Any, examples: LabelledSequences) -> None:
        seen.append(examples)
        original(self, task, examples)

    monkeypatch.setattr(Denoising, "__init__", watched)
    spec = TaskSpec(attention="none", pretrain_steps=1, **TINY)
    train(spec)
    (examples,) = seen
    assert examples is training._data_of(spec).train


def test_a_model_without_the_head_is_refused():
    spec = TaskSpec(attention="sdpa", family="lra", pretrain_steps=1, **TINY)
    with pytest.raises(ValueError, match="pretrain_steps: family 'lra' has no masked-LM head, got 1 steps; use family"):
        train(spec)


def test_the_case_says_so_and_a_case_without_it_has_no_such_seconds():
    assert "pretrain7" in TaskSpec(attention="sdpa", pretrain_steps=7, **TINY).case_id
    plain = TaskSpec(attention="none", **TINY)
    assert "pretrain" not in plain.case_id
    assert train(plain).pretrain_seconds == []
