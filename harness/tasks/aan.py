"""ACL Anthology Network, byte level: Long Range Arena's Retrieval task, whether one paper cites the other.

The files are those of Long Range Arena's release: tab-separated, without a heading, with the label, the two papers'
identifiers and their two texts.
"""

import csv
from pathlib import Path

import numpy as np
import torch

from harness.tasks import data_files
from harness.tasks.byte_tokens import PAD, VOCAB_SIZE, encode
from harness.tasks.task import LabelledSequences, Split, Task

FILES = {"train": "new_aan_pairs.train.tsv", "eval": "new_aan_pairs.test.tsv"}
HOW = "lra_release, folder tsv_data, of github.com/google-research/long-range-arena"
COLUMNS = 5


class Aan(Task):
    """Two sequences, encoded each for itself: 1 where one cites the other. No checksum of the files is published."""

    name = "aan"
    head = "sequence_pair"
    data = "pairs of papers of the ACL Anthology Network as bytes, Long Range Arena's training and test pairs"
    num_labels = 2
    vocab_size = VOCAB_SIZE
    pad_id = PAD

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Pairs in an order of ``seed``'s.

        Raises:
            ValueError: the file is missing, or a line of it has another form.
        """
        path = data_files.find(self.name, FILES[split], how=HOW)
        pairs = _pairs(path)
        order = np.random.default_rng(seed).permutation(len(pairs))[:examples]
        ids = np.stack([[encode([text], seq_len) for text in pairs[at][1:]] for at in order])
        labels = torch.tensor([pairs[at][0] for at in order])
        return LabelledSequences(torch.from_numpy(ids), torch.from_numpy(ids != PAD), labels)

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        return {name: data_files.checksum(data_files.find(self.name, name, how=HOW)) for name in FILES.values()}


def _pairs(path: Path) -> list[tuple[int, bytes, bytes]]:
    csv.field_size_limit(2**27)  # papers are long
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t"), 1):
            try:
                label, _, _, first, second = row
                found.append((int(float(label)), first.encode(), second.encode()))
            except ValueError as error:
                raise ValueError(
                    f"aan: line {number} of {path.name} has {len(row)} columns, the first one {row[:1]}; expected "
                    f"{COLUMNS} columns, tab-separated: label, two identifiers, two texts"
                ) from error
    return found
