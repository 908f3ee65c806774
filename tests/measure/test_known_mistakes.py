"""The reason of an incorrect case names the known mistake that the result equals, and where it is worst, once."""

import math

import pytest
import torch
import wrong_attentions as wrong

from harness.cases import runner
from harness.core import registry
from harness.core.spec import Effort, OperationSpec

EFFORT = Effort(min_samples=2, max_samples=2, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)


def _scores(q, k):
    return q @ k.mT / math.sqrt(q.shape[-1])


def ignores_mask(q, k, v, mask):
    return wrong.right(q, k, v, None)


def inverts_mask(q, k, v, mask):
    return wrong.right(q, k, v, None if mask is None else ~mask)


def masks_queries(q, k, v, mask):
    scores = _scores(q, k)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, :, None], torch.finfo(scores.dtype).min)
    return scores.softmax(-1) @ v


def masks_after_softmax(q, k, v, mask):
    weights = _scores(q, k).softmax(-1)
    return (weights if mask is None else weights * mask[:, None, None, :]) @ v


def forgets_scale(q, k, v, mask):
    return wrong.right(q * math.sqrt(q.shape[-1]), k, v, mask)


def hides_the_future(q, k, v, mask):
    scores = _scores(q, k)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
    later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(-1).nan_to_num() @ v


def exchanges_q_and_k(q, k, v, mask):
    return wrong.right(k, q, v, mask)


def doubles(q, k, v, mask):
    return 2 * wrong.right(q, k, v, mask)


def computes_in_bfloat16(q, k, v, mask):
    return wrong.right(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask).to(q.dtype)


class _EightfoldGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 8 * gradient


def gradient_of_q_is_eightfold(q, k, v, mask):
    return wrong.right(_EightfoldGradient.apply(q), k, v, mask)


def record_of(function, **changes):
    plugin = wrong.plugin_of(function)
    registry.add(plugin)
    try:
        return runner.run(OperationSpec(attention=plugin.name, seq_len=64, heads=2, padding=0.25, **changes), EFFORT)
    finally:
        registry.remove(plugin.name)


@pytest.mark.parametrize(
    ("function", "equals"),
    [
        (ignores_mask, "the definition without the padding mask"),
        (inverts_mask, "the definition with the padding mask inverted (True is a real token)"),
        (masks_queries, "the definition with the padding mask applied to the queries instead of the keys"),
        (masks_after_softmax, "the definition with the padding mask applied after the normalisation"),
        (forgets_scale, "the definition without the factor 1/sqrt(head size)"),
        (hides_the_future, "causal attention: later keys are hidden from each query"),
        (exchanges_q_and_k, "the definition with q and k exchanged"),
        (doubles, "the right result times 2"),
        (computes_in_bfloat16, "the definition in bfloat16, by the size of its error"),
    ],
)
def test_the_reason_says_what_a_wrong_output_equals(function, equals):
    record = record_of(function)
    assert record.status == "incorrect"
    assert record.reasons[0].startswith("output: error ")
    assert ", worst in " in record.reasons[0]
    assert record.reasons[0].endswith(f"; it equals {equals}")
    assert len(record.reasons) == 2
    assert record.reasons[1].startswith("also wrong: ")


def test_a_mistake_is_named_in_16_bits_too():
    record = record_of(ignores_mask, dtype="bfloat16", mode="forward_backward")
    assert record.reasons[0].endswith("; it equals the definition without the padding mask")


def test_the_reason_says_what_a_wrong_gradient_of_a_right_output_equals():
    record = record_of(gradient_of_q_is_eightfold, mode="forward_backward")
    assert record.reasons[0].startswith("grad_q: error 7, ")
    assert record.reasons[0].endswith("; it equals the right result times 8")


def test_an_unknown_mistake_is_given_no_cause():
    (reason, others) = record_of(wrong.errs_at_odd_rows).reasons
    assert "equals" not in reason
    assert others.startswith("also wrong: ")
