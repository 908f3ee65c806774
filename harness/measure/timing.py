"""Time of a call as raw samples in seconds, without statistics."""

import gc
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, Protocol, TypeVar
from uuid import uuid4

import torch

from harness.core.record import Timing
from harness.core.spec import Effort
from harness.measure.clocks import ClockReader
from harness.measure.device_time import DeviceClock, Sample, is_long
from harness.measure.other_processes import CpuUse, foreign_gpu_processes
from harness.statistics.disturbance import Sampling, judged

Call = Callable[[], Any]
SampleType = TypeVar("SampleType")
Purpose = Literal["warm-up", "sample", "last sample"]
"""What calls are made for. The attention that is called must not learn it."""


@dataclass(frozen=True)
class Batch:
    """The calls of one sample, each ready to run. The result of the call at position ``kept`` is returned."""

    calls: list[Call]
    kept: int


class Calls(Protocol):
    """The calls that are timed. Each has inputs of its own, which are written before the clock starts."""

    most_per_sample: int
    """Most calls that can be ready at once."""

    def ready(self, count: int, purpose: Purpose) -> Batch:
        """The next ``count`` calls."""

    def returned(self, result: Any) -> None:
        """Take the result of the call that the last batch keeps, before any other call runs; not called in warm-up."""


PROCESS = uuid4().hex[:16]
"""The name of this process in its timings, by which records of one process are told from those of several. It is not
the process ID, which a later process may have again."""
SHORT_CALL_SECONDS = 5e-4
"""Shorter calls are grouped until a sample lasts this long: the clock and the loop then cost less than 0.1% of it.
Longer ones are a sample each, with inputs that were written just before. In a group those of the first call have left a
core's caches when the clock starts, which made a call of a millisecond 2% slower."""


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


def measure(calls: Calls, device: str, effort: Effort) -> Timing:
    """Sample ``calls``, with the garbage collector off.

    On CUDA the caches are flushed before every sample, and each sample has the device time, the host's time to submit,
    and the wall time until a synchronisation returned; see ``harness.measure.device_time``. On a CPU each sample has
    its wall time and its CPU time, and the timing says whether it was disturbed.

    Args:
        calls: what to time.
        device: where they run.
        effort: how long to warm up and to sample.
    """
    load = os.getloadavg()[0]
    with _garbage_collector_off(), ClockReader(device) as clocks:
        if torch.device(device).type == "cuda":
            foreign = foreign_gpu_processes(device)
            # Before the warm-up, so that its buffer lies next to the inputs and not in memory that the calls freed.
            clock = DeviceClock(device)
            warm = _warm_up(calls, device, effort)
            samples = _collect(lambda purpose: _cuda_sample(clock, calls, warm, purpose), effort)
            clocks_after = clocks.read()
            return Timing(
                wall_seconds=[sample.wall for sample in samples],
                device_seconds=[sample.device for sample in samples],
                submit_seconds=[sample.submit for sample in samples],
                warmup_calls=warm.calls,
                flushed_bytes=clock.flushed_bytes,
                load_before=load,
                foreign_gpu_processes=foreign,
                clocks=clocks_after,
                process=PROCESS,
            )
        warm = _warm_up(calls, device, effort)
        group = max(1, math.ceil(SHORT_CALL_SECONDS / warm.seconds)) if warm.seconds < SHORT_CALL_SECONDS else 1
        group = min(group, calls.most_per_sample)
        began, used_before = perf_counter(), CpuUse.now()
        cpu_samples = _collect(lambda purpose: _cpu_sample(calls, group, purpose), effort)
        used = CpuUse.now() - used_before
        sampling = Sampling(perf_counter() - began, used.seconds, used.involuntary_switches)
        clocks_after = clocks.read()
        timing = Timing(
            wall_seconds=[sample.wall for sample in cpu_samples],
            cpu_seconds=[sample.cpu for sample in cpu_samples],
            involuntary_switches=[sample.switches for sample in cpu_samples],
            warmup_calls=warm.calls,
            calls_per_sample=group,
            threads=torch.get_num_threads(),
            load_before=load,
            clocks=clocks_after,
            process=PROCESS,
        )
        return judged(timing, sampling)


def _collect(take: Callable[[Purpose], SampleType], effort: Effort) -> list[SampleType]:
    """Samples until there are enough."""
    began = perf_counter()
    samples: list[SampleType] = []
    is_last = False
    while not is_last:
        count = len(samples) + 1
        is_last = count >= effort.min_samples and (
            count >= effort.max_samples or perf_counter() - began >= effort.seconds
        )
        samples.append(take("last sample" if is_last else "sample"))
    return samples


def _warm_up(calls: Calls, device: str, effort: Effort) -> _WarmUp:
    began = perf_counter()
    count, quickest, submit = 0, math.inf, math.inf
    while count < effort.warmup_calls or perf_counter() - began < effort.warmup_seconds:
        (call,) = calls.ready(1, "warm-up").calls
        start = perf_counter()
        call()
        submit = min(submit, perf_counter() - start)
        _synchronize(device)
        quickest = min(quickest, perf_counter() - start)
        count += 1
    return _WarmUp(count, quickest, submit)


def _cpu_sample(calls: Calls, group: int, purpose: Purpose) -> _CpuSample:
    batch = calls.ready(group, purpose)
    before, kept, after = batch.calls[: batch.kept], batch.calls[batch.kept], batch.calls[batch.kept + 1 :]
    use_before = CpuUse.now()  # read while the clock is stopped: it takes a microsecond
    start = perf_counter()
    for call in before:
        call()
    result = kept()
    for call in after:
        call()
    seconds = perf_counter() - start
    used = CpuUse.now() - use_before
    calls.returned(result)
    return _CpuSample(seconds / group, used.seconds / group, used.involuntary_switches)


def _cuda_sample(clock: DeviceClock, calls: Calls, warm: _WarmUp, purpose: Purpose) -> Sample:
    count = 1 if is_long(warm.seconds) else 2
    batch = calls.ready(count, purpose)
    sample, results = clock.sample(batch.calls, warm.submit_seconds)
    calls.returned(results[batch.kept])
    return sample


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
