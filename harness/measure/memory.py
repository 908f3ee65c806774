"""Peak memory of a call at torch's allocator. A separate pass, because the profiler slows the call."""

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
    input_bytes = _storage_bytes(held)
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
    # Not torch.profiler's profile: it makes an object of every event, 4 s more for a call of 74,000 small operations.
    with profile(use_kineto=True, profile_memory=True) as profiler:
        result = call()
    del result
    return Memory(
        peak_bytes=_high_water_mark(_allocations(profiler)),
        input_bytes=input_bytes,
        source="torch.profiler allocation events",
    )


def release() -> None:
    """Give memory that this process no longer needs back to other processes on the device."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _storage_bytes(tensors: Iterable[Tensor]) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _allocations(profiler: profile) -> list[tuple[int, int]]:
    """Address and signed size of every allocation and release on the CPU, in time order."""
    allocations = sorted(cpu_allocations(profiler), key=lambda allocation: allocation[0])
    return [(address, size) for _, address, size in allocations]


def _high_water_mark(allocations: list[tuple[int, int]]) -> int:
    live: dict[int, int] = {}
    now = highest = 0
    for address, size in allocations:
        if size > 0:
            live[address] = size
            now += size
            highest = max(highest, now)
        else:
            # A release of memory from before the call has no entry and must not lower the mark.
            now -= live.pop(address, 0)
    return highest
