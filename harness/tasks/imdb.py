"""IMDb reviews at byte level, Long Range Arena's Text task, from the original archive (Maas et al., 2011)."""

import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import torch

from harness.tasks import data_files
from harness.tasks.task import LabelledSequences, Split, Task
from harness.tasks.tokens import BYTE_VOCAB_SIZE, PAD, encode_bytes

ARCHIVE = "aclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
"""As recorded in github.com/DAI-Lab/fibber, ``fibber/datasets/downloadable_datasets.py``."""
SOURCE = f"https://ai.stanford.edu/~amaas/data/sentiment/{ARCHIVE}"
FOLDERS = {"train": "train", "eval": "test"}
LABELS = {"neg": 0, "pos": 1}


class Imdb(Task):
    """Two-way classification: whether a review is positive. Longer reviews are cut at their end."""

    name = "imdb"
    data = "IMDb reviews as bytes, their own training and test halves"
    num_labels = 2
    vocab_size = BYTE_VOCAB_SIZE
    pad_id = PAD
    md5 = MD5

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Reviews, shuffled by ``seed``.

        Raises:
            ValueError: the archive is missing, damaged or of another version.
        """
        path = data_files.find(self.name, ARCHIVE, source=SOURCE)
        data_files.verify(self.name, path, "md5", self.md5)
        reviews = _reviews(path, FOLDERS[split])
        order = np.random.default_rng(seed).permutation(len(reviews))[:examples]
        ids = torch.from_numpy(np.stack([encode_bytes([reviews[index][0]], seq_len) for index in order]))
        return LabelledSequences(ids, ids != PAD, torch.tensor([reviews[index][1] for index in order]))

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        return {ARCHIVE: data_files.checksum(data_files.find(self.name, ARCHIVE, source=SOURCE))}


@cache
def _reviews(path: Path, folder: str) -> list[tuple[bytes, int]]:
    """Text and label of every review in ``folder`` of the archive, sorted by file name."""
    reviews = []
    with tarfile.open(path) as archive:
        for member in archive:
            parts = member.name.split("/")
            if len(parts) == 4 and parts[1] == folder and parts[2] in LABELS and member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                reviews.append((member.name, file.read(), LABELS[parts[2]]))
    return [(text, label) for _, text, label in sorted(reviews)]
