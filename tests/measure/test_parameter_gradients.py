"""The gradients of an attention's own weights are verified in every forward_backward case."""

import pytest
import torch
import wrong_attentions as wrong
from torch import nn

from harness.core import registry
from harness.core.spec import OperationSpec
from harness.measure import inputs, neighbours, parameter_gradients
from harness.measure.timed_calls import operation_call


class _Scaled(nn.Module):
    """Softmax attention whose output is multiplied by a weight of each head, one in the beginning."""

    def __init__(self, heads, transform=lambda weight: weight):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads))
        self._transform = transform

    def forward(self, q, k, v, mask):
        weight = self._transform(self.weight)
        return wrong.right(q, k, v, mask) * weight[:, None, None].to(q.dtype)


class _Multiplied(torch.autograd.Function):
    """Multiplies the gradient by ``factor``, and nothing in the forward pass."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


def failed(transform, **changes):
    plugin = wrong.StubPlugin("scaled", lambda: None)
    plugin.build = lambda spec: _Scaled(spec.heads, transform)
    spec = OperationSpec(attention="scaled", seq_len=64, heads=3, mode="forward_backward", **changes)
    return [check.what for check in neighbours.check(plugin, spec) if not check.passed]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_right_gradients_of_weights_pass(dtype):
    assert failed(lambda weight: weight, dtype=dtype) == []


@pytest.mark.parametrize(
    ("transform", "what"),
    [
        (torch.Tensor.detach, "there is none"),
        (lambda weight: _Multiplied.apply(weight, 0.0), "it is zero everywhere"),
        (lambda weight: _Multiplied.apply(weight, float("nan")), "it is not finite"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_weight_without_a_usable_gradient_is_incorrect(transform, what, dtype):
    assert any(name.endswith(f"gradient of weight weight: {what}") for name in failed(transform, dtype=dtype))


@pytest.mark.parametrize("factor", [[2.0, 2.0, 2.0], [-1.0, -1.0, -1.0], [1.0, 1.0, 0.0]])
def test_a_wrong_gradient_of_a_weight_is_incorrect(factor):
    def transform(weight):
        return _Multiplied.apply(weight, torch.tensor(factor)[: len(weight)])

    assert any(name.endswith(": gradient of weight weight") for name in failed(transform))


@pytest.mark.parametrize("name", ["linformer", "yoso_conv"])
def test_weights_of_the_shipped_attentions_have_right_gradients(name):
    plugin = registry.get(name)
    spec = OperationSpec(attention=name, seq_len=48, heads=2, mode="forward_backward")
    module = plugin.build(spec).train()
    checks = parameter_gradients.check(plugin, spec, module, inputs.make(spec))
    assert checks
    assert all(check.passed for check in checks)


def test_weights_are_unchanged_and_their_gradients_are_timed():
    module = _Scaled(2)
    spec = OperationSpec(attention="softmax", seq_len=32, heads=2, mode="forward_backward")
    calls = []
    module.weight.register_hook(calls.append)
    operation_call(module, inputs.make(spec), backward=True)()
    assert len(calls) == 1
    parameter_gradients.check(registry.get("softmax"), spec, module, inputs.make(spec))
    assert module.weight.tolist() == [1.0, 1.0]
