"""The calls of a model case that are timed: each on new token ids, and some of them verified afterwards.

As for an operation (``harness.measure.timed_calls``), the results of the first, the last and a random timed call are
kept. Each is compared with the same call made again from the same weights and random numbers. The last one is repeated
while the attention of every layer is verified against its oracle, so that the timed result is one of a verified call.

A training step changes the weights. Its loss shows the forward pass, and the first moments of AdamW, which are linear
in the gradients, show the backward pass; both must be those of the repeated step.
"""

import secrets
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.record import Check
from harness.core.spec import ModelSpec, seed_from_entropy
from harness.measure import verify_layers
from harness.measure.kept_samples import LAST, KeptSamples, in_own_memory, of_timed_call
from harness.measure.sampled_rows import relative_error, set_generator
from harness.measure.timing import Batch, Purpose
from harness.measure.verify import compare, worst_by_name
from harness.models import model_case, transformers_seam
from harness.models.model_case import ModelCase

RESULT, GRADIENTS = "result of its repetition", "gradients of the weights in its repetition"
MOST_CALLS = 16
"""Most calls of a sample of a model so small that its call takes less than a millisecond."""
ALLOWED_EPS = 64
"""Allowed difference of a repeated call, in machine epsilons of the dtype, where an attention is deterministic."""
SPREAD_FACTOR = 8
"""Where an attention is not deterministic, the differences between repetitions count so many times in addition."""
REPETITIONS = 3
"""Repetitions from which these differences are taken."""


@dataclass(frozen=True)
class _Sample:
    """A sample that is kept: its first call and the kept one, and the state before the first one."""

    first_call: int
    kept_call: int
    generator: Tensor
    weights: dict[str, Any] | None
    optimizer: dict[str, Any] | None


class TimedModelCalls:
    """The calls of one case; implements ``harness.measure.timing.Calls``.

    Args:
        plugin: the attention.
        spec: the case.
        built: the case's model.
        seed: seed of all inputs; None: drawn from entropy.
    """

    def __init__(self, plugin: AttentionPlugin, spec: ModelSpec, built: ModelCase, seed: int | None = None) -> None:
        self._plugin, self._spec, self._built = plugin, spec, built
        self.seed = seed_from_entropy() if seed is None else seed
        self._eps = torch.finfo(torch_dtype(spec.dtype)).eps
        # The optimizer's state is compared after a step, so no step of the same sample may follow the kept one.
        self.most_per_sample = MOST_CALLS if built.optimizer is None else 1
        self.input_sets = self.most_per_sample
        self._calls = 0
        self._sample: _Sample | None = None
        self.kept: KeptSamples[tuple[_Sample, list[Tensor]]] = KeptSamples()

    def ready(self, count: int, purpose: Purpose) -> Batch:
        """Draw the token ids of the next calls; see ``harness.measure.timing.Calls``."""
        first, self._calls = self._calls, self._calls + count
        kept = secrets.randbelow(count)
        self._sample = self._state(first, first + kept) if self.kept.begin(purpose) else None
        return Batch([self._call(number) for number in range(first, self._calls)], kept)

    def returned(self, result: Any) -> None:
        """Keep the result if it is of the first, the last or a random sample."""
        if self._sample is not None:
            self.kept.keep((self._sample, self._results(result)))

    def check(self) -> list[Check]:
        """Verify the kept results; there are none before the first sample."""
        return worst_by_name([check for name, kept in self.kept.distinct() for check in self._check(name, *kept)])

    def _check(self, name: str, sample: _Sample, kept: list[Tensor]) -> list[Check]:
        repeated: list[Tensor] = []

        def run() -> None:
            repeated.extend(self._results(self._call(sample.kept_call)()))

        self._restore(sample)

        checks: list[Check] = []
        if name == LAST and not self._lacks_oracle():
            case, built = transformers_seam.layer_case(self._spec), self._built
            checks = verify_layers.check(self._plugin, case, built.model, run, built.attentions)
        else:
            run()
        spreads = self._spreads(sample, repeated)
        checks += [
            compare(part, again, before, ALLOWED_EPS * self._eps + SPREAD_FACTOR * spread)
            for part, before, again, spread in zip((RESULT, GRADIENTS), kept, repeated, spreads, strict=False)
        ]
        return [of_timed_call(check, name, sample.kept_call, self._calls) for check in checks]

    def _lacks_oracle(self) -> bool:
        """Whether the attention has weights that training steps have changed; the oracle has the initial ones."""
        return bool(self._built.attentions) and self._built.optimizer is not None

    def _spreads(self, sample: _Sample, first: list[Tensor]) -> list[float]:
        """The largest difference of further repetitions from the first one; 0 where the attention is deterministic."""
        deterministic = self._plugin.capabilities.deterministic
        if deterministic is True or deterministic == torch.device(self._spec.device).type:
            return [0.0 for _ in first]
        spreads = [0.0 for _ in first]
        for _ in range(REPETITIONS - 1):
            self._restore(sample)
            again = self._results(self._call(sample.kept_call)())
            spreads = [max(spread, relative_error(a, b)) for spread, a, b in zip(spreads, again, first, strict=True)]
        return spreads

    def _call(self, number: int) -> Any:
        return partial(self._built.run, model_case.random_inputs(self._spec, self.seed + number))

    def _results(self, result: Tensor) -> list[Tensor]:
        """The call's result and, after a training step, AdamW's first moments of all weights in one tensor."""
        results = [in_own_memory(result)]
        if self._built.optimizer is not None:
            states = self._built.optimizer.state.values()
            results.append(torch.cat([in_own_memory(state["exp_avg"]).flatten() for state in states]))
        return results

    def _state(self, first_call: int, kept_call: int) -> _Sample:
        generator = torch.get_rng_state()
        if self._built.optimizer is None:
            return _Sample(first_call, kept_call, generator, None, None)
        weights = {name: in_own_memory(tensor) for name, tensor in self._built.model.state_dict().items()}
        return _Sample(first_call, kept_call, generator, weights, deepcopy(self._built.optimizer.state_dict()))

    def _restore(self, sample: _Sample) -> None:
        """Make everything as it was before the kept call; earlier calls of its sample drew random numbers, too."""
        if sample.weights is not None and sample.optimizer is not None:
            assert self._built.optimizer is not None
            self._built.model.load_state_dict(sample.weights)
            self._built.optimizer.load_state_dict(deepcopy(sample.optimizer))
        set_generator(sample.generator)
        for number in range(sample.first_call, sample.kept_call):
            self._call(number)()
