"""ACL Anthology Network at byte level, Long Range Arena's Retrieval task: whether one paper cites the other.

The files are those of Long Range Arena's release: tab-separated, without a header, with the label, the two papers'
identifiers and their two texts. As there, quotes are text: a text may begin with one that nothing closes.
"""

import codecs
from pathlib import Path

import numpy as np
import torch

from harness.tasks import data_files, data_tables
from harness.tasks.task import LabelledSequences, Split, Task
from harness.tasks.tokens import BYTE_VOCAB_SIZE, PAD, encode_bytes

FILES = {"train": "new_aan_pairs.train.tsv", "eval": "new_aan_pairs.test.tsv"}
SOURCE = "lra_release, folder tsv_data, of github.com/google-research/long-range-arena"
COLUMNS = 5


class Aan(Task):
    """Two sequences, encoded separately; label 1 if one cites the other. The files have no published checksum."""

    name = "aan"
    head = "sequence_pair"
    data = "pairs of papers of the ACL Anthology Network as bytes, Long Range Arena's training and test pairs"
    num_labels = 2
    vocab_size = BYTE_VOCAB_SIZE
    pad_id = PAD

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Pairs, shuffled by ``seed``.

        Raises:
            ValueError: the file is missing, or one of its lines has another format.
        """
        path = data_files.find(self.name, FILES[split], source=SOURCE)
        pairs = _pairs(path)
        order = np.random.default_rng(seed).permutation(len(pairs))[:examples]
        ids = np.stack([[encode_bytes([text], seq_len) for text in pairs[index][1:]] for index in order])
        labels = torch.tensor([pairs[index][0] for index in order])
        return LabelledSequences(torch.from_numpy(ids), torch.from_numpy(ids != PAD), labels)

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        paths = {name: data_files.find(self.name, name, source=SOURCE) for name in FILES.values()}
        return {name: data_files.checksum(path) for name, path in paths.items()}


def _pairs(path: Path) -> list[tuple[int, bytes, bytes]]:
    """Label and both texts of every line.

    Raises:
        ValueError: a line has another format, or there is none.
    """
    pairs = []
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        columns = line.removesuffix(b"\r").split(b"\t")
        if columns == [b""]:
            continue
        first = columns[0].decode(errors="replace")
        label = data_tables.as_number(first)
        if len(columns) != COLUMNS or label is None or not label.is_integer():
            raise ValueError(
                f"aan: line {number} of {path.name} has {len(columns)} columns, the first one "
                f"{data_tables.shown(first)}; expected {COLUMNS} columns, tab-separated: "
                "label, two identifiers, two texts"
            )
        pairs.append((int(label), columns[3], columns[4]))
    if not pairs:
        raise ValueError(f"aan: {path.name} has no lines; download it from {SOURCE}")
    return pairs
