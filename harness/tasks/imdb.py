"""IMDb reviews, byte level: Long Range Arena's Text task, from the archive of its authors (Maas et al., 2011)."""

import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import torch

from harness.tasks import data_files
from harness.tasks.byte_tokens import PAD, VOCAB_SIZE, encode
from harness.tasks.task import LabelledSequences, Split, Task

ARCHIVE = "aclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
"""As recorded in github.com/DAI-Lab/fibber, ``fibber/datasets/downloadable_datasets.py``."""
HOW = f"https://ai.stanford.edu/~amaas/data/sentiment/{ARCHIVE}"
FOLDERS = {"train": "train", "eval": "test"}
LABELS = {"neg": 0, "pos": 1}


class Imdb(Task):
    """Two-way classification: whether a review is positive. What is longer than ``seq_len`` is cut at its end."""

    name = "imdb"
    data = "IMDb reviews as bytes, their own training and test halves"
    num_labels = 2
    vocab_size = VOCAB_SIZE
    pad_id = PAD
    md5 = MD5

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Reviews in an order of ``seed``'s.

        Raises:
            ValueError: the archive is missing, damaged or another one.
        """
        path = data_files.find(self.name, ARCHIVE, how=HOW)
        data_files.verify(self.name, path, "md5", self.md5)
        reviews = _reviews(path, FOLDERS[split])
        order = np.random.default_rng(seed).permutation(len(reviews))[:examples]
        ids = torch.from_numpy(np.stack([encode([reviews[at][0]], seq_len) for at in order]))
        return LabelledSequences(ids, ids != PAD, torch.tensor([reviews[at][1] for at in order]))

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        return {ARCHIVE: data_files.checksum(data_files.find(self.name, ARCHIVE, how=HOW))}


@cache
def _reviews(path: Path, folder: str) -> list[tuple[bytes, int]]:
    found = []
    with tarfile.open(path) as archive:
        for member in archive:
            parts = member.name.split("/")
            if len(parts) == 4 and parts[1] == folder and parts[2] in LABELS and member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                found.append((member.name, file.read(), LABELS[parts[2]]))
    return [(text, label) for _, text, label in sorted(found)]
