"""How many hash collisions the rows of a trained model's YOSO attention expect.

A query's row of YOSO's weights is the probability that each key has its hash code, so the sum of the row times the
number of hashes is the expected number of collisions. A row that expects less than one often finds no key at all: what
sampling returns for it is noise. How many such rows there are is a property of the trained weights, whether the model
was trained with YOSO-E or with samples.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel, Trainer

from harness.core.spec import TaskSpec
from harness.measure.watched_attention import WatchedCall, watched
from harness.models import transformers_seam
from harness.tasks.task import LabelledSequences
from yoso.ops import reference

EXPECTATION_HASHES = 32
"""The number of hashes for which the rows of an attention without hashes, YOSO-E, are counted."""


def share_of_rows_below_one(
    spec: TaskSpec, trainer: Trainer, model: PreTrainedModel, examples: LabelledSequences
) -> float | None:
    """The share of rows that expect less than one collision, over all layers and heads and the real tokens of a batch.

    Args:
        spec: the case; its attention's knobs say how many hashes of how many bits there are.
        trainer: has trained the model.
        model: the trained model; its mode and torch's generator are unchanged afterwards.
        examples: the first batch of them is used.

    Returns:
        A number from 0 to 1. None if the attention has no hash code, or if the model does not look its attention up.
    """
    knobs = transformers_seam.layer_case(spec).knobs
    if "hash_code_len" not in knobs:
        return None
    was_training, generator = model.training, torch.get_rng_state()  # the data loader draws numbers, too
    batch = trainer._prepare_inputs(next(iter(trainer.get_eval_dataloader(examples))))
    model.eval()
    with torch.no_grad(), watched(model) as calls:
        model(**batch)
    model.train(was_training)
    torch.set_rng_state(generator)
    num_hash, hash_code_len = int(knobs.get("num_hash", EXPECTATION_HASHES)), int(knobs["hash_code_len"])
    below = torch.cat([expected_collisions(call, num_hash, hash_code_len) for call in calls]) < 1 if calls else None
    return None if below is None else below.double().mean().item()


def expected_collisions(call: WatchedCall, num_hash: int, hash_code_len: int) -> Tensor:
    """The expected number of collisions of every real query with all real keys, float32 ``[rows]``."""
    inputs = call.inputs()
    rows = []
    for example in range(len(inputs.q)):  # one at a time: the weights of all of them may not fit in memory
        q, k = (reference.unit(x[example].float()) for x in (inputs.q, inputs.k))
        real = slice(None) if inputs.key_padding_mask is None else inputs.key_padding_mask[example].bool()
        weights = reference.collision_probability(q[:, real] @ k[:, real].mT, hash_code_len)
        rows.append(num_hash * weights.sum(-1).flatten())
    return torch.cat(rows)
