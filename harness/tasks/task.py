"""The interface of a task: labelled sequences of any length, and how predictions on them are scored."""

import hashlib
import zlib
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
    """Examples in memory, in integers of any width. An item has the arguments of a transformers model, in int64.

    Args:
        input_ids: ``[examples, N]``, or ``[examples, sequences, N]`` for pairs and choices.
        attention_mask: of the same shape, 1 for a real token and 0 for padding.
        labels: ``[examples]``; ``[examples, N]`` if every token has a label, ``IGNORED`` for those that are not scored;
            ``[examples, 2]`` for spans, the first and the last token; float ``[examples]`` for numbers.
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
    """The metric that is the score: a name in ``harness.tasks.task_metrics``."""
    other_metrics: tuple[str, ...] = ()
    """Metrics that are recorded in addition to the score."""
    data: str
    """Which data is used, in one sentence: generated, embedded or the real data set."""
    num_labels: int
    """Number of labels, of choices, or of symbols behind a mask; 1 if a number is predicted."""
    vocab_size: int
    """All token ids are below this, including ``pad_id``."""
    pad_id: int

    @abstractmethod
    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Examples padded to ``seq_len`` tokens. Equal arguments give equal examples.

        No example of ``train`` is ever in ``eval``, whatever the two seeds. A data set in files gives fewer than
        ``examples`` if it has fewer.

        Raises:
            ValueError: the task does not have such data; the message names the argument and what is possible.
        """

    def sources(self) -> dict[str, str]:
        """The SHA-256 of each file that ``dataset`` reads, by file name."""
        return {}

    @property
    def chance(self) -> float:
        """The score of uniformly random guesses."""
        return 1 / self.num_labels

    def score(self, predicted: Tensor, labels: Tensor) -> float:
        """The metric, at best 1. Both tensors have the shape of the labels of ``LabelledSequences``."""
        return self.scores(predicted, labels)[self.metric]

    def scores(self, predicted: Tensor, labels: Tensor) -> dict[str, float]:
        """The metric and the other metrics, by name; see ``score``."""
        if self.head in ("token_classification", "masked_lm"):
            scored = labels != IGNORED
            predicted, labels = predicted[scored], labels[scored]
        return {name: task_metrics.METRICS[name](predicted, labels) for name in (self.metric, *self.other_metrics)}

    def majority(self, labels: Tensor) -> float:
        """The score of always predicting the most frequent of these labels."""
        if self.head in ("token_classification", "masked_lm"):
            labels = labels[labels != IGNORED]
        values, counts = labels.unique(dim=0, return_counts=True)
        return self.score(values[counts.argmax()].expand_as(labels), labels)

    def checked_dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """As ``dataset``, checked.

        Raises:
            ValueError: as ``dataset`` and ``check``.
        """
        checked = self.dataset(split, examples, seq_len, seed)
        self.check(checked, seq_len)
        return checked

    def check(self, examples: LabelledSequences, seq_len: int) -> None:
        """Reject examples that the model cannot take.

        Raises:
            ValueError: there are no examples, they are longer than ``seq_len``, or a token or a label is out of range.
        """
        if not len(examples):
            raise ValueError(f"task {self.name!r}: no examples; ask for at least one, or fix the task's data")
        length = examples.input_ids.shape[-1]
        if length > seq_len:
            raise ValueError(
                f"task {self.name!r}: a sequence has {length} tokens, the model is built for seq_len {seq_len}; use a "
                "longer seq_len, or fix the task's data"
            )
        ids = examples.input_ids
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            raise ValueError(
                f"task {self.name!r}: token ids must be in [0, {self.vocab_size}), got {ids.min()} to {ids.max()}; "
                "fix the task's data or its vocab_size"
            )
        self._check_labels(examples.labels, length)

    def _check_labels(self, labels: Tensor, length: int) -> None:
        if labels.is_floating_point():
            if not labels.isfinite().all():
                raise ValueError(f"task {self.name!r}: labels must be finite numbers; fix the task's data")
            return
        limit = {"masked_lm": self.vocab_size, "question_answering": length}.get(self.head, self.num_labels)
        scored = labels[labels != IGNORED] if labels.dim() > 1 else labels
        wrong = scored[(scored < 0) | (scored >= limit)]
        if len(wrong):
            raise ValueError(
                f"task {self.name!r}: labels must be in [0, {limit}), got {torch.unique(wrong).tolist()}; "
                "fix the task's data or its num_labels"
            )


def split_of(example: bytes) -> Split:
    """The split that an example belongs to, by a checksum of its tokens or pixels: a quarter is held out.

    The example alone decides, so no choice of seeds can leak an evaluation example into training.
    """
    return "eval" if zlib.crc32(example) % 4 == 0 else "train"


def examples_sha256(*sets: LabelledSequences) -> str:
    """The SHA-256 of the ids, masks and labels of these sets, in this order and as they are stored."""
    digest = hashlib.sha256()
    for examples in sets:
        for tensor in (examples.input_ids, examples.attention_mask, examples.labels):
            digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
