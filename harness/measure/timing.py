"""Time of a call as raw samples in seconds, without statistics."""

import gc
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter
from typing import Any, TypeVar

import torch

from harness.core.record import Timing
from harness.core.spec import Effort
from harness.measure.device_time import DeviceClock
from harness.measure.neighbours import CpuUse, foreign_gpu_processes
from harness.statistics import disturbance

Call = Callable[[], Any]
SampleType = TypeVar("SampleType")


SHORT_CALL_SECONDS = 1e-3
"""Shorter calls are grouped until a sample lasts this long: the clock and the loop then cost less than 0.1% of it."""


@dataclass(frozen=True)
class _CpuSample:
    """Seconds per call: until it returned, and of CPU time; and the involuntary switches of the whole sample."""

    wall: float
    cpu: float
    switches: int


@dataclass(frozen=True)
class _WarmUp:
    """The number of warm-up calls, and the quickest one's seconds: until it finished, and until it returned."""

    calls: int
    seconds: float
    submit_seconds: float


def measure(call: Call, device: str, effort: Effort, others: Sequence[Call] = ()) -> Timing:
    """Sample ``call``, with the garbage collector off.

    On CUDA the caches are flushed before every sample, and each sample has the device time, the host's time to submit,
    and the wall time until a synchronisation returned; see ``harness.measure.device_time``. On a CPU each sample has
    its wall time and its CPU time, and the timing says whether it was disturbed.

    Args:
        call: what to time.
        device: where it runs.
        effort: how long to warm up and to sample.
        others: the same call on other inputs of the same size; the samples take all calls in turn.
    """
    load = os.getloadavg()[0]
    on_cuda = torch.device(device).type == "cuda"
    turns = cycle([call, *others])
    with _garbage_collector_off():
        # Created before the warm-up, so that its buffer lies next to the inputs and not in memory that the calls freed.
        clock = DeviceClock(device) if on_cuda else None
        warm = _warm_up(turns, device, effort, at_least=1 + len(others) if on_cuda else 0)
        if clock is not None:
            foreign = foreign_gpu_processes(device)
            samples = _collect(lambda: clock.sample(next(turns), warm.submit_seconds, warm.seconds), effort)
            return Timing(
                wall_seconds=[sample.wall for sample in samples],
                device_seconds=[sample.device for sample in samples],
                submit_seconds=[sample.submit for sample in samples],
                warmup_calls=warm.calls,
                flushed_bytes=clock.flushed_bytes,
                input_sets=1 + len(others),
                load_before=load,
                foreign_gpu_processes=foreign,
            )
        group = max(1, math.ceil(SHORT_CALL_SECONDS / warm.seconds)) if warm.seconds < SHORT_CALL_SECONDS else 1
        cpu_samples = _collect(lambda: _cpu_sample(turns, group), effort)
        timing = Timing(
            wall_seconds=[sample.wall for sample in cpu_samples],
            cpu_seconds=[sample.cpu for sample in cpu_samples],
            involuntary_switches=[sample.switches for sample in cpu_samples],
            warmup_calls=warm.calls,
            calls_per_sample=group,
            threads=torch.get_num_threads(),
            input_sets=1 + len(others),
            load_before=load,
        )
        return disturbance.judged(timing)


def _collect(take: Callable[[], SampleType], effort: Effort) -> list[SampleType]:
    began = perf_counter()
    samples: list[SampleType] = []
    while len(samples) < effort.min_samples or (
        len(samples) < effort.max_samples and perf_counter() - began < effort.seconds
    ):
        samples.append(take())
    return samples


def _warm_up(turns: Iterator[Call], device: str, effort: Effort, at_least: int) -> _WarmUp:
    began = perf_counter()
    calls, quickest, submit = 0, math.inf, math.inf
    while calls < max(effort.warmup_calls, at_least) or perf_counter() - began < effort.warmup_seconds:
        call = next(turns)
        start = perf_counter()
        call()
        submit = min(submit, perf_counter() - start)
        _synchronize(device)
        quickest = min(quickest, perf_counter() - start)
        calls += 1
    return _WarmUp(calls, quickest, submit)


def _cpu_sample(turns: Iterator[Call], group: int) -> _CpuSample:
    before = CpuUse.now()  # read while the clock is stopped: it takes a microsecond
    start = perf_counter()
    for _ in range(group):
        next(turns)()
    seconds = perf_counter() - start
    used = CpuUse.now() - before
    return _CpuSample(seconds / group, used.seconds / group, used.involuntary_switches)


def _synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _garbage_collector_off() -> Iterator[None]:
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
