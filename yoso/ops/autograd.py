"""The gradients of YOSO's operators: which operator computes which one, and which derivatives are refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

import yoso.ops.schemas  # noqa: F401  defines the operators that gradients are registered for
from yoso.torch_private import (
    allow_forward_mode_gradients,
    apply_at_current_transform,
    below_autograd,
    fill_default_arguments,
    forward_mode_is_active,
    inside_functorch_transform,
    operator_schema,
)

_ops = torch.ops.yoso
_library = torch.library.Library("yoso", "FRAGMENT")


def _register(name: str, backward: Callable[..., Any], save: Callable[..., None]) -> None:
    """Register an operator's gradient, as ``torch.library.register_autograd`` does, but for ``torch.func`` as well.

    The autograd function that ``register_autograd`` generates is refused under ``torch.func.grad`` and ``torch.vmap``
    (``yoso.torch_private`` has the issues). This one is applied as torch applies its own operators' functions: only for
    the transform that is being handled, while the dispatcher handles the remaining ones and so reaches the vmap rules.

    A call that needs no gradient skips the autograd function, whose overhead on the host is that of several kernel
    launches. Under forward-mode differentiation it is never skipped, so that the call is refused.
    """

    def forward(*args: Any) -> Any:
        with below_autograd(), _gradients_of_outer_transforms():
            return getattr(_ops, name)(*args)

    function: Any = type(
        f"Yoso_{name}",
        (torch.autograd.Function,),
        {
            "forward": staticmethod(forward),
            "backward": staticmethod(backward),
            "setup_context": staticmethod(save),
            "jvp": staticmethod(_refuse_forward_mode),
        },
    )
    schema = operator_schema(getattr(_ops, name).default)

    def call(*args: Any) -> Any:
        if not inside_functorch_transform():
            if _needs_no_gradient(args):
                return forward(*args)
            args, _ = fill_default_arguments(schema, args, {})
            return function.apply(*args)
        args, _ = fill_default_arguments(schema, args, {})
        return apply_at_current_transform(function, args)

    _library.impl(name, call, "Autograd")


def _needs_no_gradient(args: tuple[Any, ...]) -> bool:
    if forward_mode_is_active():
        return False
    return not torch.is_grad_enabled() or not any(isinstance(x, Tensor) and x.requires_grad for x in args)


@contextmanager
def _gradients_of_outer_transforms() -> Iterator[None]:
    """Record gradients for the outer transforms: the forward pass of an autograd function switches that off."""
    if not inside_functorch_transform():
        yield
        return
    with torch.enable_grad(), allow_forward_mode_gradients(True):
        yield


def _refuse_forward_mode(ctx: Any, *tangents: Any) -> Any:
    del ctx, tangents
    raise NotImplementedError(
        "YOSO has no forward-mode derivative (torch.func.jvp, jacfwd): its gradient is the authors' surrogate, "
        "which is defined for the backward pass only. Use torch.func.grad, vjp or jacrev, or "
        "attn_implementation='eager' (dense, with exact derivatives)"
    )


def _save_lsh_cumulation(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    query_codes, key_codes, value, query_mask, key_mask, ctx.hash_code_len, _unrounded = inputs
    ctx.value_dtype = value.dtype
    ctx.save_for_backward(query_codes, key_codes, query_mask, key_mask)


def _lsh_cumulation_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    query_codes, key_codes, query_mask, key_mask = ctx.saved_tensors
    # Collisions are symmetric: the gradient of value is the same sum with queries and keys exchanged.
    grad_value = _ops.lsh_cumulation(key_codes, query_codes, grad, key_mask, query_mask, ctx.hash_code_len)
    return None, None, grad_value.to(ctx.value_dtype), *(None,) * 4


_register("lsh_cumulation", _lsh_cumulation_backward, _save_lsh_cumulation)


def _save_lsh_attention(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    *tensors, ctx.hash_code_len, ctx.lsh_backward, _unrounded = inputs
    ctx.save_for_backward(*tensors)


def _lsh_attention_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    query, key, value, query_codes, key_codes, query_mask, key_mask = ctx.saved_tensors
    tau = ctx.hash_code_len
    if not ctx.lsh_backward:
        return *_ops.expectation_backward(grad, query, key, value, query_mask, key_mask, tau), *(None,) * 7
    codes_and_masks = query_codes, key_codes, query_mask, key_mask
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        grads = _ops.lsh_attention_backward(grad, query, key, value, *codes_and_masks, tau)
        return *grads, *(None,) * 7
    grad_value = _ops.lsh_cumulation(key_codes, query_codes, grad, key_mask, query_mask, tau)
    return None, None, grad_value.to(value.dtype), *(None,) * 7


_register("lsh_attention", _lsh_attention_backward, _save_lsh_attention)


def _save_rescored_attention(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    tensors, (tau, keys_per_query, floor, rest, ctx.lsh_backward, _unrounded) = inputs[:8], inputs[8:]
    ctx.sizes = tau, keys_per_query, floor, rest
    ctx.save_for_backward(*tensors)


def _rescored_attention_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    if not ctx.lsh_backward:
        query, key, value, _, _, _, query_mask, key_mask = ctx.saved_tensors
        grads = _ops.expectation_backward(grad, query, key, value, query_mask, key_mask, ctx.sizes[0])
    else:
        grads = _ops.rescored_attention_backward(grad, *ctx.saved_tensors, *ctx.sizes)
    return *grads, *(None,) * 11


_register("rescored_attention", _rescored_attention_backward, _save_rescored_attention)


def _save_expectation(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    *tensors, ctx.hash_code_len, ctx.exact_gradient, _unrounded = inputs
    ctx.save_for_backward(*tensors)


def _expectation_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    grads = _ops.expectation_backward(grad, *ctx.saved_tensors, ctx.hash_code_len, ctx.exact_gradient)
    return *grads, *(None,) * 5


_register("expectation", _expectation_backward, _save_expectation)


def _save_unit_rows(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, _dtype = inputs
    ctx.save_for_backward(x)


def _unit_rows_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return _ops.unit_rows_backward(grad, *ctx.saved_tensors), None


_register("unit_rows", _unit_rows_backward, _save_unit_rows)


def _save_floored_unit_rows(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, floor, _dtype = inputs
    ctx.save_for_backward(x, floor)


def _floored_unit_rows_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    return *_ops.floored_unit_rows_backward(grad, *ctx.saved_tensors), None


_register("floored_unit_rows", _floored_unit_rows_backward, _save_floored_unit_rows)


def _refuse(ctx: Any, *grads: Any) -> Any:
    del ctx, grads
    raise NotImplementedError(
        "YOSO has no second derivative: its gradient is the authors' surrogate, which is not the derivative of any "
        "function. Use attn_implementation='eager' (dense, with exact derivatives) for a double backward"
    )


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del ctx, inputs, output


for _name in (
    "lsh_attention_backward",
    "rescored_attention_backward",
    "expectation_backward",
    "unit_rows_backward",
    "floored_unit_rows_backward",
):
    _register(_name, _refuse, _save_nothing)
