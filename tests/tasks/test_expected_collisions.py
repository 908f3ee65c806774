"""The share of rows that expect less than one hash collision, counted over the layers of a trained model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.core import registry
from harness.core.spec import TaskSpec
from harness.training.expected_collisions import share_of_rows_below_one
from harness.training.task_models import make_model
from harness.training.train import train
from harness.training.trainer import make_trainer

TINY: dict[str, Any] = {
    "task": "needle",
    "seq_len": 32,
    "seeds": 1,
    "steps": 2,
    "batch": 8,
    "train_examples": 16,
    "eval_examples": 16,
    "layers": 2,
    "hidden_size": 16,
}


def share(spec: TaskSpec, folder: Path, queries_to_keys: float | None = None, padded: int = 0) -> float | None:
    """The share for an untrained model, whose queries are its keys times a number if one is given."""
    task = registry.get_task(spec.task)
    model = make_model(spec, task, 0)
    for layer in model.modules():
        if queries_to_keys is not None and hasattr(layer, "query") and isinstance(layer.query, nn.Linear):
            with torch.no_grad():
                layer.query.weight.copy_(queries_to_keys * layer.key.weight)
    examples = task.dataset("eval", 16, spec.seq_len, 0)
    if padded:
        examples.attention_mask[:, -padded:] = 0
    trainer = make_trainer(spec, task, model, None, 0, str(folder))
    state, model_was_training = torch.get_rng_state(), model.training
    found = share_of_rows_below_one(spec, trainer, model, examples)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training == model_was_training
    return found


@pytest.mark.parametrize("attention", ["yoso", "yoso_e", "yoso_conv"])
def test_a_query_that_equals_its_key_always_collides_and_its_opposite_does_not(attention, tmp_path):
    spec = TaskSpec(attention=attention, knobs={"hash_code_len": 16}, **TINY)
    assert share(spec, tmp_path, queries_to_keys=1.0) == 0
    assert share(spec, tmp_path, queries_to_keys=-1.0) > 0.9


def test_more_hashes_leave_fewer_rows_and_more_bits_leave_more(tmp_path):
    shares = [
        share(TaskSpec(attention="yoso", knobs={"num_hash": m, "hash_code_len": tau}, **TINY), tmp_path)
        for m, tau in ((1, 8), (2, 8), (64, 8), (2, 12))
    ]
    assert shares[0] > shares[1] > shares[2]
    assert shares[3] > shares[1]


def test_padding_is_neither_query_nor_key(tmp_path):
    spec = TaskSpec(attention="yoso_e", **TINY)
    assert share(spec, tmp_path, -1.0, padded=28) > share(spec, tmp_path, -1.0)


@pytest.mark.parametrize(("attention", "counted"), [("yoso_e", True), ("sdpa", False), ("linear", False)])
def test_a_training_records_it_for_attentions_with_hashes_only(attention, counted):
    result = train(TaskSpec(attention=attention, **TINY | {"seeds": 2}))
    shares = result.rows_below_one_collision
    assert (shares is not None) == counted
    if shares is not None:
        assert len(shares) == 2
        assert all(0 <= value <= 1 for value in shares)
