"""Softmax attention by its definition, the oracle of every plugin that computes it exactly."""

import math

from torch import Tensor


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v`` at the query positions ``rows``, in the dtype of its inputs.

    Source: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, equation 1.

    Args:
        q: ``[B, H, N, D]``, any floating dtype.
        k: as ``q``.
        v: as ``q``.
        key_padding_mask: bool ``[B, N]``, True for a real token, or None.
        rows: int64 ``[R]``.

    Returns:
        ``[B, H, R, D]``, differentiable in q, k and v.
    """
    scores = q[:, :, rows] @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if key_padding_mask is not None:
        scores = scores.masked_fill(~key_padding_mask[:, None, None, :], -math.inf)
    return scores.softmax(-1) @ v
