"""Tasks whose examples are drawn at random: any number of them, and none in both splits."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.tasks.task import LabelledSequences, Split, Task, split_of

_MAX_IDLE_DRAWS = 200
"""Draws in a row without a new example after which a task has run out of examples."""


@dataclass(frozen=True)
class Drawn:
    """Some examples, with the shapes of ``LabelledSequences``."""

    input_ids: NDArray[np.int16]
    attention_mask: NDArray[np.bool_]
    labels: NDArray[np.int64]


class GeneratedTask(Task):
    """A task that implements ``draw``. A checksum of its tokens decides which split an example belongs to."""

    min_seq_len: int
    drawn_at_a_time = 256

    @abstractmethod
    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """Independent examples. ``split`` is for tasks whose material is itself divided into two parts."""

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Distinct examples. A larger number of examples starts with the same ones as a smaller number.

        Raises:
            ValueError: ``seq_len`` is below ``min_seq_len``, or the task does not have that many examples.
        """
        if seq_len < self.min_seq_len:
            raise ValueError(
                f"{self.name}: seq_len must be at least {self.min_seq_len}, got {seq_len}; use a longer one"
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
                if len(seen) < examples and key not in seen and split_of(key) == split:
                    seen.add(key)
                    new.append(row)
            kept.append(Drawn(drawn.input_ids[new], drawn.attention_mask[new], drawn.labels[new]))
            idle = 0 if new else idle + 1
            if idle == _MAX_IDLE_DRAWS:
                raise ValueError(
                    f"{self.name}: only {len(seen)} of {examples} {split} examples of seq_len {seq_len} were found; "
                    "use a longer seq_len or fewer examples"
                )
        return LabelledSequences(
            torch.from_numpy(np.concatenate([drawn.input_ids for drawn in kept])),
            torch.from_numpy(np.concatenate([drawn.attention_mask for drawn in kept])),
            torch.from_numpy(np.concatenate([drawn.labels for drawn in kept])),
            span=self.head == "question_answering",
        )


def distinct(rng: np.random.Generator, rows: int, among: int, count: int) -> NDArray[np.int64]:
    """``[rows, count]`` numbers below ``among``, distinct within each row, in random order."""
    return rng.random((rows, among)).argsort(axis=1)[:, :count]
