"""The largest batch of a model case that fits in the device's memory, a power of two."""

from collections.abc import Callable

import torch

from harness.attentions.shared.capacity import available_bytes
from harness.core.spec import ModelSpec
from harness.measure import memory
from harness.models import model_case

LIMIT = 2**14
"""Sequences. A larger batch does not use any device better."""


def find(spec: ModelSpec) -> int:
    """The batch, at least 1. Whether one sequence fits is left to the measurement itself.

    On CUDA the batch is doubled until memory runs out, as in the YOSO paper's protocol. On a CPU a process that runs
    out of memory is killed, so the need of a batch is extrapolated from the peaks at one and two sequences; those two
    must fit without swapping.
    """
    fits = _fits_when_run(spec) if torch.device(spec.device).type == "cuda" else _fits_by_extrapolation(spec)
    batch = 1
    while batch < LIMIT and fits(2 * batch):
        batch *= 2
    return batch


def _fits_when_run(spec: ModelSpec) -> Callable[[int], bool]:
    def fits(batch: int) -> bool:
        try:
            model_case.build(spec.model_copy(update={"batch": batch})).call()
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return True

    return fits


def _fits_by_extrapolation(spec: ModelSpec) -> Callable[[int], bool]:
    one, two = (_peak_bytes(spec, batch) for batch in (1, 2))
    available = available_bytes(spec.device)
    return lambda batch: one + (batch - 1) * max(two - one, 1) <= available


def _peak_bytes(spec: ModelSpec, batch: int) -> int:
    built = model_case.build(spec.model_copy(update={"batch": batch}))
    built.call()  # the first step allocates AdamW's state, which is then part of every step
    peak = memory.peak(built.call, spec.device, built.held)
    return peak.peak_bytes + peak.input_bytes
