"""Needle search: which digit is hidden in a haystack of letters."""

import numpy as np

from harness.tasks.generated import Drawn, GeneratedTask
from harness.tasks.task import Split

DIGITS = 10
LETTERS = 26
PAD, CLS, FIRST_DIGIT = 0, 1, 2
FIRST_LETTER = FIRST_DIGIT + DIGITS


class Needle(GeneratedTask):
    """Ten-way classification. An attention with uniform weights gives the needle a weight of 1 / seq_len."""

    name = "needle"
    data = "generated: one digit at a random place among random letters"
    num_labels = DIGITS
    vocab_size = FIRST_LETTER + LETTERS
    pad_id = PAD
    min_seq_len = 8

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        ids = rng.integers(FIRST_LETTER, self.vocab_size, (examples, seq_len), dtype=np.int16)
        digit = rng.integers(0, DIGITS, examples)
        ids[np.arange(examples), rng.integers(1, seq_len, examples)] = FIRST_DIGIT + digit
        ids[:, 0] = CLS
        return Drawn(ids, np.ones_like(ids, dtype=bool), digit)
