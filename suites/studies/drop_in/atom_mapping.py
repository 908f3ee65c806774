"""RXNMapper: an encoder of reaction SMILES, one of whose attention heads says which atom became which.

The package reads the mapping from head 5 of layer 10 (both counted from 0): a product's atom comes from the reactant's
atom to which it attends most. An attention that samples has no weights to read, so the mapping of every student is
read in one way: with the softmax of that head's own queries and keys, computed from the hidden states that the swapped
layers below have produced. It is the original's way, and differs from it only by what these layers did. The package
also combines both directions, compares elements and favours neighbours of mapped atoms; none of that is done here.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.models.packaged_weights import SMILES_TOKEN, LoadedModel
from suites.studies.drop_in.pretrained import Batch, Pretrained, States, batch_of, batches_of
from suites.studies.drop_in.results import Settings

ARROW = ">>"
"""Between the reactants and the products."""
MAPPING_LAYER, MAPPING_HEAD = 10, 5
"""The defaults of ``rxnmapper.core.RXNMapper``."""
MOST_REACTIONS = 6
"""In one text."""
AGREEMENT = "same atom"


class AtomMapping(Pretrained):
    """The mapping of the held-out texts' product atoms to reactant atoms.

    A quarter of the reactions is held out. Published reactions have some 45 tokens, at which no attention needs an
    approximation. A text is therefore a mixture of several reactions: all reactants in random order, then all products.
    Any such mixture is valid SMILES, and the original says what a student should find in it.

    Args:
        loaded: the model and its tokenizer.
        reactions: reaction SMILES.
        settings: the longest text, and how many are held out.
        layer: the layer of the mapping head.
        head: its number in the layer.
    """

    name = "rxnmapper"
    task = (
        "the share of product atoms that are mapped to the same reactant atom as by the original; the mapping head is "
        "read with softmax for every attention"
    )
    measures = (AGREEMENT,)

    def __init__(
        self,
        loaded: LoadedModel,
        reactions: Sequence[str],
        settings: Settings,
        *,
        layer: int = MAPPING_LAYER,
        head: int = MAPPING_HEAD,
    ) -> None:
        longest = max(len(loaded.encode(reaction)) for reaction in reactions) + 2
        if longest > settings.max_tokens:
            raise ValueError(
                f"max_tokens must be at least {longest}, the longest reaction of {self.name}, got {settings.max_tokens}"
            )
        by_digest = sorted(reactions, key=lambda reaction: zlib.crc32(reaction.encode()))
        held_out = max(1, len(by_digest) // 4)
        self._training = by_digest[held_out:]
        self._loaded, self._layer, self._head, self._max_tokens = loaded, layer, head, settings.max_tokens
        rng = np.random.default_rng(0)
        texts = [self._text(rng, by_digest[:held_out]) for _ in range(settings.held_out)]
        self._pad: int = loaded.model.config.pad_token_id
        (self._arrow,) = loaded.encode(ARROW)
        atoms = {token for reaction in reactions for token in SMILES_TOKEN.findall(reaction) if _is_atom(token)}
        self._atom_ids = torch.tensor(sorted({number for atom in atoms for number in loaded.encode(atom)}))
        super().__init__(loaded.model, batches_of(texts, self._pad, settings.batch))

    def training_batch(self, rng: np.random.Generator, size: int) -> Batch:
        """See ``Pretrained``."""
        return batch_of([self._text(rng, self._training) for _ in range(size)], self._pad)

    def output_loss(self, student: PreTrainedModel, found: States, wanted: States, batch: Batch) -> Tensor:
        """The divergence of the mapping head's weights from the teacher's, averaged over the products' atoms."""
        products, _ = self._atoms(batch)
        own, target = (
            self._scores(model, states, batch)[products].log_softmax(-1)
            for model, states in ((student, found), (self.model, wanted))
        )
        target = target.detach()
        # Padding has a weight of 0 and a logarithm of minus infinity in both.
        return (target.exp() * (target - own).masked_fill(target.isinf(), 0)).sum(-1).mean()

    def agreement(self, student: PreTrainedModel, found: list[States], wanted: list[States]) -> dict[str, float]:
        """See ``Pretrained``."""
        same = [
            self._mapped(student, own, batch) == self._mapped(self.model, target, batch)
            for batch, own, target in zip(self.held_out, found, wanted, strict=True)
        ]
        return {AGREEMENT: torch.cat(same).float().mean().item()}

    def _mapped(self, model: PreTrainedModel, states: States, batch: Batch) -> Tensor:
        """For every product atom of the batch, the position of the reactant atom that it attends to most."""
        products, reactants = self._atoms(batch)
        scores = self._scores(model, states, batch).masked_fill(~reactants[:, None, :], -math.inf)
        return scores[products].argmax(-1)

    def _scores(self, model: PreTrainedModel, states: States, batch: Batch) -> Tensor:
        """The mapping head's scores before its softmax, ``[B, N, N]``; minus infinity at padding."""
        encoder: Any = model.encoder
        groups = encoder.albert_layer_groups
        attention = groups[self._layer * len(groups) // model.config.num_hidden_layers].albert_layers[0].attention
        size = attention.attention_head_size
        rows = slice(self._head * size, (self._head + 1) * size)
        below = states[self._layer]
        query, key = (
            torch.nn.functional.linear(below, projection.weight[rows], projection.bias[rows])
            for projection in (attention.query, attention.key)
        )
        return (query @ key.mT / math.sqrt(size)).masked_fill(~batch.attention_mask[:, None, :].bool(), -math.inf)

    def _atoms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Where the products' atoms and the reactants' atoms are: two masks ``[B, N]``."""
        atoms = torch.isin(batch.input_ids, self._atom_ids)
        behind = (batch.input_ids == self._arrow).cumsum(1).bool()
        return atoms & behind, atoms & ~behind

    def _text(self, rng: np.random.Generator, reactions: Sequence[str]) -> list[int]:
        """A mixture of 2 to ``MOST_REACTIONS`` of the reactions, or of fewer where they would be too long."""
        drawn = rng.permutation(len(reactions))[: int(rng.integers(2, MOST_REACTIONS + 1))]
        while True:
            sides = [reactions[number].split(ARROW) for number in drawn]
            reactants = [molecule for side in sides for molecule in side[0].split(".")]
            mixed = ".".join(reactants[place] for place in rng.permutation(len(reactants)))
            ids = self._loaded.encode(f"{mixed}{ARROW}{'.'.join(side[1] for side in sides)}")
            if len(ids) + 2 <= self._max_tokens:
                return [self._loaded.first, *ids, self._loaded.last]
            drawn = drawn[:-1]


def _is_atom(token: str) -> bool:
    """Atoms are the tokens with a letter, such as ``c``, ``Br`` and ``[nH]``."""
    return any(character.isalpha() for character in token)
