"""The interface of a task: labelled sequences of any length, and how predictions on them are scored."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

Split = Literal["train", "eval"]


class LabelledSequences(Dataset[dict[str, Tensor]]):
    """Examples in memory; one item is ``{"input_ids": [N], "attention_mask": [N], "labels": []}``, all int64.

    Args:
        input_ids: int64 ``[examples, N]``.
        attention_mask: int64 ``[examples, N]``, 1 for a real token and 0 for padding.
        labels: int64 ``[examples]``.
    """

    def __init__(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> None:
        self.input_ids = input_ids
        self.attention_mask = attention_mask
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "input_ids": self.input_ids[index],
            "attention_mask": self.attention_mask[index],
            "labels": self.labels[index],
        }


class Task(ABC):
    """One sequence classification task, scored by accuracy."""

    name: str
    metric: str = "accuracy"
    data: str
    """Which data is used, in one sentence: generated, embedded or the real set."""
    num_labels: int
    vocab_size: int
    """Token ids are below this, ``pad_id`` and ``cls_id`` included."""
    pad_id: int
    cls_id: int
    """The first token of every sequence, which the classification head reads."""

    @abstractmethod
    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Examples padded to ``seq_len`` tokens; equal arguments give equal examples.

        No example of ``train`` is ever one of ``eval``, whatever the two seeds.

        Raises:
            ValueError: the task has no such data (the message names the argument and what is possible).
        """

    @property
    def chance(self) -> float:
        """The score of guessing labels uniformly."""
        return 1 / self.num_labels

    def score(self, predicted: Tensor, labels: Tensor) -> float:
        """The metric as a fraction of 1; int64 ``[examples]`` each."""
        return (predicted == labels).double().mean().item()

    def majority(self, labels: Tensor) -> float:
        """The score of always answering the most frequent of these labels; int64 ``[examples]``."""
        return self.score(labels.mode().values.expand_as(labels), labels)

    def check(self, labels: Tensor) -> None:
        """Reject labels that the model's head has no output for.

        Raises:
            ValueError: a label is outside ``[0, num_labels)``.
        """
        wrong = labels[(labels < 0) | (labels >= self.num_labels)]
        if len(wrong):
            raise ValueError(
                f"task {self.name!r}: labels must be in [0, {self.num_labels}), got {torch.unique(wrong).tolist()}; "
                "mend the task's data or its num_labels"
            )
