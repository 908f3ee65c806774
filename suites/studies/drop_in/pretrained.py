"""What the study needs of a pretrained model: its texts, its own task, and how close a student is to it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

States = tuple[Tensor, ...]
"""Hidden states ``[B, N, width]``: of the embeddings, then of every layer."""


@dataclass(frozen=True)
class Batch:
    """Tokens int64 ``[B, N]``, and the mask of the same shape: 1 for a real token, 0 for padding."""

    input_ids: Tensor
    attention_mask: Tensor


def batch_of(texts: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """Texts of token ids, padded to the longest."""
    longest = max(map(len, texts))
    ids = torch.full((len(texts), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text, dtype=torch.int64)
        mask[row, : len(text)] = 1
    return Batch(ids, mask)


def batches_of(texts: Sequence[Sequence[int]], pad_id: int, size: int) -> list[Batch]:
    """Texts in their order, ``size`` a batch."""
    return [batch_of(texts[start : start + size], pad_id) for start in range(0, len(texts), size)]


def hidden_states(model: PreTrainedModel, batch: Batch) -> States:
    """The hidden states of the embeddings and of every layer."""
    states: States = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True
    ).hidden_states
    return states


class Pretrained(ABC):
    """A pretrained encoder with its texts and its own task; subclasses know the task.

    Args:
        model: the original, in eval mode and with its own softmax attention.
        held_out: the held-out texts in batches; no training batch contains any of them.
    """

    name: str
    task: str
    """One sentence: what ``agreement`` compares."""
    measures: tuple[str, ...]
    """The names that ``agreement`` returns; the first is the one that figures show."""

    def __init__(self, model: PreTrainedModel, held_out: list[Batch]) -> None:
        self.model = model
        self.held_out = held_out

    @property
    def longest(self) -> int:
        """The number of tokens of the longest held-out text."""
        return max(batch.input_ids.shape[1] for batch in self.held_out)

    @abstractmethod
    def training_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """``size`` texts for the distillation."""

    @abstractmethod
    def output_loss(self, student: PreTrainedModel, found: States, wanted: States, batch: Batch) -> Tensor:
        """How far the student's output is from the teacher's, in the form that the task reads; 0 if it is the same.

        Args:
            student: the model that is trained.
            found: its hidden states of ``batch``.
            wanted: the teacher's.
            batch: the texts.
        """

    @abstractmethod
    def agreement(self, student: PreTrainedModel, found: list[States], wanted: list[States]) -> dict[str, float]:
        """How often the student does the task as the teacher does, over all held-out batches.

        Args:
            student: the model.
            found: its hidden states, for every batch of ``held_out``.
            wanted: the teacher's.
        """


def hidden_loss(found: States, wanted: States, batch: Batch) -> Tensor:
    """The squared distance of the hidden states over real tokens, relative to the teacher's, averaged over layers."""
    real = batch.attention_mask.bool()
    errors = [
        (own[real] - target[real]).square().sum() / target[real].square().sum()
        for own, target in zip(found[1:], wanted[1:], strict=True)
    ]
    return torch.stack(errors).mean()


def layer_cosines(found: list[States], wanted: list[States], batches: list[Batch]) -> list[float]:
    """For every layer: the cosine of the student's hidden state with the teacher's, averaged over all real tokens."""
    cosines = []
    for layer in range(1, len(wanted[0])):
        of_tokens = [
            torch.cosine_similarity(own[layer][real], target[layer][real], dim=-1)
            for own, target, real in zip(found, wanted, (batch.attention_mask.bool() for batch in batches), strict=True)
        ]
        cosines.append(torch.cat(of_tokens).mean().item())
    return cosines
