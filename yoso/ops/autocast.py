"""YOSO's operators under ``torch.autocast``: they run in autocast's dtype, as matrix products and torch's sdpa do.

``to_autocast_dtype`` casts in the public functions, before their arguments are checked; the registered rules cast in
direct calls of the operators. Autocast's dtype is taken even where an argument has a wider one: it halves the memory
traffic, and the operators sum in float32 in any case.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

import yoso.ops.schemas  # noqa: F401  defines the operators that rules are registered for

# Looked up here and not in every call, because torch.compile before 2.13 cannot trace is_autocast_available.
_DEVICES = frozenset(name for name in ("cpu", "cuda", "hpu", "mps", "xpu") if torch.amp.is_autocast_available(name))

_library = torch.library.Library("yoso", "FRAGMENT")


def to_autocast_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast floating-point tensors to autocast's dtype, as torch does: outside autocast none, and float64 never."""
    device = tensors[0].device.type
    if device not in _DEVICES or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for x in tensors)


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which torch's own operations on x's device keep the dtype of their inputs."""
    return torch.autocast(x.device.type, enabled=False) if x.device.type in _DEVICES else nullcontext()


def _autocast_rule(name: str, first: int, last: int) -> Callable[..., Any]:
    """The operator with its arguments ``first`` to ``last - 1`` cast; codes, masks and planes keep their dtype."""

    def call(*args: Any) -> Any:
        cast = to_autocast_dtype(*args[first:last])
        device = cast[0].device.type
        with torch.autocast(device, enabled=False):
            return getattr(torch.ops.yoso, name)(*args[:first], *cast, *args[last:])

    return call


# fast_hash, unit_rows and floored_unit_rows have no rule: they keep the dtype of their input. Backward operators run in
# the dtype that the forward pass saved.
for _name, _first, _last in (
    ("lsh_cumulation", 2, 3),
    ("lsh_attention", 0, 3),
    ("rescored_attention", 0, 3),
    ("expectation", 0, 3),
):
    for _device in ("CPU", "CUDA"):
        _library.impl(_name, _autocast_rule(_name, _first, _last), f"Autocast{_device}")
