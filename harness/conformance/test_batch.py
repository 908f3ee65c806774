"""The batch: one sequence's output does not depend on what else is in it."""

from dataclasses import replace

import pytest
import torch

from harness.conformance.attention import Attention, call, other
from harness.measure import inputs
from harness.measure.sampled_rows import relative_error


def test_other_sequences_are_not_seen(attention: Attention) -> None:
    """The other sequences of the batch take other numbers: the first one's output stays."""
    spec = attention.spec()
    given, others = inputs.make(spec), other(spec)
    mixed = [torch.cat([getattr(given, name)[:1], getattr(others, name)[1:]]) for name in ("q", "k", "v")]
    module = attention.build(spec)
    before, after = call(module, given), call(module, replace(given, q=mixed[0], k=mixed[1], v=mixed[2]))
    error, allowed = relative_error(after[:1], before[:1]), attention.allowed(spec, given)
    assert error <= allowed, (
        f"the first sequence's output moved by {error:.3g} when only the others changed, allowed {allowed:.3g}; "
        "reduce over the tokens of one sequence alone, never over the batch"
    )


def test_a_sequence_alone_gives_what_it_gives_in_a_batch(attention: Attention) -> None:
    """Batch invariance up to rounding, of what draws no random numbers."""
    spec = attention.spec()
    given = inputs.make(spec)
    module = attention.build(spec)
    whole = call(module, given, seed=0)
    if relative_error(call(module, given, seed=1), whole) > attention.allowed(spec, given):
        pytest.skip("it draws random numbers at each call: alone, a sequence meets others of them")
    alone = attention.spec(batch=1)
    last = replace(given, q=given.q[-1:], k=given.k[-1:], v=given.v[-1:], grad=given.grad[-1:])
    found = call(attention.twin(module, alone), last)
    error, allowed = relative_error(found, whole[-1:]), attention.allowed(spec, given)
    assert error <= allowed, (
        f"a sequence alone gives an output {error:.3g} away from its own in a batch, allowed {allowed:.3g}; "
        "nothing but the tokens of the sequence may decide"
    )
