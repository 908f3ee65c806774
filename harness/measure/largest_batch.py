"""The largest batch of a model case that fits in the device's memory, a power of two."""

from collections.abc import Callable

import torch

from harness.attentions.shared.capacity import available_bytes
from harness.core.spec import ModelSpec
from harness.measure import memory
from harness.models import model_case

LIMIT = 2**14
"""Sequences; a batch beyond this fills no device any better."""


def find(spec: ModelSpec) -> int:
    """The batch, at least 1; whether one sequence fits is left to the measurement itself.

    On CUDA it is doubled until the memory is out, as in the YOSO paper's protocol. On a CPU a process that runs out of
    memory is killed, so what a batch needs is foreseen from the peaks at one and two sequences; both must be known
    before anything swaps.
    """
    fits = _runs(spec) if torch.device(spec.device).type == "cuda" else _foreseen(spec)
    batch = 1
    while batch < LIMIT and fits(2 * batch):
        batch *= 2
    return batch


def _runs(spec: ModelSpec) -> Callable[[int], bool]:
    def fits(batch: int) -> bool:
        try:
            model_case.build(spec.model_copy(update={"batch": batch})).call()
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return True

    return fits


def _foreseen(spec: ModelSpec) -> Callable[[int], bool]:
    one, two = (_peak_bytes(spec, batch) for batch in (1, 2))
    available = available_bytes(spec.device)
    return lambda batch: one + (batch - 1) * max(two - one, 1) <= available


def _peak_bytes(spec: ModelSpec, batch: int) -> int:
    built = model_case.build(spec.model_copy(update={"batch": batch}))
    built.call()  # AdamW's state is there from the second step on
    found = memory.peak(built.call, spec.device, built.held)
    return found.peak_bytes + found.input_bytes
