"""Handwritten digits as pixel sequences: scikit-learn's images of 8 x 8 pixels, upsampled to any length.

The data is the test part of UCI's "Optical Recognition of Handwritten Digits", which scikit-learn contains.
"""

import hashlib
from functools import cache

import torch
from torch import Tensor

from harness.tasks.task import LabelledSequences, Split, Task, split_of
from harness.tasks.tokens import FIRST_LEVEL, PAD, encode_images

LEVELS = 17
WIDTH = 8


class Digits(Task):
    """Ten-way classification. A substitute for Long Range Arena's CIFAR-10 on other, embedded data."""

    name = "digits"
    data = "embedded: scikit-learn's 1,797 digits, upsampled; a quarter held out"
    num_labels = 10
    vocab_size = FIRST_LEVEL + LEVELS
    pad_id = PAD

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Digits, shuffled by ``seed``. A checksum of its pixels decides which split a digit belongs to.

        Raises:
            ValueError: ``seq_len`` is too short for 8 x 8 pixels, or scikit-learn is not installed.
        """
        if seq_len < WIDTH**2:
            raise ValueError(f"digits: seq_len must be at least {WIDTH**2}, got {seq_len}; use a longer one")
        images, labels = _digits()
        in_split = torch.tensor([split_of(image.numpy().tobytes()) == split for image in images])
        indices = in_split.nonzero().flatten()
        indices = indices[torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))[:examples]]
        ids, mask = encode_images(images[indices], LEVELS, seq_len)
        return LabelledSequences(ids, mask, labels[indices])

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        images, labels = _digits()
        digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        return {"sklearn.datasets.load_digits": digest}


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """All images ``[E, 8, 8]`` in [0, 1], and their int64 labels ``[E]``."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            'digits: scikit-learn, which contains the images, is not installed; run `pip install "yoso-harness[tasks]"`'
        ) from error
    loaded = load_digits()
    return torch.from_numpy(loaded.images).float() / (LEVELS - 1), torch.from_numpy(loaded.target).long()
