"""Multiple choice in the format of SWAG, a context with four endings: the correct ending is a name in the context."""

import numpy as np

from harness.tasks.generated import Drawn, GeneratedTask, distinct
from harness.tasks.task import Split

CHOICES = 4
NAMES = 16
LETTERS = 26
PAD, CLS, SEP, FIRST_NAME = 0, 1, 2, 3
FIRST_LETTER = FIRST_NAME + NAMES


class ChoiceSearch(GeneratedTask):
    """Each choice is the context, a separator, and a name. Exactly one of the four names occurs in the context."""

    name = "choice_search"
    head = "multiple_choice"
    data = "generated: one of sixteen names at a random place among random letters, and four names to choose from"
    num_labels = CHOICES
    vocab_size = FIRST_LETTER + LETTERS
    pad_id = PAD
    min_seq_len = 8

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        context = rng.integers(FIRST_LETTER, self.vocab_size, (examples, seq_len), dtype=np.int16)
        names = FIRST_NAME + distinct(rng, examples, NAMES, CHOICES)
        correct = rng.integers(0, CHOICES, examples)
        rows = np.arange(examples)
        context[rows, rng.integers(1, seq_len - 2, examples)] = names[rows, correct]
        context[:, 0], context[:, -2] = CLS, SEP
        ids = np.repeat(context[:, None], CHOICES, axis=1)
        ids[:, :, -1] = names
        return Drawn(ids, np.ones_like(ids, dtype=bool), correct)
