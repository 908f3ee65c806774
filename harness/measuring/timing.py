"""Time of a call: raw samples in seconds, no statistics."""

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from harness.record import Timing


@dataclass(frozen=True)
class Effort:
    """How long one case is sampled.

    At least ``min_samples`` are taken, then more until ``seconds`` are spent or ``max_samples`` are there. Before,
    the call is warmed up at least ``warmup_calls`` times and for ``warmup_seconds``.
    """

    min_samples: int
    max_samples: int
    seconds: float
    warmup_calls: int
    warmup_seconds: float


SHORT_CALL_SECONDS = 1e-3
"""Calls shorter than this are grouped until a sample lasts that long: the clock and the loop then cost under 0.1%."""


def measure(call: Callable[[], Any], device: str, effort: Effort) -> Timing:
    """Sample ``call``, with the garbage collector off.

    On CUDA every sample has two times: the device's, between two events around the calls, and the wall's, to the end
    of a synchronisation. On a CPU there is the wall's alone.
    """
    on_cuda = torch.device(device).type == "cuda"
    wall: list[float] = []
    on_device: list[float] = []
    with _collector_off():
        warmup_calls, seconds_a_call = _warm_up(call, device, effort)
        group = max(1, math.ceil(SHORT_CALL_SECONDS / seconds_a_call)) if seconds_a_call < SHORT_CALL_SECONDS else 1
        began = perf_counter()
        while len(wall) < effort.min_samples or (
            len(wall) < effort.max_samples and perf_counter() - began < effort.seconds
        ):
            if on_cuda:
                wall_seconds, device_seconds = _cuda_sample(call, group, device)
                on_device.append(device_seconds)
            else:
                wall_seconds = _cpu_sample(call, group)
            wall.append(wall_seconds)
    return Timing(
        wall_seconds=wall,
        device_seconds=on_device if on_cuda else None,
        warmup_calls=warmup_calls,
        calls_per_sample=group,
        threads=None if on_cuda else torch.get_num_threads(),
    )


def _warm_up(call: Callable[[], Any], device: str, effort: Effort) -> tuple[int, float]:
    """Calls made, and the seconds that the quickest took."""
    began = perf_counter()
    calls, quickest = 0, math.inf
    while calls < effort.warmup_calls or perf_counter() - began < effort.warmup_seconds:
        start = perf_counter()
        call()
        _synchronize(device)
        quickest = min(quickest, perf_counter() - start)
        calls += 1
    return calls, quickest


def _cpu_sample(call: Callable[[], Any], group: int) -> float:
    start = perf_counter()
    for _ in range(group):
        call()
    return (perf_counter() - start) / group


def _cuda_sample(call: Callable[[], Any], group: int, device: str) -> tuple[float, float]:
    with torch.cuda.device(device):  # events belong to the current device
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start = perf_counter()
        first.record()
        for _ in range(group):
            call()
        last.record()
        torch.cuda.synchronize()
        wall = perf_counter() - start
    return wall / group, first.elapsed_time(last) / 1e3 / group


def _synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _collector_off() -> Iterator[None]:
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
