"""Attentions that have weights, in measured models and in trained tasks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from harness.attentions.linformer import LinformerPlugin
from harness.cases import runner
from harness.core import registry
from harness.core.spec import Effort, ModelSpec, Swap, TaskSpec
from harness.measure import largest_batch, model_agreement
from harness.models import model_case, transformers_seam
from harness.profiles import paper
from harness.tasks.listops import ListOps
from harness.training.task_models import make_model
from harness.training.train import train

EFFORT = Effort(min_samples=2, max_samples=2, seconds=0.0, warmup_calls=0, warmup_seconds=0.0)
WEIGHTED: dict[str, dict[str, Any]] = {
    "linformer": {"projected_length": 8},
    "nystromformer": {"num_landmarks": 8, "conv_kernel": 3},
    "yoso_conv": {"num_hash": 4, "conv_window": 5},
}
PARAMETERS = {"linformer": 2 * 2 * 8 * 24, "nystromformer": 2 * 3, "yoso_conv": 2 * 5}
"""Number of weights in the attention of one layer, with two heads at 24 tokens."""
SIZES: dict[str, Any] = {"seq_len": 24, "layers": 2, "hidden_size": 16, "heads": 2}


def model_spec(attention: str = "linformer", **changes: Any) -> ModelSpec:
    fields = {"attention": attention, "knobs": WEIGHTED.get(attention, {}), "vocab_size": 40, "batch": 2}
    return ModelSpec.model_validate(SIZES | fields | changes)


def task_spec(attention: str = "linformer", **changes: Any) -> TaskSpec:
    budget = {"seeds": 1, "steps": 3, "batch": 8, "train_examples": 20, "eval_examples": 20}
    return TaskSpec.model_validate(
        SIZES | budget | {"attention": attention, "knobs": WEIGHTED.get(attention, {})} | changes
    )


def split(model: nn.Module, attention: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The weights of the model without its attentions, and those of its attentions."""
    state = model.state_dict()
    of_attentions = {name: tensor for name, tensor in state.items() if f".{attention}." in name}
    return {name: tensor for name, tensor in state.items() if name not in of_attentions}, of_attentions


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("attention", WEIGHTED)
@pytest.mark.parametrize(
    ("family", "head"), [("yoso", "encoder"), ("bert", "masked_lm"), ("lra", "sequence_classification")]
)
@pytest.mark.parametrize(("mode", "dtype"), [("forward", "bfloat16"), ("training_step", "float32")])
def test_a_model_case_runs_verified_and_counts_the_weights(attention, family, head, mode, dtype):
    spec = model_spec(attention, family=family, head=head, mode=mode, dtype=dtype)
    record = runner.run(spec, EFFORT)
    assert (record.status, record.reasons) == ("ok", [])
    layers = 1 if family == "lra" else 2  # its layers share their weights
    assert "layers: output" in {check.what for check in record.checks}
    without = model_case.build(spec.model_copy(update={"attention": "none", "knobs": {}})).parameters
    assert record.parameters == without + layers * PARAMETERS[attention]
    assert record.conditions.parameters == record.parameters


@pytest.mark.parametrize("seq_len", [1, 7, 200])
@pytest.mark.parametrize("attention", WEIGHTED)
def test_a_correct_attention_passes_the_verification_at_any_length(attention, seq_len):
    for seed in range(3):
        case = model_case.build(spec := model_spec(attention, seq_len=seq_len, seed=seed, head="multiple_choice"))
        checks = model_agreement.check(registry.get(attention), spec, case)
        assert [check for check in checks if not check.passed] == []


class Shifted(LinformerPlugin):
    """Linformer whose weights differ from those of its oracle."""

    name = "shifted"

    def build(self, spec):
        module = super().build(spec)
        module.value_projection.data.mul_(1.01)
        return module


@pytest.fixture
def shifted() -> Iterator[None]:
    registry.add(Shifted())
    yield
    registry.remove("shifted")


def test_weights_that_differ_from_the_oracles_are_incorrect(shifted):
    record = runner.run(model_spec("shifted", knobs={"projected_length": 8}), EFFORT)
    assert record.status == "incorrect"
    failed = [check for check in record.checks if not check.passed]
    assert {check.what.partition(",")[0] for check in failed} == {"layers: output"}
    assert {check.where.partition(",")[0] for check in failed} == {"layer 1 of 2", "layer 2 of 2"}


def test_a_layer_whose_attention_does_not_run_is_incorrect():
    spec = model_spec()
    built = model_case.build(spec)
    idle = transformers_seam.LayerAttention(nn.Identity(), built.attentions[0].case)
    checks = model_agreement.check(
        registry.get("linformer"), spec, replace(built, attentions=[*built.attentions, idle])
    )
    (failed,) = [check for check in checks if not check.passed]
    assert "did not run" in failed.what
    assert failed.error == pytest.approx(1 / 3)


@pytest.mark.parametrize("attention", WEIGHTED)
@pytest.mark.parametrize("family", ["yoso", "lra"])
def test_the_weights_outside_the_attention_are_the_same_for_every_attention(attention, family):
    head = "sequence_classification"
    rest, weights = split(model_case.build(model_spec(attention, family=family, head=head)).model, attention)
    plain = model_case.build(model_spec("sdpa", family=family, head=head)).model.state_dict()
    assert equal(rest, dict(plain))
    assert weights
    task_rest, task_weights = split(make_model(task_spec(attention, family=family), ListOps(), 3), attention)
    assert equal(task_rest, dict(make_model(task_spec("sdpa", family=family), ListOps(), 3).state_dict()))
    # The layers of a measured LRA model share their weights; those of a trained one do not.
    assert len(task_weights) == len(weights) * (2 if family == "lra" else 1)


@pytest.mark.parametrize("attention", WEIGHTED)
def test_the_weights_come_from_the_seed_and_differ_from_layer_to_layer(attention):
    first, same, other = (split(make_model(task_spec(attention), ListOps(), s), attention)[1] for s in (3, 3, 4))
    assert equal(first, same)
    assert all(not torch.equal(first[name], other[name]) for name in first)
    built = [layer for seed in (0, 1) for layer in model_case.build(model_spec(attention, seed=seed)).attentions]
    weights = [next(layer.module.parameters()) for layer in built]
    assert len(weights) == 4
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


@pytest.mark.parametrize("attention", WEIGHTED)
def test_a_training_step_changes_the_weights_of_the_attention(attention):
    case = model_case.build(model_spec(attention, mode="training_step"))
    before = {name: tensor.clone() for name, tensor in split(case.model, attention)[1].items()}
    case.call()
    assert all(not torch.equal(tensor, before[name]) for name, tensor in split(case.model, attention)[1].items())


def test_the_conv_window_of_an_attention_gives_the_model_no_convolution():
    case = model_case.build(model_spec("yoso_conv"))
    assert case.model.config.conv_window is None
    assert all(getattr(part, "conv", None) is None for part in case.model.modules())
    assert {layer.module.convolution.weight.shape[2] for layer in case.attentions} == {5}


def test_a_convolution_in_the_model_and_in_the_attention_is_refused():
    record = runner.run(model_spec("yoso_conv", conv_window=3), EFFORT)
    assert record.status == "unsupported"
    assert "the model already has its own convolution of 3 tokens; use attention 'yoso' in it" in record.reasons[0]


def test_knobs_that_the_attention_refuses_are_the_reason():
    assert runner.run(model_spec(knobs={"projected_length": 0}), EFFORT).status == "unsupported"
    with pytest.raises(ValueError, match="'linformer' cannot run here: projected_length must be at least 1, got 0"):
        make_model(task_spec(knobs={"projected_length": 0}), ListOps(), 0)


def test_linformer_of_the_paper_profile_runs_at_both_batches(monkeypatch):
    monkeypatch.setattr(largest_batch, "LIMIT", 2)
    specs = [spec for spec in paper.model("cpu") if spec.attention == "linformer" and spec.seq_len == 128]
    records = [runner.run(spec, EFFORT) for spec in specs]
    assert [(record.status, record.reasons, record.batch) for record in records] == [("ok", [], None), ("ok", [], 2)]
    assert records[0].parameters == records[1].parameters


class Interrupted(Exception):
    """Replaces the ``KeyboardInterrupt`` of a user's Ctrl-C."""


def interrupted(done: int, _: int) -> None:
    if done == 2:
        raise Interrupted


RESUMED = [
    ("linformer", {"projected_length": 8, "sharing": "key_value"}, "yoso"),
    ("nystromformer", WEIGHTED["nystromformer"], "lra"),
    ("yoso_conv", WEIGHTED["yoso_conv"], "yoso"),
]


@pytest.mark.parametrize(("attention", "knobs", "family"), RESUMED)
def test_an_interrupted_training_resumes_to_the_same_bits(attention, knobs, family, tmp_path):
    spec = task_spec(attention, knobs=knobs, family=family, evaluate_with=[Swap(attention=attention, knobs=knobs)])
    whole = train(spec, checkpoints=tmp_path / "whole", save_seconds=0)
    with pytest.raises(Interrupted):
        train(spec, interrupted, tmp_path / "parts", save_seconds=0)
    steps: list[int] = []
    resumed = train(spec, lambda done, _: steps.append(done), tmp_path / "parts", save_seconds=0)
    assert steps == [2, 3], "it resumes from the checkpoint of step 1, because step 2 was interrupted before its own"
    assert resumed.scores == whole.scores == whole.evaluated_with[0].scores
    trained, resumed_weights = (load_file(last(tmp_path / name)) for name in ("whole", "parts"))
    assert equal(trained, resumed_weights)
    start = make_model(spec, ListOps(), 0)
    saved = {name: tensor for name, tensor in split(start, attention)[1].items() if name in trained}
    assert saved
    assert all(not torch.equal(trained[name], tensor) for name, tensor in saved.items()), "they were not trained"
    plain = make_model(task_spec("sdpa", family=family), ListOps(), 0)
    count = sum(parameter.numel() for parameter in plain.parameters())
    assert whole.parameters == sum(parameter.numel() for parameter in start.parameters()) > count


def last(folder: Path) -> Path:
    """The weights in the last checkpoint."""
    (file,) = folder.glob("*/seed-0/checkpoint-3/model.safetensors")
    return file


def test_a_swap_runs_if_the_model_has_its_weights_and_else_gives_the_reason():
    swaps = (
        Swap(attention="softmax"),
        Swap(attention="nystromformer", knobs={"num_landmarks": 4, "conv_kernel": 3}),
        Swap(attention="nystromformer", knobs={"conv_kernel": 5}),
        Swap(attention="nystromformer", knobs={"num_landmarks": 4}),
        Swap(attention="linformer"),
    )
    result = train(task_spec("nystromformer", evaluate_with=swaps))
    assert [swapped.reason for swapped in result.evaluated_with] == [
        None,
        None,
        "with these knobs nystromformer has the weights conv_weight [2, 1, 5, 1]; "
        "the model was trained with conv_weight [2, 1, 3, 1]",
        None,
        "linformer has weights of its own, and a model trained with nystromformer does not have them",
    ]
    assert [len(swapped.scores) for swapped in result.evaluated_with] == [1, 1, 0, 1, 0]
    plain = train(task_spec("nystromformer", knobs={}, evaluate_with=[swaps[1]]))
    (swapped,) = plain.evaluated_with
    assert swapped.reason is not None
    assert swapped.reason.endswith("the model was trained with none")


def test_a_swap_to_an_attention_with_weights_is_refused_in_a_model_without():
    (swapped,) = train(task_spec("sdpa", evaluate_with=[Swap(attention="linformer")])).evaluated_with
    assert swapped.scores == []
    assert swapped.reason == "linformer has weights of its own, and a model trained with sdpa does not have them"


def test_a_swap_whose_knobs_are_refused_gives_the_reason():
    swap = Swap(attention="yoso", knobs={"num_hash": 0})
    (swapped,) = train(task_spec("sdpa", evaluate_with=[swap])).evaluated_with
    assert swapped.scores == []
    assert "num_hash" in str(swapped.reason)
