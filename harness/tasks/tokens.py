"""Real data as token ids: text as bytes, and images as pixels."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

PAD = 0

CLS = 1
"""Of bytes: the first token of a sequence."""
SEPARATOR = MASK = 2
"""Of bytes: one id for both, because no task needs a separator and a mask."""
FIRST_BYTE = 3
BYTE_VOCAB_SIZE = FIRST_BYTE + 256

FIRST_LEVEL = 1
"""Of images: the token of black."""


def encode_bytes(parts: Sequence[bytes], seq_len: int) -> NDArray[np.int16]:
    """Ids ``[seq_len]``: the first token, the parts with a separator between them, then padding.

    Text that is too long is cut at its end. Of several parts the longest is cut first, until all fit.
    """
    room = seq_len - len(parts)
    lengths = [len(part) for part in parts]
    while sum(lengths) > room:
        longest = lengths.index(max(lengths))
        second_length = sorted(lengths)[-2] if len(lengths) > 1 else 0
        lengths[longest] -= min(sum(lengths) - room, max(lengths[longest] - second_length, 1))
    ids = np.full(seq_len, PAD, dtype=np.int16)
    start = 0
    for index, (part, length) in enumerate(zip(parts, lengths, strict=True)):
        ids[start] = SEPARATOR if index else CLS
        ids[start + 1 : start + 1 + length] = np.frombuffer(part[:length], dtype=np.uint8).astype(np.int16) + FIRST_BYTE
        start += 1 + length
    return ids


def encode_images(images: Tensor, levels: int, seq_len: int) -> tuple[Tensor, Tensor]:
    """Resize images to the largest square that fits into ``seq_len`` tokens, quantise them and flatten them by rows.

    Args:
        images: float ``[E, H, W]`` in [0, 1].
        levels: number of grey levels; level g becomes token ``FIRST_LEVEL + g``.
        seq_len: tokens; the square has ``isqrt(seq_len)`` pixels a row, and the rest is padding.

    Returns:
        int16 ids and a bool mask, ``[E, seq_len]`` each.
    """
    width = math.isqrt(seq_len)
    if images.shape[-2:] != (width, width):
        images = F.interpolate(images[:, None], size=(width, width), mode="bilinear", antialias=True)[:, 0]
    ids = torch.full((len(images), seq_len), PAD, dtype=torch.int16)
    ids[:, : width * width] = FIRST_LEVEL + (images.clamp(0, 1) * (levels - 1)).round().to(torch.int16).flatten(1)
    return ids, ids != PAD
