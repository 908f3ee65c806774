"""Sampled YOSO with its convolution: equal to its definition, and to YOSO if the weights are zero."""

import failed_sentences
import pytest
import torch

from harness.core import registry
from harness.core.spec import ModelSpec, OperationSpec, TaskSpec
from harness.measure import inputs, verify

PLUGIN = registry.get("yoso_conv")


def make(seq_len, knobs=None, **changes):
    sizes = {"heads": 2, "batch": 2, "head_dim": 24, "mode": "forward_backward"} | changes
    return OperationSpec(attention="yoso_conv", seq_len=seq_len, knobs={"num_hash": 8} | (knobs or {}), **sizes)


@pytest.mark.parametrize("seq_len", [1, 7, 131])
@pytest.mark.parametrize("padding", [0.0, 0.25])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("window", [1, 5, 33])
def test_it_equals_its_oracle(seq_len, padding, dtype, window):
    spec = make(seq_len, {"conv_window": window}, padding=padding, dtype=dtype)
    assert PLUGIN.unsupported(spec) == []
    assert failed_sentences.of(verify.check(PLUGIN, spec, PLUGIN.build(spec), inputs.make(spec))) == []


def test_it_is_yoso_plus_a_sum_over_the_window():
    """One output written out, and its gradient with respect to the weights."""
    spec = make(40, {"conv_window": 5})
    module = PLUGIN.build(spec)
    q, k, v = (torch.randn(2, 2, 40, 24) for _ in range(3))
    mask = torch.arange(40) < torch.tensor([[40], [21]])
    torch.manual_seed(0)
    output = module(q, k, v, mask)
    torch.manual_seed(0)
    attention = module.attention(q, k, v, mask)
    taps = module.convolution.weight[1, 0, :, 0]
    expected = attention[1, 1, 19] + sum(taps[t] * v[1, 1, 17 + t] for t in range(4))  # position 21 is padding
    torch.testing.assert_close(output[1, 1, 19], expected)
    (grad,) = torch.autograd.grad(output[0, 1, 10, 3], module.convolution.weight)
    torch.testing.assert_close(grad[1, 0, :, 0], v[0, 1, 8:13, 3])
    assert grad[0].eq(0).all()


def test_with_zero_weights_it_is_yoso_bit_for_bit():
    module = PLUGIN.build(make(40))
    q, k, v = (torch.randn(2, 2, 40, 24) for _ in range(3))
    torch.nn.init.zeros_(module.convolution.weight)
    torch.manual_seed(0)
    output = module(q, k, v, None)
    torch.manual_seed(0)
    spec = OperationSpec(attention="yoso", seq_len=40, knobs={"num_hash": 8})
    assert torch.equal(output, registry.get("yoso").build(spec)(q, k, v, None))


def test_the_weights_depend_on_the_seed_alone():
    first, same, other = (PLUGIN.build(make(40, seed=seed)).convolution.weight for seed in (0, 0, 1))
    assert first.shape == (2, 1, 33, 1)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [({"conv_window": 4}, "odd and at least 1, got 4"), ({"conv_window": 0}, "got 0"), ({"num_hash": 0}, "num_hash")],
)
def test_knobs_out_of_range_are_unsupported(knobs, words):
    (reason,) = PLUGIN.unsupported(make(40, knobs))
    assert words in reason


@pytest.mark.parametrize("kind", [ModelSpec, TaskSpec])
def test_a_model_without_its_own_convolution_supports_it(kind):
    assert PLUGIN.unsupported(kind(attention="yoso_conv", seq_len=64)) == []


def test_its_cost_is_that_of_yoso_plus_the_convolution():
    spec = make(40, mode="forward")
    yoso = registry.get("yoso").cost(spec.model_copy(update={"attention": "yoso"}))
    cost = PLUGIN.cost(spec)
    assert cost["vector float32"] - yoso["vector float32"] == 2 * 2 * 2 * 40 * 24 * 33
    assert {name: cost[name] for name in yoso if name != "vector float32"} == {
        name: amount for name, amount in yoso.items() if name != "vector float32"
    }
    assert PLUGIN.cost(ModelSpec(attention="yoso_conv", seq_len=40)) is None
