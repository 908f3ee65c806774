"""The calls of an operation case that are timed: each on new numbers, and some of them verified afterwards.

Verification before the timing shows that an attention can compute the right result, not that it does so while the clock
runs. So every timed call has inputs that no call had before, drawn from entropy, and the results of three of them are
kept: the first, the last, and one at random. They are compared with the oracle after the last sample was taken
(``harness.measure.recorded_call``). Writing inputs and keeping results happens while the clock is stopped.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.plugin import AttentionPlugin
from harness.core.record import Check
from harness.core.spec import OperationSpec
from harness.measure import recorded_call, verify
from harness.measure.inputs import FreshInputs, Inputs, bytes_per_call
from harness.measure.kept_samples import LAST, KeptSamples, in_own_memory, of_timed_call
from harness.measure.recorded_call import RecordedCall
from harness.measure.sampled_rows import WrongShape, checked_output, set_generator
from harness.measure.timing import Batch, Purpose

Result = tuple[Tensor, tuple[Tensor | None, ...]]
"""Output, and the gradients of q, k and v: none without a backward pass, None for one that the output ignores."""
RING_BYTES = 2**24
"""Limit for the inputs that are ready at once for a sample of short calls: about the size of a CPU's last cache."""
MOST_CALLS = 200
"""Most calls of a sample, however small their inputs are."""
CUDA_CALLS = 2
"""Calls of a sample on CUDA; see ``harness.measure.device_time``."""
ROWS_OF_OTHERS = 24
"""Rows of the first and the random call that are compared with the oracle; of the last one ``verify.ROWS``."""


def operation_call(module: nn.Module, tensors: Inputs, backward: bool) -> Callable[[], Result]:
    """A call of the module on these tensors, ready to run. A backward pass is also to the module's own weights."""
    q, k, v = (x.detach().requires_grad_(backward) for x in (tensors.q, tensors.k, tensors.v))
    weights = [weight for weight in module.parameters() if weight.requires_grad] if backward else []

    def call() -> Result:
        out = module(q, k, v, tensors.key_padding_mask)
        if not backward:
            return out, ()
        return out, torch.autograd.grad(out, (q, k, v, *weights), tensors.grad, allow_unused=True)[:3]

    return call


@dataclass(frozen=True)
class _Sample:
    """Which calls a sample has, and the state of torch's generator before its first call."""

    first_call: int
    kept_call: int
    generator: Tensor


@dataclass(frozen=True)
class _Kept:
    """The result of a call, in memory that the module does not know."""

    sample: _Sample
    output: Tensor
    gradients: tuple[Tensor, ...]


class TimedCalls:
    """The calls of one case; implements ``harness.measure.timing.Calls``.

    Args:
        plugin: gives the oracle.
        spec: the case.
        module: what is called.
        seed: seed of all inputs; None: drawn from entropy.
    """

    def __init__(
        self, plugin: AttentionPlugin, spec: OperationSpec, module: nn.Module, seed: int | None = None
    ) -> None:
        self._plugin, self._spec, self._module = plugin, spec, module
        self._backward = spec.mode == "forward_backward"
        on_cuda = torch.device(spec.device).type == "cuda"
        fitting = min(max(RING_BYTES // bytes_per_call(spec), 1), MOST_CALLS)
        self.most_per_sample = CUDA_CALLS if on_cuda else fitting
        # One set more than calls in a sample, so that two samples do not begin in the same memory.
        self._inputs = FreshInputs(spec, seed, self.most_per_sample + 1)
        self.seed = self._inputs.seed
        self.input_sets = self.most_per_sample + 1
        """Sets of tensors that the calls use in turn, at most."""
        self._calls = 0
        self.kept: KeptSamples[_Kept] = KeptSamples()
        self._wrong: list[Check] = []
        self._result: Result | None = None

    def ready(self, count: int, purpose: Purpose) -> Batch:
        """Write the inputs of the next calls; see ``harness.measure.timing.Calls``."""
        self._result = None  # frees the last result while the clock is stopped
        first, self._calls = self._calls, self._calls + count
        kept = secrets.randbelow(count)
        # No more sets than this sample needs, so that its inputs are where writing them has left them: in the caches.
        calls = [self._call(self._inputs.of_call(number, count + 1)) for number in range(first, self._calls)]
        self._is_kept = self.kept.begin(purpose)
        self._sample = _Sample(first, first + kept, torch.get_rng_state())
        return Batch(calls, kept)

    def returned(self, result: Any) -> None:
        """Keep the result if it is of the first, the last or a random sample."""
        self._result = result
        try:
            output = checked_output(result[0], self._query)
        except WrongShape as error:
            if not self._wrong:
                wrong = Check(what=str(error), error=None, allowed=0.0, passed=False)
                self._wrong.append(of_timed_call(wrong, "one of them", self._sample.kept_call, self._calls))
            return
        if self._is_kept:
            gradients = (torch.zeros_like(self._query) if gradient is None else gradient for gradient in result[1])
            self.kept.keep(_Kept(self._sample, in_own_memory(output), tuple(map(in_own_memory, gradients))))

    def check(self) -> list[Check]:
        """Verify the kept results; there are none before the first sample."""
        checks = list(self._wrong)
        for name, kept in self.kept.distinct():
            rows = verify.ROWS if name == LAST else ROWS_OF_OTHERS
            found = recorded_call.check(self._plugin, self._spec, self._recorded(kept), rows)
            checks += [of_timed_call(check, name, kept.sample.kept_call, self._calls) for check in found]
        return verify.worst_by_name(checks)

    def _recorded(self, kept: _Kept) -> RecordedCall:
        """The kept call. Its sample is run again up to it, because earlier calls draw random numbers, too."""
        sample = kept.sample
        set_generator(sample.generator)
        with torch.set_grad_enabled(self._backward):
            for number in range(sample.first_call, sample.kept_call):
                self._call(self._inputs.again(number))()
        generator = torch.get_rng_state()

        def repeat(tensors: Inputs) -> Tensor:
            set_generator(generator)
            output: Tensor = self._module(tensors.q, tensors.k, tensors.v, tensors.key_padding_mask)
            return output

        inputs = self._inputs.again(sample.kept_call)
        device = inputs.q.device
        gradients = tuple(gradient.to(device) for gradient in kept.gradients)
        return RecordedCall(inputs, kept.output.to(device), gradients, generator, repeat)

    def _call(self, tensors: Inputs) -> Callable[[], Result]:
        self._query = tensors.q  # every call has queries of this shape and dtype
        return operation_call(self._module, tensors, self._backward)
