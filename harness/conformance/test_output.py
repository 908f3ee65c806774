"""The call: what comes in and what comes out."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.conformance.attention import Attention, call, differences, other, results, same_bits
from harness.measure import inputs


def _heads_last(x: Tensor) -> Tensor:
    """As a projection gives it: ``[B, N, H, D]`` in memory."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def _part_of_a_wider_tensor(x: Tensor) -> Tensor:
    """As one of several that a fused projection gives: every third row."""
    return torch.stack([x, x + 1, x - 1], 3)[:, :, :, 0]


def _columns_apart(x: Tensor) -> Tensor:
    """The last stride is not 1."""
    return x.mT.contiguous().mT


def test_shape_dtype_and_device_are_the_querys(attention: Attention) -> None:
    """``[B, H, N, D]`` as q."""
    spec = attention.spec()
    given = inputs.make(spec)
    out = call(attention.build(spec), given)
    assert isinstance(out, Tensor), f"the module must return a tensor, got {type(out).__name__}"
    found = (list(out.shape), out.dtype, out.device.type)
    wanted = (list(given.q.shape), given.q.dtype, given.q.device.type)
    assert found == wanted, f"the output must be {wanted} as q is, got {found}; return one tensor [B, H, N, D], uncast"


@pytest.mark.parametrize("layout", [_heads_last, _part_of_a_wider_tensor, _columns_apart])
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_strides_do_not_matter(attention: Attention, layout: Callable[[Tensor], Tensor], mode: str) -> None:
    """The same numbers in another layout give the same output and gradients."""
    spec = attention.spec(mode=mode)
    given = inputs.make(spec)
    laid_out = replace(given, q=layout(given.q), k=layout(given.k), v=layout(given.v), grad=layout(given.grad))
    module = attention.build(spec)
    apart = differences(results(module, laid_out, spec), results(module, given, spec), attention.allowed(spec, given))
    assert not apart, (
        f"inputs of strides {laid_out.q.stride()} give other results than contiguous ones: {'; '.join(apart)}; read "
        "strides, or call .contiguous()"
    )


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_inputs_are_left_as_they_were(attention: Attention, mode: str, padding: float) -> None:
    """q, k, v, the mask and the gradient of the output belong to the caller."""
    spec = attention.spec(mode=mode, padding=padding)
    given, kept = inputs.make(spec), inputs.make(spec)
    results(attention.build(spec), given, spec)
    for name in ("q", "k", "v", "key_padding_mask", "grad"):
        mine, theirs = getattr(given, name), getattr(kept, name)
        assert mine is None or torch.equal(mine, theirs), (
            f"the call changed `{name}` in place; write into a tensor of your own"
        )


def test_an_output_outlives_the_next_call(attention: Attention) -> None:
    """It is neither one of the inputs nor a buffer that the module writes again."""
    spec = attention.spec()
    module, given = attention.build(spec), inputs.make(spec)
    out = call(module, given)
    kept = out.clone()
    for name in ("q", "k", "v"):
        shared = out.untyped_storage().data_ptr() == getattr(given, name).untyped_storage().data_ptr()
        assert not shared, f"the output shares the memory of `{name}`; return a tensor of its own"
    call(module, other(spec))
    assert same_bits([out], [kept]), "a second call changed the first call's output; allocate the output in each call"
