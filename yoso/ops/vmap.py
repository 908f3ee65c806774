"""The rules of YOSO's operators under ``torch.vmap``: the mapped dimension is folded into the batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yoso.ops.schemas import SCHEMAS

_ops = torch.ops.yoso


def _fold(x: Tensor, dim: int | None, size: int) -> Tensor:
    """Join the mapped dimension and the batch, which is the first dimension of every argument."""
    x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.flatten(0, 1)


def _unfold(x: Tensor, size: int) -> Tensor:
    return x.unflatten(0, (size, x.shape[0] // size))


def _folding_rule(name: str) -> Callable[..., Any]:
    """The rule of an operator whose tensors all begin with the batch and which treats every sequence by itself."""

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
    """Fold x; head g uses the planes g % groups, so unmapped planes serve the folded batch as they are.

    Mapped planes are repeated until every head of a sample has a set of its own.
    """
    size = info.batch_size
    folded = _fold(x, in_dims[0], size)
    if in_dims[1] is not None:
        planes = planes.movedim(in_dims[1], 0)
        repeats = folded.shape[0] // size * folded.shape[1] // planes.shape[1]
        planes = planes.repeat(1, repeats, 1, 1).flatten(0, 1) if repeats > 1 else planes.flatten(0, 1)
    return _unfold(_ops.fast_hash(folded, planes, *sizes), size), 0


# unit_rows_ has no rule: it is called only where no transform is active.
for _name in set(SCHEMAS) - {"unit_rows_"}:
    torch.library.register_vmap(f"yoso::{_name}", _fast_hash_rule if _name == "fast_hash" else _folding_rule(_name))
