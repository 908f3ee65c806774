"""How YOSO normalises its weighted sums of values, so that rows whose weights nearly vanish need not become noise.

Two parameters of every attention choose the definition. X_i = sum_j B_ij v_j is the sum before it is rounded, and B_ij
the weight, a collision probability or its estimate:

- ``normalization="l2"``: ``X_i / sqrt(|X_i|^2 + norm_floor^2 mean_j |v_j|^2)``, the mean over real keys of the head.
  With ``norm_floor=0`` it is the authors' definition: every row has length 1, also one that hardly any key agrees with
  and whose sampled sum is mostly noise. With a floor such rows are short.
- ``normalization="sum"``: ``X_i / (sum_j B_ij + norm_floor)``, a weighted mean of the values, shortened by the floor.
  Its length depends on the values, so a model that was trained with "l2" needs further training.

A row whose weights are all zero is zero. The gradients are those of these definitions, through the values in the mean
and through the sum of the weights as well.
"""

import torch
from torch import Tensor
from torch.nn import functional

from yoso.ops import operators, portable
from yoso.ops.arguments import MAX_HEAD_DIM
from yoso.ops.autocast import without_autocast

_ALIGNED_COLUMNS = 8
"""CUDA kernels read rows of as many 16-bit numbers, or of a multiple, as vectors of 16 bytes."""


def summands(value: Tensor, normalization: str) -> Tensor:
    """What an attention has to sum for ``normalized``: value ``[B, H, N, D_v]`` and, with "sum", columns of ones.

    The first column of ones becomes the sum of the weights; the others fill the rows up to a multiple of 8 columns.

    Raises:
        ValueError: with "sum", value's rows are so long that there is no room for one more column.
    """
    if normalization == "l2":
        return value
    width = value.shape[3]
    if width >= MAX_HEAD_DIM:
        raise ValueError(
            f"value's head_dim must be at most {MAX_HEAD_DIM - 1} with normalization 'sum', which sums one column "
            f"more, got {width}; use normalization 'l2'"
        )
    return functional.pad(value, (0, _ALIGNED_COLUMNS - width % _ALIGNED_COLUMNS), value=1.0)


def normalized(
    context: Tensor,
    value: Tensor,
    key_mask: Tensor | None,
    normalization: str,
    norm_floor: float,
    *,
    plain_torch: bool = False,
) -> Tensor:
    """The output of an attention from its unrounded sums.

    Args:
        context: the weighted sums of ``summands(value, normalization)``, unrounded; it may be overwritten.
        value: ``[B, H, N_k, D_v]``.
        key_mask: bool ``[B, N_k]``, True for a real token, or None.
        normalization: "l2" or "sum", already checked, like ``norm_floor``.
        norm_floor: 0 for no floor.
        plain_torch: True: no operators of ``torch.ops.yoso``, so that any number of derivatives exists.

    Returns:
        ``[B, H, N_q, D_v]``, rounded once, to value's dtype.
    """
    if normalization == "sum":
        return _mean(context, value, norm_floor)
    if norm_floor == 0:
        kernel = portable.unit_rows if plain_torch else operators.unit_rows_overwriting
        return kernel(context, value.dtype)
    floor = norm_floor * _root_mean_square(value, key_mask)
    return (portable if plain_torch else operators).floored_unit_rows(context, floor, value.dtype)


def _mean(context: Tensor, value: Tensor, norm_floor: float) -> Tensor:
    sums, weights = context[..., : value.shape[3]], context[..., value.shape[3], None]
    collided = weights > 0
    # A row without a weight is divided by 1, because the gradient of 0 / 0 is NaN even where it is not used.
    means = sums / torch.where(collided, weights + norm_floor, 1.0)
    return torch.where(collided, means, 0.0).to(value.dtype)


def _root_mean_square(value: Tensor, key_mask: Tensor | None) -> Tensor:
    """The root of the mean squared length of each head's real value rows, ``[B, H]`` in the dtype of the sums."""
    # Contiguous, because the order of torch's sums depends on the strides.
    rows = portable.real_rows(value.to(portable.sum_dtype(value)).contiguous(), key_mask)
    largest = portable.largest_magnitude(rows.flatten(2))  # so that no square overflows or vanishes
    with without_autocast(rows):
        lengths = torch.linalg.vector_norm(rows / largest[..., None], dim=-1)
        total = torch.linalg.vector_norm(lengths, dim=-1) * largest[..., 0]
    if key_mask is not None:
        return total / key_mask.sum(-1, keepdim=True).clamp(min=1).to(total.dtype).sqrt()
    return total / max(value.shape[2], 1) ** 0.5
