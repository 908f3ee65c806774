"""The call's inputs and output: shape, strides, and which memory the module may write to and return."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.conformance.attention_under_test import (
    AttentionUnderTest,
    call,
    differences,
    other_inputs,
    results,
    same_bits,
)
from harness.measure import inputs


def _heads_last(x: Tensor) -> Tensor:
    """``[B, N, H, D]`` in memory, as a projection returns it."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def _part_of_a_wider_tensor(x: Tensor) -> Tensor:
    """Every third row of a larger tensor, as a fused projection of q, k and v returns them."""
    return torch.stack([x, x + 1, x - 1], 3)[:, :, :, 0]


def _strided_features(x: Tensor) -> Tensor:
    """The last stride is not 1."""
    return x.mT.contiguous().mT


def test_output_has_shape_dtype_and_device_of_q(attention: AttentionUnderTest) -> None:
    """``[B, H, N, D]``, in the dtype and on the device of q."""
    spec = attention.spec()
    tensors = inputs.make(spec)
    out = call(attention.build(spec), tensors)
    assert isinstance(out, Tensor), f"the module must return a tensor, got {type(out).__name__}"
    actual = (list(out.shape), out.dtype, out.device.type)
    expected = (list(tensors.q.shape), tensors.q.dtype, tensors.q.device.type)
    assert actual == expected, (
        f"the output must be {expected} like q, got {actual}; return one tensor [B, H, N, D], in q's dtype"
    )


@pytest.mark.parametrize("layout", [_heads_last, _part_of_a_wider_tensor, _strided_features])
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_strides_do_not_change_results(
    attention: AttentionUnderTest, layout: Callable[[Tensor], Tensor], mode: str
) -> None:
    """The same values in another memory layout give the same output and gradients."""
    spec = attention.spec(mode=mode)
    tensors = inputs.make(spec)
    laid_out = replace(
        tensors, q=layout(tensors.q), k=layout(tensors.k), v=layout(tensors.v), grad=layout(tensors.grad)
    )
    module = attention.build(spec)
    messages = differences(
        results(module, laid_out, spec), results(module, tensors, spec), attention.allowed(spec, tensors)
    )
    assert not messages, (
        f"inputs with strides {laid_out.q.stride()} give other results than contiguous ones: {'; '.join(messages)}; "
        "use the strides, or call .contiguous()"
    )


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_inputs_are_not_modified(attention: AttentionUnderTest, mode: str, padding: float) -> None:
    """q, k, v, the mask and the upstream gradient are unchanged after the call."""
    spec = attention.spec(mode=mode, padding=padding)
    tensors, unused = inputs.make(spec), inputs.make(spec)
    results(attention.build(spec), tensors, spec)
    for name in ("q", "k", "v", "key_padding_mask", "grad"):
        after, before = getattr(tensors, name), getattr(unused, name)
        assert after is None or torch.equal(after, before), (
            f"the call changed `{name}` in place; write into a tensor that the module allocates"
        )


def test_output_has_its_own_memory(attention: AttentionUnderTest) -> None:
    """The output is neither an input nor a buffer that the module writes again in the next call."""
    spec = attention.spec()
    module, tensors = attention.build(spec), inputs.make(spec)
    out = call(module, tensors)
    copy = out.clone()
    for name in ("q", "k", "v"):
        shared = out.untyped_storage().data_ptr() == getattr(tensors, name).untyped_storage().data_ptr()
        assert not shared, f"the output shares the memory of `{name}`; return a newly allocated tensor"
    call(module, other_inputs(spec))
    assert same_bits([out], [copy]), "a second call changed the first call's output; allocate the output in each call"
