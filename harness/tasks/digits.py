"""Handwritten digits as pixel sequences: scikit-learn's, 8 x 8 pixels, upsampled to any length.

The data is the test part of UCI's "Optical Recognition of Handwritten Digits", which scikit-learn ships.
"""

import hashlib
import zlib
from functools import cache

import torch
from torch import Tensor

from harness.tasks.image_tokens import FIRST_LEVEL, PAD, to_tokens
from harness.tasks.task import LabelledSequences, Split, Task

LEVELS = 17
SIDE = 8


class Digits(Task):
    """Ten-way classification. It stands where Long Range Arena has CIFAR-10, and is not that."""

    name = "digits"
    data = "embedded: scikit-learn's 1,797 digits, upsampled; a quarter held out"
    num_labels = 10
    vocab_size = FIRST_LEVEL + LEVELS
    pad_id = PAD

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Digits in an order of ``seed``'s; which split one belongs to is fixed by a checksum of its pixels.

        Raises:
            ValueError: ``seq_len`` has no place for 8 x 8 pixels; scikit-learn is missing.
        """
        if seq_len < SIDE**2:
            raise ValueError(f"digits: seq_len must be at least {SIDE**2}, got {seq_len}; take a longer one")
        images, labels = _digits()
        held_out = torch.tensor([zlib.crc32(image.numpy().tobytes()) % 4 == 0 for image in images])
        mine = (held_out if split == "eval" else ~held_out).nonzero().flatten()
        mine = mine[torch.randperm(len(mine), generator=torch.Generator().manual_seed(seed))[:examples]]
        ids, mask = to_tokens(images[mine], LEVELS, seq_len)
        return LabelledSequences(ids, mask, labels[mine])

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        images, labels = _digits()
        digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        return {"sklearn.datasets.load_digits": digest}


@cache
def _digits() -> tuple[Tensor, Tensor]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            'digits: scikit-learn is missing, which has the images; pip install "yoso-harness[tasks]"'
        ) from error
    found = load_digits()
    return torch.from_numpy(found.images).float() / (LEVELS - 1), torch.from_numpy(found.target).long()
