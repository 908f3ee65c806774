"""How YOSO's operators meet torch's transforms: ``torch.vmap`` and ``torch.autocast``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yoso.ops.autocast import to_autocast_dtype
from yoso.ops.operators import SCHEMAS

_ops = torch.ops.yoso
_library = torch.library.Library("yoso", "FRAGMENT")


def _fold(x: Tensor, dim: int | None, size: int) -> Tensor:
    """The mapped dimension and the batch, which comes first in every argument, as one."""
    x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.flatten(0, 1)


def _unfold(x: Tensor, size: int) -> Tensor:
    return x.unflatten(0, (size, x.shape[0] // size))


def _folding_rule(name: str) -> Callable[..., Any]:
    """The rule of an operator in which every tensor begins with the batch, and no sequence sees another."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        size = info.batch_size
        folded = (_fold(x, dim, size) if isinstance(x, Tensor) else x for x, dim in zip(args, in_dims, strict=True))
        out = getattr(_ops, name)(*folded)
        if isinstance(out, Tensor):
            return _unfold(out, size), 0
        return tuple(_unfold(x, size) for x in out), (0,) * len(out)

    return rule


def _fast_hash_rule(
    info: Any, in_dims: tuple[int | None, ...], x: Tensor, planes: Tensor, *sizes: Any
) -> tuple[Tensor, int]:
    """Planes go by head % groups: shared ones serve the folded batch as they are, mapped ones need a set a head."""
    size = info.batch_size
    folded = _fold(x, in_dims[0], size)
    if in_dims[1] is not None:
        planes = planes.movedim(in_dims[1], 0)
        repeats = folded.shape[0] // size * folded.shape[1] // planes.shape[1]
        planes = planes.repeat(1, repeats, 1, 1).flatten(0, 1) if repeats > 1 else planes.flatten(0, 1)
    return _unfold(_ops.fast_hash(folded, planes, *sizes), size), 0


def _casting(name: str, first: int, last: int) -> Callable[..., Any]:
    """An operator whose arguments first to last take autocast's dtype; codes, masks and planes stay as they are."""

    def call(*args: Any) -> Any:
        cast = to_autocast_dtype(*args[first:last])
        device = cast[0].device.type
        with torch.autocast(device, enabled=False):
            return getattr(_ops, name)(*args[:first], *cast, *args[last:])

    return call


for _name in set(SCHEMAS) - {"unit_rows_"}:  # which is for results that no transform sees
    torch.library.register_vmap(f"yoso::{_name}", _fast_hash_rule if _name == "fast_hash" else _folding_rule(_name))

# Hashes and lengths keep the dtype that they get, and gradients follow what the forward saved.
for _name, _first, _last in (("lsh_cumulation", 2, 3), ("lsh_attention", 0, 3), ("expectation", 0, 3)):
    for _device in ("CPU", "CUDA"):
        _library.impl(_name, _casting(_name, _first, _last), f"Autocast{_device}")
