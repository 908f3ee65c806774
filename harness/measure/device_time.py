"""Time on a CUDA device: cold caches, the device's own clock, and the host's beside it.

One sample is two calls. The first is timed by the device, between two events, behind work that keeps the device busy
while the host submits the call: so the kernels run one after the other, as they would in a model that is ahead of its
host. The second is timed by the host on an idle device: how long it took to submit, and until all was done. Where the
first number is below the second's submission, the device waits for the host, and the case is launch-bound.
"""

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import torch

FLUSH_FACTOR = 2
"""The flush writes this many times the L2 cache, so that nothing of it stays whatever the replacement policy."""
LEAST_FLUSH_BYTES = 2**26
LONG_CALL_SECONDS = 20e-3
"""From here on one call gives both times: the microseconds before its first kernel starts are under 0.1% of it."""
LEAD = 4
"""Times the host's quickest submission that the device is kept busy: after a wait the host takes up to three times as
long as then, and where the device catches up with it, the gap counts as the device's time."""
MOST_FLUSHES = 200


class Sample(NamedTuple):
    """Seconds of one call."""

    wall: float
    device: float
    submit: float


class DeviceClock:
    """Takes samples on one CUDA device.

    Args:
        device: a CUDA device.
        cuda: ``torch.cuda``, or in a test what stands in for it.
        buffer: what the flush writes; None: a new one of ``flushed_bytes``.
    """

    def __init__(self, device: str, cuda: Any = torch.cuda, buffer: Any = None) -> None:
        self._device = device
        self._cuda = cuda
        cache = cuda.get_device_properties(device).L2_cache_size
        self.flushed_bytes = max(FLUSH_FACTOR * cache, LEAST_FLUSH_BYTES)
        self._buffer = torch.empty(self.flushed_bytes, dtype=torch.int8, device=device) if buffer is None else buffer
        self._flush_seconds = min(self._time_a_flush() for _ in range(3))

    def sample(self, call: Callable[[], Any], submit_seconds: float, seconds: float) -> Sample:
        """Time ``call`` once, or twice where it is short.

        Args:
            call: what to time.
            submit_seconds: about how long the host takes to submit it.
            seconds: about how long the whole call takes.
        """
        with self._cuda.device(self._device):  # events belong to the current device
            if seconds >= LONG_CALL_SECONDS:
                return self._sample(call, flushes=1)
            flushes = 1 + math.ceil(LEAD * submit_seconds / self._flush_seconds)
            on_device = self._sample(call, min(flushes, MOST_FLUSHES), wait=False).device
            return self._sample(call, flushes=1)._replace(device=on_device)

    def _sample(self, call: Callable[[], Any], flushes: int, wait: bool = True) -> Sample:
        """``wait``: let the flush end before the call is submitted, so that the host's clock starts with the call."""
        first, last = self._cuda.Event(enable_timing=True), self._cuda.Event(enable_timing=True)
        self._cuda.synchronize(self._device)
        for _ in range(flushes):
            self._buffer.zero_()
        if wait:
            self._cuda.synchronize(self._device)
        start = perf_counter()
        first.record()
        result = call()
        last.record()
        submitted = perf_counter()
        self._cuda.synchronize(self._device)
        done = perf_counter()
        del result  # freed after the clock stopped
        return Sample(done - start, first.elapsed_time(last) / 1e3, submitted - start)

    def _time_a_flush(self) -> float:
        with self._cuda.device(self._device):
            first, last = self._cuda.Event(enable_timing=True), self._cuda.Event(enable_timing=True)
            first.record()
            self._buffer.zero_()
            last.record()
            self._cuda.synchronize(self._device)
            return max(first.elapsed_time(last) / 1e3, 1e-6)
