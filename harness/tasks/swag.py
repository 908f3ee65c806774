"""SWAG (Zellers et al., 2018) at byte level: which of four endings continues a sentence."""

from pathlib import Path

import numpy as np
import torch

from harness.tasks import data_files
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
            ValueError: a file is missing or lacks a column, or a label is not one of the task's.
        """
        table = data_files.read_table(self.name, self._path(split), ["sent1", "sent2", *ENDINGS, "label"])
        order = np.random.default_rng(seed).permutation(len(table["label"]))[:examples]
        rows = [[_choice(table, index, ending, seq_len) for ending in ENDINGS] for index in order.tolist()]
        ids = torch.from_numpy(np.array(rows))
        return LabelledSequences(ids, ids != PAD, torch.tensor([int(table["label"][index]) for index in order]))

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        splits: tuple[Split, ...] = ("train", "eval")
        return {f"swag/{path.name}": data_files.checksum(path) for path in map(self._path, splits)}

    def _path(self, split: Split) -> Path:
        return data_files.find_table(self.name, f"swag/{FILES[split]}", SOURCE)


def _choice(table: dict[str, list[data_files.Cell]], index: int, ending: str, seq_len: int) -> np.ndarray:
    second = f"{table['sent2'][index]} {table[ending][index]}".strip()
    return encode_bytes([str(table["sent1"][index]).encode(), second.encode()], seq_len)
