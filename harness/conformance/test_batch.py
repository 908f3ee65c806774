"""The output of one sequence does not depend on the other sequences of its batch."""

from dataclasses import replace

import pytest
import torch

from harness.conformance.attention_under_test import AttentionUnderTest, call, other_inputs
from harness.measure import inputs
from harness.measure.sampled_rows import relative_error


def test_output_does_not_depend_on_other_sequences(attention: AttentionUnderTest) -> None:
    """Changing every sequence but the first does not change the first one's output."""
    spec = attention.spec()
    tensors, others = inputs.make(spec), other_inputs(spec)
    q, k, v = (torch.cat([getattr(tensors, name)[:1], getattr(others, name)[1:]]) for name in ("q", "k", "v"))
    module = attention.build(spec)
    before, after = call(module, tensors), call(module, replace(tensors, q=q, k=k, v=v))
    error, allowed = relative_error(after[:1], before[:1]), attention.allowed(spec, tensors)
    assert error <= allowed, (
        f"the first sequence's output changed by {error:.3g} when only other sequences changed, allowed {allowed:.3g}; "
        "reduce over the tokens of one sequence, never over the batch"
    )


def test_output_does_not_depend_on_batch_size(attention: AttentionUnderTest) -> None:
    """Up to rounding, a sequence alone gives its output in a batch; skipped for attentions with random numbers."""
    spec = attention.spec()
    tensors = inputs.make(spec)
    module = attention.build(spec)
    batch_output = call(module, tensors, seed=0)
    if relative_error(call(module, tensors, seed=1), batch_output) > attention.allowed(spec, tensors):
        pytest.skip("it draws random numbers in each call; a sequence alone draws other ones than in a batch")
    single_spec = attention.spec(batch=1)
    last = replace(tensors, q=tensors.q[-1:], k=tensors.k[-1:], v=tensors.v[-1:], grad=tensors.grad[-1:])
    single_output = call(attention.fresh_copy(module, single_spec), last)
    error, allowed = relative_error(single_output, batch_output[-1:]), attention.allowed(spec, tensors)
    assert error <= allowed, (
        f"the output of a sequence alone differs by {error:.3g} from its output in a batch, allowed {allowed:.3g}; "
        "the output must depend on the tokens of its own sequence only"
    )
