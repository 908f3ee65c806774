"""The gradients of YOSO's operators: which operator computes which, and what is refused."""

from typing import Any

import torch
from torch import Tensor

import yoso.ops  # noqa: F401  defines the operators that gradients are registered for

_ops = torch.ops.yoso


def _save_lsh_cumulation(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    query_codes, key_codes, _value, query_mask, key_mask, ctx.hash_code_len = inputs
    ctx.save_for_backward(query_codes, key_codes, query_mask, key_mask)


def _lsh_cumulation_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    query_codes, key_codes, query_mask, key_mask = ctx.saved_tensors
    # A collision is symmetric: the gradient of value is the same sum with queries and keys exchanged.
    grad_value = _ops.lsh_cumulation(key_codes, query_codes, grad, key_mask, query_mask, ctx.hash_code_len)
    return None, None, grad_value, None, None, None


torch.library.register_autograd("yoso::lsh_cumulation", _lsh_cumulation_backward, setup_context=_save_lsh_cumulation)


def _save_lsh_attention(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    *tensors, ctx.hash_code_len, ctx.lsh_backward = inputs
    ctx.save_for_backward(*tensors)


def _lsh_attention_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    query, key, value, query_codes, key_codes, query_mask, key_mask = ctx.saved_tensors
    tau = ctx.hash_code_len
    if not ctx.lsh_backward:
        grads = _ops.expectation_backward(grad, query, key, value, query_mask, key_mask, tau)
        return *grads, *(None,) * 6
    grad_query = grad_key = grad_value = None
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        grad_query, grad_key = _ops.lsh_attention_backward(
            grad, query, key, value, query_codes, key_codes, query_mask, key_mask, tau
        )
    if ctx.needs_input_grad[2]:
        grad_value = _ops.lsh_cumulation(key_codes, query_codes, grad, key_mask, query_mask, tau)
    return grad_query, grad_key, grad_value, *(None,) * 6


torch.library.register_autograd("yoso::lsh_attention", _lsh_attention_backward, setup_context=_save_lsh_attention)


def _save_expectation(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    *tensors, ctx.hash_code_len = inputs
    ctx.save_for_backward(*tensors)


def _expectation_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    grads = _ops.expectation_backward(grad, *ctx.saved_tensors, ctx.hash_code_len)
    return *grads, None, None, None


torch.library.register_autograd("yoso::expectation", _expectation_backward, setup_context=_save_expectation)


def _save_unit_rows(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs)


def _unit_rows_backward(ctx: Any, grad: Tensor) -> Tensor:
    return _ops.unit_rows_backward(grad, *ctx.saved_tensors)


torch.library.register_autograd("yoso::unit_rows", _unit_rows_backward, setup_context=_save_unit_rows)


def _refuse(ctx: Any, *grads: Any) -> Any:
    del ctx, grads
    raise NotImplementedError(
        "YOSO has no second derivative: its gradient is the authors' surrogate, which is not the derivative of any "
        "function. Use attn_implementation='eager' (dense, exact derivatives) where double backward is needed"
    )


for _name in ("lsh_attention_backward", "expectation_backward", "unit_rows_backward"):
    torch.library.register_autograd(f"yoso::{_name}", _refuse)
