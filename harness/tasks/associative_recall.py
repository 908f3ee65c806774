"""Associative recall: keys, each followed by its value, and one key to look up.

The task comes from Ba et al., "Using Fast Weights to Attend to the Recent Past" (NeurIPS 2016). Linear attentions fail
on its successors (Arora et al., "Zoology", 2023).
"""

import numpy as np

from harness.tasks.generated import Drawn, GeneratedTask, distinct
from harness.tasks.task import Split

KEYS = 32
VALUES = 8
MAX_PAIRS = 16
PAD, FILLER, FIRST_KEY = 0, 1, 2
FIRST_VALUE = FIRST_KEY + KEYS


class AssociativeRecall(GeneratedTask):
    """Eight-way classification: the value that follows the key given as the first token.

    The number of pairs is a quarter of the number of tokens, 16 at most. They are at random places with filler between.
    """

    name = "associative_recall"
    data = "generated: random keys with random values, at random places"
    num_labels = VALUES
    vocab_size = FIRST_VALUE + VALUES
    pad_id = PAD
    min_seq_len = 9

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        slots = (seq_len - 1) // 2
        pairs = min(MAX_PAIRS, max(2, seq_len // 4))
        rows = np.arange(examples)[:, None]
        places = 1 + 2 * distinct(rng, examples, slots, pairs)
        keys = distinct(rng, examples, KEYS, pairs)
        values = rng.integers(0, VALUES, (examples, pairs))
        ids = np.full((examples, seq_len), FILLER, dtype=np.int16)
        ids[rows, places] = FIRST_KEY + keys
        ids[rows, places + 1] = FIRST_VALUE + values
        ids[:, 0] = FIRST_KEY + keys[:, 0]  # places are in random order, so the first pair can be anywhere
        return Drawn(ids, np.ones_like(ids, dtype=bool), values[:, 0])
