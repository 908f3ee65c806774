"""Tasks whose examples are drawn: as many as are asked for, none of them in both splits."""

import zlib
from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness.tasks.task import LabelledSequences, Split, Task

_HOPELESS = 200
"""Draws in a row that bring nothing new, after which a task is out of examples."""


class Drawn(NamedTuple):
    """Some examples, as ``LabelledSequences`` takes them."""

    input_ids: NDArray[np.int16]
    attention_mask: NDArray[np.bool_]
    labels: NDArray[np.int64]


class GeneratedTask(Task):
    """A task that implements ``draw``; which split an example belongs to is fixed by a checksum of its tokens."""

    min_seq_len: int
    drawn_at_a_time = 256

    @abstractmethod
    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """Independent examples; ``split`` is for tasks that also cut their material in two."""

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Distinct examples; the first of many are those of few.

        Raises:
            ValueError: ``seq_len`` is below ``min_seq_len``, or the task has not so many examples.
        """
        if seq_len < self.min_seq_len:
            raise ValueError(
                f"{self.name}: seq_len must be at least {self.min_seq_len}, got {seq_len}; take a longer one"
            )
        rng = np.random.default_rng(seed)
        seen: set[bytes] = set()
        kept: list[Drawn] = []
        idle = 0
        while len(seen) < examples:
            drawn = self.draw(rng, self.drawn_at_a_time, seq_len, split)
            new = []
            for row, ids in enumerate(drawn.input_ids):
                key = ids.tobytes()
                if len(seen) < examples and key not in seen and _split(key) == split:
                    seen.add(key)
                    new.append(row)
            kept.append(Drawn(drawn.input_ids[new], drawn.attention_mask[new], drawn.labels[new]))
            idle = 0 if new else idle + 1
            if idle == _HOPELESS:
                raise ValueError(
                    f"{self.name}: only {len(seen)} of {examples} {split} examples of seq_len {seq_len} were found; "
                    "take a longer one, or fewer examples"
                )
        ids, mask, labels = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*kept, strict=True))
        return LabelledSequences(ids, mask, labels, span=self.head == "question_answering")


def _split(key: bytes) -> Split:
    # The example alone decides, so no choice of seeds can leak one into training.
    return "eval" if zlib.crc32(key) % 4 == 0 else "train"


def distinct(rng: np.random.Generator, rows: int, among: int, count: int) -> NDArray[np.int64]:
    """``[rows, count]`` numbers below ``among``, distinct in each row, in random order."""
    return rng.random((rows, among)).argsort(axis=1)[:, :count]
