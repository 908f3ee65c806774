"""Images as sequences of pixels, row by row; any length takes the largest square that fits, and pads the rest."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

PAD = 0
FIRST_LEVEL = 1


def to_tokens(images: Tensor, levels: int, seq_len: int) -> tuple[Tensor, Tensor]:
    """Resize, quantise and flatten.

    Args:
        images: float ``[E, H, W]`` in [0, 1].
        levels: grey levels; level g becomes token ``FIRST_LEVEL + g``.
        seq_len: tokens; a square of side ``isqrt(seq_len)`` is filled.

    Returns:
        int16 ids and a bool mask, ``[E, seq_len]``.
    """
    side = math.isqrt(seq_len)
    if images.shape[-2:] != (side, side):
        images = F.interpolate(images[:, None], size=(side, side), mode="bilinear", antialias=True)[:, 0]
    ids = torch.full((len(images), seq_len), PAD, dtype=torch.int16)
    ids[:, : side * side] = FIRST_LEVEL + (images.clamp(0, 1) * (levels - 1)).round().to(torch.int16).flatten(1)
    return ids, ids != PAD
