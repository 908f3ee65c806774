"""Token classification in which the label of a token depends on one token far away."""

import numpy as np

from harness.tasks.generated import Drawn, GeneratedTask
from harness.tasks.task import IGNORED, Split

SYMBOLS = 4
PAD, FIRST_SYMBOL = 0, 1
FIRST_SWITCH = FIRST_SYMBOL + SYMBOLS


class DistantLabel(GeneratedTask):
    """Four-way classification of every token: its symbol plus the sequence's switch, modulo four.

    The switch is one token at a random place. Only tokens at least a quarter of the sequence away from it are scored.
    """

    name = "distant_label"
    head = "token_classification"
    data = "generated: random symbols, shifted by one switch at a random place"
    num_labels = SYMBOLS
    vocab_size = FIRST_SWITCH + SYMBOLS
    pad_id = PAD
    min_seq_len = 8

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        symbols = rng.integers(0, SYMBOLS, (examples, seq_len))
        switch = rng.integers(0, SYMBOLS, (examples, 1))
        place = rng.integers(0, seq_len, (examples, 1))
        ids = (FIRST_SYMBOL + symbols).astype(np.int16)
        np.put_along_axis(ids, place, (FIRST_SWITCH + switch).astype(np.int16), axis=1)
        far = np.abs(np.arange(seq_len) - place) >= seq_len // 4
        labels = np.where(far, (symbols + switch) % SYMBOLS, IGNORED)
        return Drawn(ids, np.ones_like(ids, dtype=bool), labels)
