"""Bytes as tokens: the three ids before them are padding, the first token, and separator or mask."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PAD, CLS, SPECIAL = 0, 1, 2
FIRST_BYTE = 3
VOCAB_SIZE = FIRST_BYTE + 256


def encode(parts: Sequence[bytes], seq_len: int) -> NDArray[np.int16]:
    """``[seq_len]`` ids: the first token, the parts with a separator between them, padding.

    What is too long is cut at its end; of several parts the longest one is, until all fit.
    """
    room = seq_len - len(parts)
    lengths = [len(part) for part in parts]
    while sum(lengths) > room:
        longest = lengths.index(max(lengths))
        others = sorted(lengths)[-2] if len(lengths) > 1 else 0
        lengths[longest] -= min(sum(lengths) - room, max(lengths[longest] - others, 1))
    ids = np.full(seq_len, PAD, dtype=np.int16)
    at = 0
    for index, (part, length) in enumerate(zip(parts, lengths, strict=True)):
        ids[at] = SPECIAL if index else CLS
        ids[at + 1 : at + 1 + length] = np.frombuffer(part[:length], dtype=np.uint8).astype(np.int16) + FIRST_BYTE
        at += 1 + length
    return ids
