"""Kernels that one call starts on a CUDA device. A pass of its own: the profiler slows what it watches.

It also slows what its process calls later, because CUPTI stays attached (https://github.com/pytorch/pytorch/issues/144455):
``harness.processes.launch_counter`` has a process for it where others are timed.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from yoso.torch_private import profiler_events

NO_KERNELS = ("Memcpy", "Memset")
"""How CUPTI's names of copies and fills begin; the copy engine does most of them, and no kernel is launched."""
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchCooperativeKernel", "cuLaunchKernel", "cuLaunchCooperativeKernel")
"""How the names of the host's calls begin that start one kernel each."""


def count(call: Callable[[], Any], device: str) -> int | None:
    """Run ``call`` once and count the kernels that the device ran for it, those of a CUDA graph each by itself.

    Args:
        call: warmed up: what the first call alone compiles, tunes or caches is not the case's.
        device: where it runs.

    Returns:
        Their number, copies and fills not among them; None on a CPU, which has none, and where the profiler cannot see
        the device.
    """
    if torch.device(device).type != "cuda":
        return None
    # One kernel that is known to run: a profiler that may not look would otherwise say that the call has none.
    known = torch.zeros(1, device=device)
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        known.add_(1)
        call()
        torch.cuda.synchronize(device)
    seen = _kernels(profiler_events(profiler))
    return seen - 1 if seen else None


def _kernels(events: Iterable[Any]) -> int:
    """Kernels that left a record, and those whose launch alone did.

    The profiler loses the records of a session's first kernels, more with every session of a process, and not those of
    their launches (https://github.com/pytorch/pytorch/issues/192021). Both carry the same number.
    """
    kernels: list[int] = []
    launched: set[int] = set()
    for event in events:
        if event.device_type() != DeviceType.CUDA:
            if event.name().startswith(LAUNCHES):
                launched.add(event.correlation_id())
        elif not event.is_user_annotation() and not event.name().startswith(NO_KERNELS):
            kernels.append(event.correlation_id())
    return len(kernels) + len(launched.difference(kernels)) if kernels else 0
