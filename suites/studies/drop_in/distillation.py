"""The distillation of one student, and its comparison with the teacher before, during and after it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel

from harness.core.spec import Swap
from suites.studies.drop_in import swapped_attention
from suites.studies.drop_in.pretrained import Pretrained, States, hidden_loss, hidden_states, layer_cosines
from suites.studies.drop_in.results import Comparison, Outcome, Settings

WARMUP = 10
"""Steps in which the learning rate rises. From the first step it also falls in a line, to 0 after the last."""
EPSILON = 1e-6
"""Adam's. With 1e-8, a student that already equals its teacher would follow the rounding of its gradients."""
MAX_NORM = 1.0
"""Of the gradient. The length of Adam's steps is the learning rate, however small the gradient: a student that equals
its teacher leaves it by that much, and comes back as the rate falls."""


class NotFinite(ValueError):
    """The student's loss or hidden states became NaN or infinite."""


def distil(swap: Swap, original: Pretrained, wanted: list[States], settings: Settings) -> Outcome:
    """One attention in one model: its comparison at every recorded step, or why it has none.

    All weights are trained, without dropout. The training texts and their order depend on the seed only, so all
    attentions see the same. A student is compared with the same random numbers at every step.

    Args:
        swap: the attention and its knobs.
        original: the pretrained model.
        wanted: the original's hidden states of its held-out batches.
        settings: steps, learning rate, batch and seed.
    """
    began = time.monotonic()
    fields: dict[str, Any] = {"model": original.name, "attention": swap.attention, "knobs": swap.knobs}
    reason = swapped_attention.reason_against(swap, original.model, original.longest)
    if reason is not None:
        return Outcome(**fields, status="unsupported", reason=reason)
    knobs = swapped_attention.all_knobs(swap, original.model, original.longest)
    student = swapped_attention.make_student(swap, original.model, original.longest)
    comparisons: list[Comparison] = []
    failed = None
    try:
        with _own_random_numbers(settings.seed):
            for comparison in _comparisons(student, original, wanted, settings):
                comparisons.append(comparison)
    except NotFinite as error:
        failed = str(error)
    return Outcome(
        **fields,
        all_knobs=knobs,
        status="ok" if failed is None else "diverged",
        reason=failed,
        comparisons=comparisons,
        seconds=time.monotonic() - began,
    )


def learning_rate(settings: Settings, done: int) -> float:
    """The learning rate of the step after ``done`` steps."""
    return settings.learning_rate * min(1.0, (done + 1) / WARMUP) * (1 - done / settings.steps)


def original_states(original: Pretrained) -> list[States]:
    """The original's hidden states of its held-out batches."""
    with torch.no_grad():
        return [hidden_states(original.model, batch) for batch in original.held_out]


def _comparisons(
    student: PreTrainedModel, original: Pretrained, wanted: list[States], settings: Settings
) -> Iterator[Comparison]:
    seconds = 0.0
    steps = _steps(student, original, settings)
    done = 0
    for step in settings.recorded_steps:
        start = time.monotonic()
        while done < step:
            done = next(steps)
        seconds += time.monotonic() - start
        yield _compare(student, original, wanted, settings.seed, step, seconds)


def _compare(
    student: PreTrainedModel, original: Pretrained, wanted: list[States], seed: int, step: int, seconds: float
) -> Comparison:
    with _own_random_numbers(seed), torch.no_grad():
        found = [hidden_states(student, batch) for batch in original.held_out]
        if not all(state.isfinite().all() for states in found for state in states):
            raise NotFinite(f"the hidden states after step {step} are not finite")
        return Comparison(
            step=step,
            train_seconds=seconds,
            layer_cosine=layer_cosines(found, wanted, original.held_out),
            agreement=original.agreement(student, found, wanted),
        )


def _steps(student: PreTrainedModel, original: Pretrained, settings: Settings) -> Iterator[int]:
    """Train step by step; yields the number of steps that are done."""
    rng = np.random.default_rng(settings.seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings.learning_rate, eps=EPSILON, weight_decay=0.0)
    for done in range(settings.steps):
        batch = original.training_batch(rng, settings.batch)
        with torch.no_grad():
            target = hidden_states(original.model, batch)
        found = hidden_states(student, batch)
        loss = hidden_loss(found, target, batch) + original.output_loss(student, found, target, batch)
        if not loss.isfinite():
            raise NotFinite(f"the loss of step {done + 1} is {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(student.parameters(), MAX_NORM)
        optimizer.param_groups[0]["lr"] = learning_rate(settings, done)
        optimizer.step()
        yield done + 1


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """Torch's CPU generator starts from the seed inside, and goes on outside as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
