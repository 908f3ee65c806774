"""The depthwise convolution of the values along the sequence, which YOSO adds to its attention.

A module of its own because it does not need transformers, and the attention benchmarks use it without a model.
"""

import torch
from torch import Tensor, nn


def make_convolution(heads: int, window: int) -> nn.Conv2d:
    """One filter of ``window`` tokens, an odd number, per head, without bias.

    Its weight is ``[heads, 1, window, 1]``, as in transformers' checkpoints. A plain ``Conv2d``, because LoRA builds
    its adapters with the class of the layer that it adapts, and with the arguments of ``Conv2d``.
    """
    return nn.Conv2d(heads, heads, (window, 1), padding=(window // 2, 0), groups=heads, bias=False)


def convolve(convolution: nn.Module, value: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
    """Convolve the values of the real tokens.

    Args:
        convolution: from ``make_convolution``.
        value: ``[B, H, N, D]``.
        key_padding_mask: bool ``[B, N]``, True for a real token; padded values count as zero.

    Returns:
        ``[B, H, N, D]``; the values beyond the ends of the sequence count as zero.
    """
    if key_padding_mask is not None:
        value = torch.where(key_padding_mask[:, None, :, None], value, 0.0)
    output: Tensor = convolution(value)
    return output
