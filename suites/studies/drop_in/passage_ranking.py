"""MiniLM: an encoder of English whose mean-pooled hidden states rank passages by their cosine with a query."""

import re
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from transformers import PreTrainedModel

from harness.models.packaged_weights import LoadedModel
from suites.studies.drop_in.pretrained import Batch, Pretrained, States, batch_of, batches_of
from suites.studies.drop_in.results import Settings

TOP, RANKS = "same first passage", "rank correlation"
LONGEST_QUERY = 32
"""In tokens; a longer first sentence is cut."""


class PassageRanking(Pretrained):
    """Ranks passages for queries. A query is the first sentence of one of the passages, which is taken out of it.

    Args:
        loaded: the model and its tokenizer.
        topics: texts by name. A quarter of them is held out. Each is cut into passages of ``max_tokens``.
        settings: the longest text, and how many passages are held out.
    """

    name = "minilm"
    task = (
        "how the original's ranking of passages for a query is kept: Spearman's correlation of the cosines, averaged "
        "over queries, and the share of queries with the same first passage, which a near tie can change"
    )
    measures = (RANKS, TOP)

    def __init__(self, loaded: LoadedModel, topics: Mapping[str, str], settings: Settings) -> None:
        self._pad: int = loaded.model.config.pad_token_id
        names = sorted(topics, key=lambda name: zlib.crc32(name.encode()))
        quarter = max(1, len(names) // 4)
        held_out, training = (
            [pair for name in part for pair in _passages(loaded, topics[name], settings.max_tokens)]
            for part in (names[:quarter], names[quarter:])
        )
        if len(held_out) < 2 or not training:
            raise ValueError(
                f"expected at least 2 held-out passages of {settings.max_tokens // 2} tokens and one for training, got "
                f"{len(held_out)} and {len(training)}; use a Python whose help() has its topics"
            )
        self._training = [passage for _, passage in training]
        kept = [held_out[place] for place in np.random.default_rng(0).permutation(len(held_out))[: settings.held_out]]
        passages, queries = (batches_of([pair[part] for pair in kept], self._pad, settings.batch) for part in (1, 0))
        self._passages = len(passages)
        super().__init__(loaded.model, [*passages, *queries])

    def training_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """See ``Pretrained``."""
        return batch_of([self._training[rng.integers(len(self._training))] for _ in range(size)], self._pad)

    def output_loss(self, student: PreTrainedModel, found: States, wanted: States, batch: Batch) -> Tensor:
        """One minus the cosine of the text's embedding with the teacher's, averaged over texts."""
        del student
        return (1 - torch.cosine_similarity(_embedded(found, batch), _embedded(wanted, batch))).mean()

    def agreement(self, student: PreTrainedModel, found: list[States], wanted: list[States]) -> dict[str, float]:
        """See ``Pretrained``."""
        del student
        own, target = self._cosines(found), self._cosines(wanted)
        ranks = [_rank_correlation(*pair) for pair in zip(own, target, strict=True)]
        return {RANKS: float(np.mean(ranks)), TOP: float((own.argmax(1) == target.argmax(1)).mean())}

    def _cosines(self, states: list[States]) -> np.ndarray:
        """Of every query with every passage."""
        embedded = [
            torch.nn.functional.normalize(_embedded(of, batch), dim=-1)
            for of, batch in zip(states, self.held_out, strict=True)
        ]
        passages, queries = torch.cat(embedded[: self._passages]), torch.cat(embedded[self._passages :])
        return (queries @ passages.mT).numpy()


def _rank_correlation(own: np.ndarray, target: np.ndarray) -> float:
    """Spearman's; 0 for a student that sees no difference between the passages, and so has no ranking."""
    return 0.0 if np.ptp(own) == 0 else float(spearmanr(own, target).statistic)


def _embedded(states: States, batch: Batch) -> Tensor:
    """The mean of the last hidden states of real tokens, ``[B, width]``."""
    mask = batch.attention_mask[..., None].to(states[-1].dtype)
    return (states[-1] * mask).sum(1) / mask.sum(1)


def _passages(loaded: LoadedModel, text: str, max_tokens: int) -> list[tuple[list[int], list[int]]]:
    """Queries and passages as token ids: a topic's sentences, cut where a passage would be too long."""

    def marked(ids: list[int]) -> list[int]:
        return [loaded.first, *ids, loaded.last]

    pairs = []
    sentences = re.split(r"(?<=[.:]) (?=[A-Z])", " ".join(text.split()))
    while sentences:
        query, passage = loaded.encode(sentences.pop(0))[: LONGEST_QUERY - 2], list[int]()
        while sentences:
            following = loaded.encode(sentences[0])
            if passage and len(passage) + len(following) > max_tokens - 2:
                break
            passage += following
            del sentences[0]
        if len(passage) >= max_tokens // 2:  # a shorter rest of a topic is left out
            pairs.append((marked(query), marked(passage[: max_tokens - 2])))
    return pairs
