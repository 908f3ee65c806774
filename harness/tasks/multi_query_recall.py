"""Multi-query associative recall: many keys with one value each, and then every key once more without it.

The task comes from Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models" (2023, arXiv
2312.04927), where a language model predicts the values. Here an encoder, which sees the whole sequence, classifies the
queries.
"""

import numpy as np

from harness.tasks.generated import Drawn, GeneratedTask, distinct
from harness.tasks.task import IGNORED, Split

KEYS = 512
VALUES = 16
PAD, FILLER, FIRST_KEY = 0, 1, 2
FIRST_VALUE = FIRST_KEY + KEYS


class MultiQueryRecall(GeneratedTask):
    """Sixteen-way classification of every query: the value that follows the same key at the sequence's beginning.

    The sequence begins with its pairs, an eighth as many as it has tokens and 512 at most, each a key and its value. A
    key is defined once, so no value is ever replaced. Each key is queried once, at a random place behind the pairs;
    filler is between the queries. Only queries are scored.
    """

    name = "multi_query_recall"
    head = "token_classification"
    data = "generated: pairs of random keys and values, then each key at a random place among filler"
    num_labels = VALUES
    vocab_size = FIRST_VALUE + VALUES
    pad_id = PAD
    min_seq_len = 16

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        pairs = min(KEYS, seq_len // 8)
        first_query = 2 * pairs
        keys = distinct(rng, examples, KEYS, pairs)
        values = rng.integers(0, VALUES, (examples, pairs))
        places = first_query + distinct(rng, examples, seq_len - first_query, pairs)
        ids = np.full((examples, seq_len), FILLER, dtype=np.int16)
        ids[:, 0:first_query:2] = FIRST_KEY + keys
        ids[:, 1:first_query:2] = FIRST_VALUE + values
        labels = np.full((examples, seq_len), IGNORED, dtype=np.int64)
        rows = np.arange(examples)[:, None]
        ids[rows, places] = FIRST_KEY + keys
        labels[rows, places] = values
        return Drawn(ids, np.ones_like(ids, dtype=bool), labels)
