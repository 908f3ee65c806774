"""Multi-query lookup: multi-query associative recall in which a key and its value are one token.

In ``harness.tasks.multi_query_recall``, as published (Arora et al., "Zoology", 2023, arXiv 2312.04927), a pair is two
tokens. One layer must join them before the next can look a key up, and a small model needs very many steps to learn
that, whatever its attention. Here a single layer can look the key up, so that a score says how well the attention finds
one among many keys.
"""

import numpy as np

from harness.tasks.generated import Drawn, GeneratedTask, distinct
from harness.tasks.task import IGNORED, Split

MAX_KEYS = 1024
VALUES = 8
PAD, FILLER, FIRST_QUERY = 0, 1, 2
FIRST_PAIR = FIRST_QUERY + MAX_KEYS
"""The token of key k with value v is ``FIRST_PAIR + k * VALUES + v``, that of a query for it ``FIRST_QUERY + k``."""


class MultiQueryLookup(GeneratedTask):
    """Eight-way classification of every query: the value of the pair that has the same key.

    A quarter of the tokens, 512 at most, are pairs with different keys, drawn from twice as many. As many are queries,
    one for each pair. Both are at random places with filler between. Only queries are scored.
    """

    name = "multi_query_lookup"
    head = "token_classification"
    data = "generated: pairs of random keys and values, each in one token, and a query for each, at random places"
    num_labels = VALUES
    vocab_size = FIRST_PAIR + MAX_KEYS * VALUES
    pad_id = PAD
    min_seq_len = 16

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        pairs = min(MAX_KEYS // 2, seq_len // 4)
        keys = distinct(rng, examples, 2 * pairs, pairs)
        values = rng.integers(0, VALUES, (examples, pairs))
        places = distinct(rng, examples, seq_len, 2 * pairs)
        of_pairs, of_queries = places[:, :pairs], places[:, pairs:]
        ids = np.full((examples, seq_len), FILLER, dtype=np.int16)
        labels = np.full((examples, seq_len), IGNORED, dtype=np.int64)
        rows = np.arange(examples)[:, None]
        ids[rows, of_pairs] = FIRST_PAIR + keys * VALUES + values
        ids[rows, of_queries] = FIRST_QUERY + keys
        labels[rows, of_queries] = values
        return Drawn(ids, np.ones_like(ids, dtype=bool), labels)
