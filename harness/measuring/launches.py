"""Kernels that one call starts on a CUDA device. A pass of its own: the profiler slows what it watches."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

NO_KERNELS = ("Memcpy", "Memset")
"""How CUPTI's names of copies and fills begin; the copy engine does most of them, and no kernel is launched."""


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
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        known.add_(1)
        call()
        torch.cuda.synchronize(device)
    seen = _kernels(profiler.profiler.kineto_results.events())
    return seen - 1 if seen else None


def _kernels(events: Iterable[Any]) -> int:
    return sum(
        event.device_type() == DeviceType.CUDA
        and not event.is_user_annotation()
        and not event.name().startswith(NO_KERNELS)
        for event in events
    )
