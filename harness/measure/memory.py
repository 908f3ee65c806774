"""Peak memory of a call at torch's allocator. A separate pass, because the profiler slows the call.

What this count does not show is measured by ``harness.measure.outside_torch`` and ``harness.measure.kept_memory``.
"""

import gc
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import profile

from harness.core.record import Memory
from yoso.torch_private import cpu_allocations

# Otherwise the profiler writes to standard error when it starts and stops, which buries a dead process's last words.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def peak(call: Callable[[], Any], device: str, held: Iterable[Tensor]) -> Memory:
    """High-water mark of ``call`` above what was allocated before it. Its result counts; ``held`` does not.

    On a CPU the mark comes from the allocation events of torch's profiler. These cover every tensor, also those inside
    native operators, but nothing that a library allocates without torch (thread stacks, MKL's buffers).

    Args:
        call: run once.
        device: where it allocates.
        held: tensors that exist before the call (inputs, weights); ``input_bytes`` is the sum of their storages.
    """
    input_bytes = storage_bytes(held)
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # the pool may still hold memory of earlier calls
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return Memory(
            peak_bytes=torch.cuda.max_memory_allocated(device) - before,
            input_bytes=input_bytes,
            reserved_bytes=torch.cuda.max_memory_reserved(device) - before,
            source="torch.cuda.max_memory_allocated",
        )
    live = LiveAllocations()
    live.record(call)
    return Memory(peak_bytes=live.peak_bytes, input_bytes=input_bytes, source="torch.profiler allocation events")


class LiveAllocations:
    """What torch allocates on the CPU while calls are recorded, and what of it is not released yet."""

    def __init__(self) -> None:
        self._live: dict[int, int] = {}
        self.bytes = 0
        """Allocated in the recorded calls and not released."""
        self.peak_bytes = 0
        """The largest value that ``bytes`` had at any moment."""

    def record(self, call: Callable[[], Any]) -> None:
        """Run ``call`` and add its allocations and releases. Its result lives until the recording has ended."""
        # Not torch.profiler's profile: it makes an object of every event, 4 s more for a call of 74,000 small
        # operations.
        with profile(use_kineto=True, profile_memory=True) as profiler:
            result = call()
        del result
        for _, address, size in sorted(cpu_allocations(profiler), key=lambda allocation: allocation[0]):
            if size > 0:
                self._live[address] = size
                self.bytes += size
                self.peak_bytes = max(self.peak_bytes, self.bytes)
            else:
                # A release of memory from before the recording has no entry and must not lower the count.
                self.bytes -= self._live.pop(address, 0)


def release() -> None:
    """Give memory that this process no longer needs back to other processes on the device."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """The sum of the tensors' storages, each counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
