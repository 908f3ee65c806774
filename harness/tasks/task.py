"""The interface of a task: labelled sequences of any length, and how predictions on them are scored."""

import hashlib
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from harness.tasks import task_metrics

Split = Literal["train", "eval"]
TaskHead = Literal[
    "masked_lm",
    "sequence_classification",
    "sequence_pair",
    "multiple_choice",
    "token_classification",
    "question_answering",
]
IGNORED = -100
"""The label of a token that is not scored, as in transformers."""


class LabelledSequences(Dataset[dict[str, Tensor]]):
    """Examples in memory, in integers of any width; an item is what a model of transformers takes, in int64.

    Args:
        input_ids: ``[examples, N]``, or ``[examples, sequences, N]`` of pairs and choices.
        attention_mask: of the same shape, 1 for a real token and 0 for padding.
        labels: ``[examples]``; ``[examples, N]`` where every token has one, ``IGNORED`` for those that are not scored;
            ``[examples, 2]``, the first and the last token, of spans; float ``[examples]`` of numbers.
        span: whether the labels are spans.
    """

    def __init__(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, span: bool = False) -> None:
        self.input_ids = input_ids
        self.attention_mask = attention_mask
        self.labels = labels
        self.span = span

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = {"input_ids": self.input_ids[index].long(), "attention_mask": self.attention_mask[index].long()}
        label = self.labels[index]
        if self.span:
            return item | {"start_positions": label[0].long(), "end_positions": label[1].long()}
        return item | {"labels": label if label.is_floating_point() else label.long()}


class Task(ABC):
    """One task: its data, the head that it needs, and its score."""

    name: str
    head: TaskHead = "sequence_classification"
    metric: str = "accuracy"
    """What the score is: a name of ``harness.tasks.task_metrics``."""
    other_metrics: tuple[str, ...] = ()
    """What is recorded beside the score."""
    data: str
    """Which data is used, in one sentence: generated, embedded or the real set."""
    num_labels: int
    """Labels to choose from; choices, symbols behind a mask; 1 where a number is predicted."""
    vocab_size: int
    """Token ids are below this, ``pad_id`` included."""
    pad_id: int

    @abstractmethod
    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Examples padded to ``seq_len`` tokens; equal arguments give equal examples.

        No example of ``train`` is ever one of ``eval``, whatever the two seeds. A set of files gives as many as it
        has, where that is less than ``examples``.

        Raises:
            ValueError: the task has no such data (the message names the argument and what is possible).
        """

    def sources(self) -> dict[str, str]:
        """The SHA-256 of each file that ``dataset`` has read, by its name."""
        return {}

    @property
    def chance(self) -> float:
        """The score of guessing uniformly."""
        return 1 / self.num_labels

    def score(self, predicted: Tensor, labels: Tensor) -> float:
        """The metric, 1 at best; both shaped like the labels of ``LabelledSequences``."""
        return self.scores(predicted, labels)[self.metric]

    def scores(self, predicted: Tensor, labels: Tensor) -> dict[str, float]:
        """The metric and the other metrics, by name."""
        if self.head in ("token_classification", "masked_lm"):
            scored = labels != IGNORED
            predicted, labels = predicted[scored], labels[scored]
        return {name: task_metrics.METRICS[name](predicted, labels) for name in (self.metric, *self.other_metrics)}

    def majority(self, labels: Tensor) -> float:
        """The score of always giving the most frequent of these labels."""
        if self.head in ("token_classification", "masked_lm"):
            labels = labels[labels != IGNORED]
        values, counts = labels.unique(dim=0, return_counts=True)
        return self.score(values[counts.argmax()].expand_as(labels), labels)

    def checked_dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """As ``dataset``.

        Raises:
            ValueError: as for ``dataset``; or a token or a label that the model has no place for.
        """
        found = self.dataset(split, examples, seq_len, seed)
        self.check(found, seq_len)
        return found

    def check(self, examples: LabelledSequences, seq_len: int) -> None:
        """Reject what the model has no place for.

        Raises:
            ValueError: there are no examples, they are longer than ``seq_len``, or a token or a label is out of range.
        """
        if not len(examples):
            raise ValueError(f"task {self.name!r}: no examples; ask for at least one, or mend the task's data")
        length = examples.input_ids.shape[-1]
        if length > seq_len:
            raise ValueError(
                f"task {self.name!r}: a sequence has {length} tokens, the model is built for seq_len {seq_len}; take a "
                "longer seq_len, or mend the task's data"
            )
        ids = examples.input_ids
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            raise ValueError(
                f"task {self.name!r}: token ids must be in [0, {self.vocab_size}), got {ids.min()} to {ids.max()}; "
                "mend the task's data or its vocab_size"
            )
        self._check_labels(examples.labels, length)

    def _check_labels(self, labels: Tensor, length: int) -> None:
        if labels.is_floating_point():
            if not labels.isfinite().all():
                raise ValueError(f"task {self.name!r}: labels must be finite numbers; mend the task's data")
            return
        limit = {"masked_lm": self.vocab_size, "question_answering": length}.get(self.head, self.num_labels)
        scored = labels[labels != IGNORED] if labels.dim() > 1 else labels
        wrong = scored[(scored < 0) | (scored >= limit)]
        if len(wrong):
            raise ValueError(
                f"task {self.name!r}: labels must be in [0, {limit}), got {torch.unique(wrong).tolist()}; "
                "mend the task's data or its num_labels"
            )


def examples_sha256(*sets: LabelledSequences) -> str:
    """The SHA-256 of the ids, masks and labels of these sets, one after the other, as they are stored."""
    found = hashlib.sha256()
    for one in sets:
        for tensor in (one.input_ids, one.attention_mask, one.labels):
            found.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()
