"""Time on a CUDA device with cold caches: device time from events, and the host's time to submit the call.

One sample is two calls. The first is timed by the device, between two events, behind other work that keeps the device
busy while the host submits the call. Its kernels therefore run back to back, as in a model whose host is ahead of the
device. The second call is timed by the host on an idle device: how long the submission took, and how long until all
work was done. Where the device time is below the submission time, the device waits for the host: the case is
launch-bound.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch

FLUSH_FACTOR = 2
"""The flush writes this many times the size of the L2 cache, so that it evicts everything under any replacement
policy."""
LEAST_FLUSH_BYTES = 2**26
LONG_CALL_SECONDS = 20e-3
"""A call of at least this length is made once and gives all times: the microseconds before its first kernel starts are
below 0.1% of it."""
LEAD_FACTOR = 4
"""The device is kept busy for this many times the host's quickest submission. After a synchronisation the host takes up
to three times as long as its quickest, and if the device catches up with it, the gap counts as device time."""
MOST_FLUSHES = 200


@dataclass(frozen=True)
class Sample:
    """Seconds of one call: until all work was done, on the device, and until the call returned to the host."""

    wall: float
    device: float
    submit: float


def is_long(seconds: float) -> bool:
    """Whether a call of about this length is timed once instead of twice; see ``LONG_CALL_SECONDS``."""
    return seconds >= LONG_CALL_SECONDS


class DeviceClock:
    """Takes samples on one CUDA device.

    Args:
        device: a CUDA device.
        cuda: ``torch.cuda``, or its replacement in a test.
        buffer: the tensor that the flush writes; None allocates one of ``flushed_bytes``.
    """

    def __init__(self, device: str, cuda: Any = torch.cuda, buffer: Any = None) -> None:
        self._device = device
        self._cuda = cuda
        cache = cuda.get_device_properties(device).L2_cache_size
        self.flushed_bytes = max(FLUSH_FACTOR * cache, LEAST_FLUSH_BYTES)
        self._buffer = torch.empty(self.flushed_bytes, dtype=torch.int8, device=device) if buffer is None else buffer
        self._flush_seconds = min(self._time_a_flush() for _ in range(3))

    def sample(self, calls: Sequence[Callable[[], Any]], submit_seconds: float) -> tuple[Sample, list[Any]]:
        """Time two calls, the first on the device and the second on the host; or a single long call on both.

        Args:
            calls: the same work on different inputs: two calls, or one if it ``is_long``.
            submit_seconds: about how long the host takes to submit one.

        Returns:
            The sample, and what each call returned.
        """
        with self._cuda.device(self._device):  # events belong to the current device
            if len(calls) == 1:
                sample, result = self._sample(calls[0], flushes=1)
                return sample, [result]
            flushes = 1 + math.ceil(LEAD_FACTOR * submit_seconds / self._flush_seconds)
            on_device, first = self._sample(calls[0], min(flushes, MOST_FLUSHES), wait=False)
            on_host, second = self._sample(calls[1], flushes=1)
            return replace(on_host, device=on_device.device), [first, second]

    def _sample(self, call: Callable[[], Any], flushes: int, wait: bool = True) -> tuple[Sample, Any]:
        """Flush, then time one call. With ``wait`` the flush ends before the host's clock starts."""
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
        return Sample(done - start, first.elapsed_time(last) / 1e3, submitted - start), result

    def _time_a_flush(self) -> float:
        with self._cuda.device(self._device):
            first, last = self._cuda.Event(enable_timing=True), self._cuda.Event(enable_timing=True)
            first.record()
            self._buffer.zero_()
            last.record()
            self._cuda.synchronize(self._device)
            return max(first.elapsed_time(last) / 1e3, 1e-6)
