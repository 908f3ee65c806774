"""Masked language modelling in which every masked byte occurs again half a sequence away."""

import numpy as np

from harness.tasks.generated import Drawn, GeneratedTask
from harness.tasks.task import IGNORED, Split
from harness.tasks.tokens import BYTE_VOCAB_SIZE, FIRST_BYTE, MASK, PAD

ALPHABET = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz012345", dtype=np.uint8)
MASKED_FRACTION = 0.15


class MaskedCopy(GeneratedTask):
    """Random bytes, repeated once: a masked byte in one half is at the same place in the other half.

    15 percent of the tokens are masked, never both copies of a byte. Only the copy reveals a masked byte.
    """

    name = "masked_copy"
    head = "masked_lm"
    data = "generated: random bytes, repeated after half a sequence"
    num_labels = len(ALPHABET)
    vocab_size = BYTE_VOCAB_SIZE
    pad_id = PAD
    min_seq_len = 8

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        half = seq_len // 2
        text = FIRST_BYTE + ALPHABET[rng.integers(0, len(ALPHABET), (examples, half))].astype(np.int16)
        whole = np.full((examples, seq_len), PAD, dtype=np.int16)
        whole[:, : 2 * half] = np.tile(text, 2)
        masked = np.zeros((examples, seq_len), dtype=bool)
        count = max(1, round(2 * half * MASKED_FRACTION))
        chosen = rng.random((examples, half)).argsort(axis=1)[:, :count]
        which_half = rng.integers(0, 2, chosen.shape)
        np.put_along_axis(masked, chosen + half * which_half, True, axis=1)
        labels = np.where(masked, whole.astype(np.int64), IGNORED)
        return Drawn(np.where(masked, np.int16(MASK), whole), whole != PAD, labels)
