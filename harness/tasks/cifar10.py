"""CIFAR-10 in grey as pixel sequences, Long Range Arena's Image task, from the archive of its authors."""

import tarfile

import numpy as np
import torch
from torch import Tensor

from harness.tasks import data_files
from harness.tasks.image_tokens import FIRST_LEVEL, PAD, to_tokens
from harness.tasks.task import LabelledSequences, Split, Task

ARCHIVE = "cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
"""As recorded in github.com/tensorflow/datasets, ``url_checksums/cifar10.txt``."""
HOW = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
FILES = {"train": [f"data_batch_{part}.bin" for part in range(1, 6)], "eval": ["test_batch.bin"]}
SIDE, LEVELS = 32, 256
RECORD = 1 + 3 * SIDE**2
"""Bytes of an image: its label, then its red, green and blue pixels."""
GREY = np.array([0.2989, 0.5870, 0.1140], dtype=np.float32)


class Cifar10(Task):
    """Ten-way classification; 1024 tokens are the images as they are, other lengths resize them."""

    name = "cifar10"
    data = "CIFAR-10 in grey, its own training and test images"
    num_labels = 10
    vocab_size = FIRST_LEVEL + LEVELS
    pad_id = PAD
    sha256 = SHA256

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Images in an order of ``seed``'s.

        Raises:
            ValueError: the archive is missing, damaged or another one.
        """
        path = data_files.find(self.name, ARCHIVE, how=HOW)
        data_files.verify(self.name, path, "sha256", self.sha256)
        with tarfile.open(path) as archive:
            members = {member.name.rsplit("/", 1)[-1]: member for member in archive.getmembers()}
            parts = []
            for name in FILES[split]:
                file = archive.extractfile(members[name])
                assert file is not None
                parts.append(np.frombuffer(file.read(), dtype=np.uint8).reshape(-1, RECORD))
        records = np.concatenate(parts)
        order = np.random.default_rng(seed).permutation(len(records))[:examples]
        ids, mask = to_tokens(_grey(records[order]), LEVELS, seq_len)
        return LabelledSequences(ids, mask, torch.from_numpy(records[order, 0].astype(np.int64)))

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        return {ARCHIVE: data_files.checksum(data_files.find(self.name, ARCHIVE, how=HOW))}


def _grey(records: np.ndarray) -> Tensor:
    colours = records[:, 1:].reshape(-1, 3, SIDE, SIDE).astype(np.float32) / 255
    return torch.from_numpy(np.einsum("c,ecij->eij", GREY, colours))
