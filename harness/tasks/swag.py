"""SWAG (Zellers et al., 2018) at byte level: which of four endings continues a sentence."""

from pathlib import Path

import numpy as np
import torch

from harness.tasks import data_files, data_tables
from harness.tasks.task import LabelledSequences, Split, Task
from harness.tasks.tokens import BYTE_VOCAB_SIZE, PAD, encode_bytes

SOURCE = "https://github.com/rowanz/swagaf, folder data"
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
    vocab_size = BYTE_VOCAB_SIZE
    pad_id = PAD

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Examples, shuffled by ``seed``.

        Raises:
            ValueError: a file is missing, or not a table of texts and labels.
        """
        table = data_tables.read(self.name, self._path(split), ["sent1", "sent2", *ENDINGS, "label"])
        first, second, *endings = (table.texts(column) for column in ("sent1", "sent2", *ENDINGS))
        labels = torch.tensor(table.labels("label"))
        order = np.random.default_rng(seed).permutation(len(table))[:examples]
        rows = [
            [encode_bytes([first[at], b" ".join([second[at], ending[at]]).strip()], seq_len) for ending in endings]
            for at in order
        ]
        ids = torch.from_numpy(np.array(rows))
        return LabelledSequences(ids, ids != PAD, labels[torch.from_numpy(order)])

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        splits: tuple[Split, ...] = ("train", "eval")
        return {f"swag/{path.name}": data_files.checksum(path) for path in map(self._path, splits)}

    def _path(self, split: Split) -> Path:
        return data_files.find_table(self.name, f"swag/{FILES[split]}", SOURCE)
