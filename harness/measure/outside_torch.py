"""Memory of a call that torch's allocator does not see, such as an array of NumPy.

A call that computes in NumPy's memory would otherwise seem to need none. It is measured in calls of its own, because
the counting slows them. The module has been called before, so that what is allocated once is not counted here.
"""

import ctypes
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.core.record import Memory

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"
"""Written to ``clear_refs`` it sets the peak of the resident set size to its present value; see ``man 5 proc``."""


def add(memory: Memory, ready: Callable[[], Callable[[], Any]], device: str) -> Memory:
    """``memory`` with what a call needs outside torch's allocator; ``ready`` gives a call on inputs of its own.

    On a CPU, tracemalloc counts what Python allocates, and NumPy with it, to the byte. It does not see what a native
    library allocates by itself; that is part of ``resident_bytes``, which cannot tell it from torch's own memory: freed
    memory stays resident in the C library, which for attentions of many small tensors is as much as the peak again.

    On CUDA it is the growth of the device's used memory beyond what torch reserved. A peak cannot be observed, and an
    allocation of another process at that moment counts too.
    """
    if torch.device(device).type == "cuda":
        return memory.model_copy(
            update={
                "outside_torch_bytes": _device_bytes(ready(), device),
                "outside_torch_source": "torch.cuda.mem_get_info before and after a call",
            }
        )
    call = ready()
    resident, traced = _resident_peak(lambda: _traced_peak(call))
    return memory.model_copy(
        update={
            "outside_torch_bytes": traced,
            "outside_torch_source": "tracemalloc: Python and NumPy",
            "resident_bytes": resident,
        }
    )


def _device_bytes(call: Callable[[], Any], device: str) -> int:
    def outside() -> int:
        torch.cuda.synchronize(device)
        free, total = torch.cuda.mem_get_info(device)
        return total - free - torch.cuda.memory_reserved(device)

    before = outside()
    call()
    return max(outside() - before, 0)


def _traced_peak(call: Callable[[], Any]) -> int:
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not was_tracing:
            tracemalloc.stop()
    return peak - before


def _resident_peak(call: Callable[[], int]) -> tuple[int | None, int]:
    """The growth of the resident set size's peak, and what ``call`` returns.

    The first is None where the system does not tell, or a limit of the container forbids to reset the peak.
    """
    try:
        # Otherwise the call reuses freed memory that is resident already, and the peak does not show it.
        ctypes.CDLL(None).malloc_trim(0)
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
        before = _status_bytes("VmRSS")
    except (OSError, AttributeError):  # not Linux, or another C library than glibc
        return None, call()
    result = call()
    return max(_status_bytes("VmHWM") - before, 0), result


def _status_bytes(name: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024
