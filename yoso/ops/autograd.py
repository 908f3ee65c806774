"""The gradients of YOSO's operators: which operator computes which, and what is refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch._library.utils import fill_defaults
from torch.autograd.forward_ad import _set_fwd_grad_enabled

import yoso.ops.operators  # noqa: F401  defines the operators that gradients are registered for

_ops = torch.ops.yoso
_library = torch.library.Library("yoso", "FRAGMENT")


def _register(name: str, backward: Callable[..., Any], save: Callable[..., None]) -> None:
    """``torch.library.register_autograd`` that also serves ``torch.func``.

    Its generated Function is refused under ``torch.func.grad`` and vmap. This one is applied as torch applies its own
    operators' nodes: for the one transform whose turn it is, while what lies below is left to the dispatcher, and so to
    the vmap rules. Under forward-mode differentiation it is applied without a gradient too, and refuses; else a call
    without gradients goes past the node, which costs the host as much as several launches.
    """

    def forward(*args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd(), _transforms_below():
            return getattr(_ops, name)(*args)

    node: Any = type(
        f"Yoso_{name}",
        (torch.autograd.Function,),
        {
            "forward": staticmethod(forward),
            "backward": staticmethod(backward),
            "setup_context": staticmethod(save),
            "jvp": staticmethod(_refuse_forward_mode),
        },
    )

    schema = getattr(_ops, name).default._schema

    def apply(*args: Any) -> Any:
        if not torch._C._are_functorch_transforms_active():
            if _no_derivative_of(args):
                return forward(*args)
            args, _ = fill_defaults(schema, args, {})  # the dispatcher drops what equals its default
            return node.apply(*args)
        args, _ = fill_defaults(schema, args, {})
        with enable_single_level_autograd_function():
            return super(torch.autograd.Function, node).apply(*args)  # past the refusal of Function.apply

    _library.impl(name, apply, "Autograd")


def _no_derivative_of(args: tuple[Any, ...]) -> bool:
    if torch.autograd.forward_ad._current_level >= 0:
        return False
    return not torch.is_grad_enabled() or not any(isinstance(x, Tensor) and x.requires_grad for x in args)


@contextmanager
def _transforms_below() -> Iterator[None]:
    """A Function's forward runs without gradients; the transforms further out must still record theirs."""
    if not torch._C._are_functorch_transforms_active():
        yield
        return
    with torch.enable_grad(), _set_fwd_grad_enabled(True):
        yield


def _refuse_forward_mode(ctx: Any, *tangents: Any) -> Any:
    del ctx, tangents
    raise NotImplementedError(
        "YOSO has no forward-mode derivative (torch.func.jvp, jacfwd): its gradient is the authors' surrogate, "
        "which is defined backwards only. Use torch.func.grad, vjp or jacrev, or attn_implementation='eager'"
    )


def _save_lsh_cumulation(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    query_codes, key_codes, _value, query_mask, key_mask, ctx.hash_code_len = inputs
    ctx.save_for_backward(query_codes, key_codes, query_mask, key_mask)


def _lsh_cumulation_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    query_codes, key_codes, query_mask, key_mask = ctx.saved_tensors
    # A collision is symmetric: the gradient of value is the same sum with queries and keys exchanged.
    grad_value = _ops.lsh_cumulation(key_codes, query_codes, grad, key_mask, query_mask, ctx.hash_code_len)
    return None, None, grad_value, None, None, None


_register("lsh_cumulation", _lsh_cumulation_backward, _save_lsh_cumulation)


def _save_lsh_attention(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    *tensors, ctx.hash_code_len, ctx.lsh_backward = inputs
    ctx.save_for_backward(*tensors)


def _lsh_attention_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    query, key, value, query_codes, key_codes, query_mask, key_mask = ctx.saved_tensors
    tau = ctx.hash_code_len
    if not ctx.lsh_backward:
        return *_ops.expectation_backward(grad, query, key, value, query_mask, key_mask, tau), *(None,) * 6
    codes_and_masks = query_codes, key_codes, query_mask, key_mask
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        grads = _ops.lsh_attention_backward(grad, query, key, value, *codes_and_masks, tau)
        return *grads, *(None,) * 6
    grad_value = _ops.lsh_cumulation(key_codes, query_codes, grad, key_mask, query_mask, tau)
    return None, None, grad_value, *(None,) * 6


_register("lsh_attention", _lsh_attention_backward, _save_lsh_attention)


def _save_expectation(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    *tensors, ctx.hash_code_len, ctx.exact_gradient = inputs
    ctx.save_for_backward(*tensors)


def _expectation_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    grads = _ops.expectation_backward(grad, *ctx.saved_tensors, ctx.hash_code_len, ctx.exact_gradient)
    return *grads, None, None, None, None


_register("expectation", _expectation_backward, _save_expectation)


def _save_unit_rows(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs)


def _unit_rows_backward(ctx: Any, grad: Tensor) -> Tensor:
    return _ops.unit_rows_backward(grad, *ctx.saved_tensors)


_register("unit_rows", _unit_rows_backward, _save_unit_rows)


def _refuse(ctx: Any, *grads: Any) -> Any:
    del ctx, grads
    raise NotImplementedError(
        "YOSO has no second derivative: its gradient is the authors' surrogate, which is not the derivative of any "
        "function. Use attn_implementation='eager' (dense, exact derivatives) where double backward is needed"
    )


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del ctx, inputs, output


for _name in ("lsh_attention_backward", "expectation_backward", "unit_rows_backward"):
    _register(_name, _refuse, _save_nothing)
