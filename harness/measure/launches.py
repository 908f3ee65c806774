"""The number of kernels that one call launches on a CUDA device. A separate pass, because the profiler slows the call.

The profiler also slows every later call of its process, because CUPTI stays attached
(https://github.com/pytorch/pytorch/issues/144455). Where other cases are timed, ``harness.processes.launch_counter``
counts in a separate process.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from yoso.torch_private import profiler_events

NO_KERNELS = ("Memcpy", "Memset")
"""Prefixes of CUPTI's names of copies and fills. Most of them run on the copy engine, without a kernel launch."""
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchCooperativeKernel", "cuLaunchKernel", "cuLaunchCooperativeKernel")
"""Prefixes of the host calls that launch one kernel each."""


def count(call: Callable[[], Any], device: str) -> int | None:
    """Run ``call`` once and count the kernels that the device ran for it. Each kernel of a CUDA graph counts.

    Args:
        call: already warmed up, so that nothing is compiled, tuned or cached for the first time.
        device: where it runs.

    Returns:
        The number of kernels without copies and fills; None on a CPU, and where the profiler cannot see the device.
    """
    if torch.device(device).type != "cuda":
        return None
    # One kernel that certainly runs: if the profiler does not see it, the count of the call means nothing either.
    known = torch.zeros(1, device=device)
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        known.add_(1)
        call()
        torch.cuda.synchronize(device)
    seen = _kernels(profiler_events(profiler))
    return seen - 1 if seen else None


def _kernels(events: Iterable[Any]) -> int:
    """The number of kernels that have a record of their own or of their launch.

    The profiler loses the records of a session's first kernels, more with every session of a process, but not the
    records of their launches (https://github.com/pytorch/pytorch/issues/192021). Both have the same correlation id.
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
