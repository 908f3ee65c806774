"""Question answering: the span between the brackets of the kind that the question names."""

import numpy as np

from harness.tasks.generated import Drawn, GeneratedTask, distinct
from harness.tasks.task import Split

KINDS = 4
LETTERS = 26
PAD, CLS, SEP, FIRST_QUESTION = 0, 1, 2, 3
FIRST_OPEN = FIRST_QUESTION + KINDS
FIRST_CLOSE = FIRST_OPEN + KINDS
FIRST_LETTER = FIRST_CLOSE + KINDS
CONTEXT = 3
"""Position of the first context token, after the first token, the question and the separator."""


class SpanSearch(GeneratedTask):
    """The answer starts and ends with the brackets themselves; both positions must be right.

    The context has one span of each of four kinds, in random order and at random places, among random letters.
    """

    name = "span_search"
    head = "question_answering"
    metric = "exact_match"
    data = "generated: four bracketed spans at random places among random letters"
    num_labels = 2
    vocab_size = FIRST_LETTER + LETTERS
    pad_id = PAD
    min_seq_len = CONTEXT + 4 * KINDS

    @property
    def chance(self) -> float:
        """The score of guessing one of the four spans. Guessing two positions would almost never be right."""
        return 1 / KINDS

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        ids = rng.integers(FIRST_LETTER, self.vocab_size, (examples, seq_len), dtype=np.int16)
        ends = CONTEXT + np.sort(distinct(rng, examples, seq_len - CONTEXT, 2 * KINDS), axis=1)
        kinds = distinct(rng, examples, KINDS, KINDS)
        rows = np.arange(examples)
        ids[rows[:, None], ends[:, ::2]] = FIRST_OPEN + kinds
        ids[rows[:, None], ends[:, 1::2]] = FIRST_CLOSE + kinds
        asked = rng.integers(0, KINDS, examples)
        ids[:, 0], ids[:, 1], ids[:, 2] = CLS, FIRST_QUESTION + kinds[rows, asked], SEP
        answers = np.stack([ends[rows, 2 * asked], ends[rows, 2 * asked + 1]], axis=1)
        return Drawn(ids, np.ones_like(ids, dtype=bool), answers)
