"""YOSO's operators, ``torch.ops.yoso.*``: schemas, plain-torch kernels, fake kernels and gradients.

The schemas stand here and not in C++, so that the operators exist where nothing can be compiled. The plain-torch
kernel is registered for every device; the first call on a device tries to build and load that device's native kernels
(``yoso.build``), whose registration for the device's own dispatch key then takes precedence.

Shapes, for B sequences, H heads, m hashes of tau bits: query and key ``[B, H, N_q | N_k, D]``, value
``[B, H, N_k, D_v]``, codes uint16 ``[B, H, m, N_q | N_k]``, masks bool ``[B, N_q | N_k]`` (True: a real token) or None.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yoso.build import jit
from yoso.ops import portable
from yoso.ops.arguments import check_attention, check_codes, check_hash
from yoso.ops.autocast import to_autocast_dtype

_COMMON = "Tensor? query_mask, Tensor? key_mask, int hash_code_len"
_CODES = "Tensor query_codes, Tensor key_codes"
_QKV = "Tensor query, Tensor key, Tensor value"

SCHEMAS = {
    "fast_hash": "(Tensor x, Tensor planes, int num_hash, int hash_code_len, str hash_family) -> Tensor",
    "lsh_cumulation": f"({_CODES}, Tensor value, {_COMMON}) -> Tensor",
    "lsh_attention": f"({_QKV}, {_CODES}, {_COMMON}, bool lsh_backward) -> Tensor",
    "lsh_attention_backward": f"(Tensor grad, {_QKV}, {_CODES}, {_COMMON}) -> (Tensor, Tensor, Tensor)",
    "expectation": f"({_QKV}, {_COMMON}, bool exact_gradient=False) -> Tensor",
    "expectation_backward": f"(Tensor grad, {_QKV}, {_COMMON}, bool exact_gradient=False) -> (Tensor, Tensor, Tensor)",
    "unit_rows": "(Tensor x) -> Tensor",
    "unit_rows_": "(Tensor(a!) x) -> ()",
    "unit_rows_backward": "(Tensor grad, Tensor x) -> Tensor",
}
for _name, _schema in SCHEMAS.items():
    torch.library.define(f"yoso::{_name}", _schema)

_ops = torch.ops.yoso


def fast_hash(x: Tensor, planes: Tensor, *, num_hash: int, hash_code_len: int, hash_family: str) -> Tensor:
    """The hash codes of vectors.

    Args:
        x: float ``[B, H, N, D]``; its length does not matter, a code depends on directions only.
        planes: from ``yoso.ops.hashing.draw_planes``; set ``g % groups`` serves the g-th of the B * H heads.
        num_hash: m.
        hash_code_len: tau, 1 to 16.
        hash_family: one of ``yoso.ops.hashing.HASH_FAMILIES``.

    Returns:
        uint16 ``[B, H, m, N]``: bit t is set where the projection on the t-th direction is positive.

    Raises:
        ValueError: arguments that do not fit together.
    """
    check_hash(x, planes, num_hash, hash_code_len, hash_family)
    return _ops.fast_hash(x, planes, num_hash, hash_code_len, hash_family)


def lsh_cumulation(
    query_codes: Tensor,
    key_codes: Tensor,
    value: Tensor,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    hash_code_len: int,
) -> Tensor:
    """``out[i] = 1/m sum_h sum_j [query_codes[h, i] == key_codes[h, j]] value[j]`` in O(m (N_q + N_k) D_v).

    Masked keys add nothing, masked queries give zero rows. Differentiable in value. See the module for shapes.

    Returns:
        ``[B, H, N_q, D_v]`` in value's dtype, summed in float32.

    Raises:
        ValueError: arguments that do not fit together.
    """
    (value,) = to_autocast_dtype(value)
    check_codes(query_codes, key_codes, value, query_mask, key_mask, hash_code_len)
    return _ops.lsh_cumulation(query_codes, key_codes, value, query_mask, key_mask, hash_code_len)


def lsh_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_codes: Tensor,
    key_codes: Tensor,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    hash_code_len: int,
    lsh_backward: bool = True,
) -> Tensor:
    """``lsh_cumulation`` with the authors' gradient for query and key, which are taken as rows of length 1.

    Their rows may have any length; the gradient goes through the scaling, and that of a zero row is zero.
    ``lsh_backward`` True estimates all three gradients from the collisions; False takes them over all pairs from
    the collision probability, O(N_q N_k D).

    Raises:
        ValueError: arguments that do not fit together.
    """
    query, key, value = to_autocast_dtype(query, key, value)
    check_attention(query, key, value, query_mask, key_mask, hash_code_len)
    check_codes(query_codes, key_codes, value, query_mask, key_mask, hash_code_len)
    return _ops.lsh_attention(
        query, key, value, query_codes, key_codes, query_mask, key_mask, hash_code_len, lsh_backward
    )


def expectation(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    hash_code_len: int,
    exact_gradient: bool = False,
) -> Tensor:
    """``out[i] = sum_j (1 - angle(query[i], key[j]) / pi) ** tau value[j]`` over all pairs, in O(N) memory.

    Rows of query and key may have any length; the gradient goes through their scaling to length 1, and that of a zero
    row is zero. Cosines beyond [-1, 1] by rounding are clamped. The gradient is the authors' surrogate or, with
    ``exact_gradient``, the derivative itself, whose pole at angle 0 is cut off at 1e-3.

    Raises:
        ValueError: arguments that do not fit together.
    """
    query, key, value = to_autocast_dtype(query, key, value)
    check_attention(query, key, value, query_mask, key_mask, hash_code_len)
    return _ops.expectation(query, key, value, query_mask, key_mask, hash_code_len, exact_gradient)


def unit_rows(x: Tensor) -> Tensor:
    """Rows of length 1: ``x / |x|`` over the last dimension of ``[B, H, N, D]``; a zero row stays zero, gradient zero.

    The norm is taken in float32 (float64 for float64), so that float16 rows neither overflow nor divide by zero.
    """
    return _ops.unit_rows(x)


def unit_rows_of_own(x: Tensor) -> Tensor:
    """``unit_rows`` of a result that nobody else holds: in its own memory where no gradient and no transform asks."""
    if (
        (torch.is_grad_enabled() and x.requires_grad)
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
    ):
        return _ops.unit_rows(x)
    _ops.unit_rows_(x)
    return x


def _native_first(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of every device without its own: loads the native one once and hands over where that works."""

    def call(*args: Any) -> Any:
        device = next(arg.device for arg in args if isinstance(arg, Tensor))
        if jit.load(device.type) and torch._C._dispatch_has_kernel_for_dispatch_key(
            f"yoso::{name}", device.type.upper()
        ):
            return getattr(_ops, name)(*args)
        return kernel(*args)

    return call


for _name in set(SCHEMAS) - {"lsh_attention"}:
    torch.library.impl(f"yoso::{_name}", "default", _native_first(_name, getattr(portable, _name)))


@torch.library.impl("yoso::lsh_attention", "default")
def _lsh_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_codes: Tensor,
    key_codes: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    lsh_backward: bool,
) -> Tensor:
    del query, key, lsh_backward  # they matter to the gradient alone
    return _ops.lsh_cumulation(query_codes, key_codes, value, query_mask, key_mask, hash_code_len)


@torch.library.register_fake("yoso::fast_hash")
def _(x: Tensor, planes: Tensor, num_hash: int, hash_code_len: int, hash_family: str) -> Tensor:
    del planes, hash_code_len, hash_family
    return x.new_empty((x.shape[0], x.shape[1], num_hash, x.shape[2]), dtype=torch.uint16)


def _like_output(value: Tensor, num_query: Any) -> Tensor:
    return value.new_empty((value.shape[0], value.shape[1], num_query, value.shape[3]))


@torch.library.register_fake("yoso::lsh_cumulation")
def _(query_codes: Tensor, key_codes: Tensor, value: Tensor, *_rest: Any) -> Tensor:
    del key_codes
    return _like_output(value, query_codes.shape[3])


@torch.library.register_fake("yoso::lsh_attention")
def _(query: Tensor, key: Tensor, value: Tensor, *_rest: Any) -> Tensor:
    del key
    return _like_output(value, query.shape[2])


@torch.library.register_fake("yoso::expectation")
def _(query: Tensor, key: Tensor, value: Tensor, *_rest: Any) -> Tensor:
    del key
    return _like_output(value, query.shape[2])


@torch.library.register_fake("yoso::unit_rows")
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.register_fake("yoso::unit_rows_")
def _(x: Tensor) -> None:
    del x


@torch.library.register_fake("yoso::unit_rows_backward")
def _(grad: Tensor, x: Tensor) -> Tensor:
    del grad
    return x.new_empty(x.shape)


@torch.library.register_fake("yoso::lsh_attention_backward")
@torch.library.register_fake("yoso::expectation_backward")
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    del grad
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)
