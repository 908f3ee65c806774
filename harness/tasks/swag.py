"""SWAG (Zellers et al., 2018) at byte level: which of four endings goes on from a sentence."""

from pathlib import Path

import numpy as np
import torch

from harness.tasks import data_files, data_tables
from harness.tasks.byte_tokens import PAD, VOCAB_SIZE, encode
from harness.tasks.task import LabelledSequences, Split, Task

HOW = "https://github.com/rowanz/swagaf, folder data"
ENDINGS = tuple(f"ending{choice}" for choice in range(4))
FILES = {"train": "train", "eval": "val"}


class Swag(Task):
    """Multiple choice from files with the columns ``sent1``, ``sent2``, ``ending0`` to ``ending3`` and ``label``.

    A choice is the sentence, a separator, and the beginning of the second sentence with one ending.
    """

    name = "swag"
    head = "multiple_choice"
    data = "SWAG as bytes, its own training and validation parts"
    num_labels = len(ENDINGS)
    vocab_size = VOCAB_SIZE
    pad_id = PAD

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Examples in an order of ``seed``'s.

        Raises:
            ValueError: a file is missing or has no such columns, or a label is none of the task's.
        """
        table = data_tables.read(self.name, self._path(split), ["sent1", "sent2", *ENDINGS, "label"])
        order = np.random.default_rng(seed).permutation(len(table["label"]))[:examples]
        rows = [[_choice(table, at, ending, seq_len) for ending in ENDINGS] for at in order.tolist()]
        ids = torch.from_numpy(np.array(rows))
        return LabelledSequences(ids, ids != PAD, torch.tensor([int(table["label"][at]) for at in order]))

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        splits: tuple[Split, ...] = ("train", "eval")
        return {f"swag/{path.name}": data_files.checksum(path) for path in map(self._path, splits)}

    def _path(self, split: Split) -> Path:
        stem = f"swag/{FILES[split]}"
        return data_files.find(self.name, *(f"{stem}.{suffix}" for suffix in data_tables.SUFFIXES), how=HOW)


def _choice(table: dict[str, list[str]], at: int, ending: str, seq_len: int) -> np.ndarray:
    second = f"{table['sent2'][at]} {table[ending][at]}".strip()
    return encode([str(table["sent1"][at]).encode(), second.encode()], seq_len)
