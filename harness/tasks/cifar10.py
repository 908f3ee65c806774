"""Grey CIFAR-10 images as pixel sequences, Long Range Arena's Image task, from the original archive."""

import tarfile

import numpy as np
import torch
from torch import Tensor

from harness.tasks import data_files
from harness.tasks.task import LabelledSequences, Split, Task
from harness.tasks.tokens import FIRST_LEVEL, PAD, encode_images

ARCHIVE = "cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
"""As recorded in github.com/tensorflow/datasets, ``url_checksums/cifar10.txt``."""
SOURCE = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
FILES = {"train": [f"data_batch_{part}.bin" for part in range(1, 6)], "eval": ["test_batch.bin"]}
WIDTH, LEVELS = 32, 256
RECORD = 1 + 3 * WIDTH**2
"""Bytes of an image: its label, then its red, green and blue pixels."""
GREY = np.array([0.2989, 0.5870, 0.1140], dtype=np.float32)
"""Weights of red, green and blue."""


class Cifar10(Task):
    """Ten-way classification. At 1024 tokens the images keep their size; other lengths resize them."""

    name = "cifar10"
    data = "CIFAR-10 in grey, its own training and test images"
    num_labels = 10
    vocab_size = FIRST_LEVEL + LEVELS
    pad_id = PAD
    sha256 = SHA256

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Images, shuffled by ``seed``.

        Raises:
            ValueError: the archive is missing, damaged or of another version.
        """
        path = data_files.find(self.name, ARCHIVE, source=SOURCE)
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
        ids, mask = encode_images(_grey(records[order]), LEVELS, seq_len)
        return LabelledSequences(ids, mask, torch.from_numpy(records[order, 0].astype(np.int64)))

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        return {ARCHIVE: data_files.checksum(data_files.find(self.name, ARCHIVE, source=SOURCE))}


def _grey(records: np.ndarray) -> Tensor:
    """Images ``[E, 32, 32]`` in [0, 1] from records ``[E, RECORD]``."""
    colours = records[:, 1:].reshape(-1, 3, WIDTH, WIDTH).astype(np.float32) / 255
    return torch.from_numpy(np.einsum("c,ecij->eij", GREY, colours))
