"""The depthwise convolution of the values along the sequence, which YOSO adds to its attention.

A module of its own because it does not need transformers, and the attention benchmarks use it without a model.
"""

import torch
from torch import Tensor, nn


class ValueConvolution(nn.Conv2d):
    """One filter of ``window`` tokens per head over the values of the real tokens.

    Its weight is ``[heads, 1, window, 1]``, as in transformers' checkpoints.

    Args:
        heads: number of heads.
        window: width in tokens, odd.
    """

    def __init__(self, heads: int, window: int) -> None:
        super().__init__(heads, heads, (window, 1), padding=(window // 2, 0), groups=heads, bias=False)

    def forward(self, value: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            value: ``[B, H, N, D]``.
            key_padding_mask: bool ``[B, N]``, True for a real token; padded values count as zero.

        Returns:
            ``[B, H, N, D]``; the values beyond the ends of the sequence count as zero.
        """
        if key_padding_mask is not None:
            value = torch.where(key_padding_mask[:, None, :, None], value, 0.0)
        return super().forward(value)
