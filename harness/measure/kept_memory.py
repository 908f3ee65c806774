"""Memory that stays allocated between calls: workspace that a module keeps, and a leak.

The peak of a call is counted above what was there before it. Scratch memory that was allocated when the module was
built, or by an earlier call, is therefore in no peak, although its user pays for it.
"""

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from timeit import timeit
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.measure.memory import LiveAllocations, storage_bytes
from yoso.torch_private import clear_cublas_workspaces

FIRST_CALLS = 2
"""What they leave allocated is kept memory. Two, because a module may use two buffers in turn."""
FURTHER_CALLS = 2
"""What they leave allocated in addition is growth."""
LONG_CALL_SECONDS = 0.1
"""A longer call is made twice instead of six times, which would take longer than its timing."""


@dataclass(frozen=True)
class KeptMemory:
    """Bytes after the first calls without the module's parameters, and by how many they grow with each further call.

    The growth is None where a call takes longer than ``LONG_CALL_SECONDS``, and NumPy's memory is then not counted.
    """

    kept_bytes: int
    growth_bytes: int | None


def measure(build: Callable[[], nn.Module], call: Callable[[nn.Module, int], Any], device: str) -> KeptMemory:
    """Build modules and call them, and count what stays allocated.

    They must be the first modules of their case in the process: a buffer that all modules share and that was allocated
    earlier is not counted. Torch's memory and NumPy's are counted, but not what a native library allocates by itself,
    and no NumPy array that all modules share.

    Args:
        build: makes a module.
        call: calls it with inputs of its own, which it allocates and releases; the number of the call, from 0, selects
            their values, so that a result that is kept for each input is found.
        device: where the module allocates.
    """
    modules: list[nn.Module] = []

    def first_calls() -> None:
        modules[:] = [build()]  # in the recording, so that the release of the first module is counted
        for number in range(FIRST_CALLS):
            call(modules[0], number)

    def kept(allocated: int) -> int:
        return max(allocated - storage_bytes(modules[0].parameters()), 0)

    with _Counter(device) as counter:
        # Another module is built and called first, because compilers and imports would take twice as long while NumPy's
        # memory is traced. What it leaves behind counts.
        modules.append(build())
        counter.bytes_after(lambda: call(modules[0], 0))
        seconds: list[float] = []
        allocated = counter.bytes_after(lambda: seconds.append(timeit(lambda: call(modules[0], 1), number=1)))
        if seconds[0] > LONG_CALL_SECONDS:
            return KeptMemory(kept(allocated), None)
        counter.trace_numpy()
        first = counter.bytes_after(first_calls)
        last = counter.bytes_after(lambda: _further_calls(lambda number: call(modules[0], number)))
        return KeptMemory(kept(first), _per_call(last - first))


def growth_bytes(call: Callable[[], Any], device: str) -> int | None:
    """By how many bytes the allocated memory grows with each call. ``call`` has been called before.

    None where it takes longer than ``LONG_CALL_SECONDS``.
    """

    def first_calls() -> None:
        for _ in range(FIRST_CALLS):
            call()

    if timeit(call, number=1) > LONG_CALL_SECONDS:
        return None
    with _Counter(device) as counter:
        counter.trace_numpy()
        first = counter.bytes_after(first_calls)
        last = counter.bytes_after(lambda: _further_calls(lambda _: call()))
    return _per_call(last - first)


def _further_calls(call: Callable[[int], Any]) -> None:
    for number in range(FIRST_CALLS, FIRST_CALLS + FURTHER_CALLS):
        call(number)


def _per_call(growth: int) -> int:
    return int(growth / FURTHER_CALLS)


class _Counter:
    """Counts what torch has allocated since it was entered, and NumPy since ``trace_numpy``, and not released yet."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._on_cuda = torch.device(device).type == "cuda"
        self._live = LiveAllocations()
        self._traces = self._was_tracing = tracemalloc.is_tracing()

    def __enter__(self) -> "_Counter":
        # A collection then looks at new objects only: it takes half a second for those of transformers. A process that
        # has frozen its objects itself keeps them so.
        self._freezes = gc.get_freeze_count() == 0
        if self._freezes:
            gc.freeze()
        self._before = self._device_bytes() + self._numpy_bytes()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._freezes:
            gc.unfreeze()
        if self._traces and not self._was_tracing:
            tracemalloc.stop()

    def trace_numpy(self) -> None:
        """Count NumPy's arrays from now on."""
        tracemalloc.start()
        self._traces = True

    def bytes_after(self, calls: Callable[[], None]) -> int:
        """Run ``calls``, collect garbage, and count."""

        def run() -> None:
            calls()
            gc.collect()  # inside the recording, which would otherwise miss the releases

        if self._on_cuda:
            run()
        else:
            self._live.record(run)
        return self._live.bytes + self._device_bytes() + self._numpy_bytes() - self._before

    def _device_bytes(self) -> int:
        if not self._on_cuda:
            return 0
        torch.cuda.synchronize(self._device)
        clear_cublas_workspaces()  # they belong to the process; the first matrix product allocates them
        return torch.cuda.memory_allocated(self._device)

    def _numpy_bytes(self) -> int:
        if not self._traces:
            return 0
        # Of all that tracemalloc counts, only NumPy's arrays: Python objects that a call keeps are not workspace.
        arrays = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([arrays]).traces)
