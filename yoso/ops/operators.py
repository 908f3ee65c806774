"""YOSO's operators, ``torch.ops.yoso.*``: the functions that call them, their kernels and their fake kernels.

The plain-torch kernel (``yoso.ops.portable``) is registered for every device. The first call on a device tries to build
and load that device's native kernels (``yoso.build``); they are registered for the device's own dispatch key and take
precedence from then on. ``yoso.ops.schemas`` has the schemas and the shapes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yoso.build import jit
from yoso.ops import portable, rescored
from yoso.ops.arguments import check_attention, check_codes, check_hash
from yoso.ops.autocast import to_autocast_dtype, without_autocast
from yoso.ops.decompositions import DECOMPOSITIONS, exporting_to_onnx
from yoso.ops.estimators import KEYS_PER_HASH, check_estimator, check_shared_key_ids
from yoso.ops.schemas import SCHEMAS
from yoso.torch_private import has_kernel, inside_functorch_transform

_ops = torch.ops.yoso


def _operator(name: str) -> Callable[..., Tensor]:
    """The operator or, for an ONNX export, its decomposition."""
    return DECOMPOSITIONS[name] if exporting_to_onnx() else getattr(_ops, name)


def fast_hash(x: Tensor, planes: Tensor, *, num_hash: int, hash_code_len: int, hash_family: str) -> Tensor:
    """Hash vectors to codes.

    Args:
        x: float ``[B, H, N, D]``. The length of a vector does not matter: a code depends on its direction only.
        planes: from ``yoso.ops.hashing.draw_planes``; head g of the B * H heads uses set ``g % groups``.
        num_hash: m, the number of codes per vector.
        hash_code_len: tau, the bits of a code, 1 to 16.
        hash_family: one of ``yoso.ops.hashing.HASH_FAMILIES``.

    Returns:
        uint16 ``[B, H, m, N]``: bit t is set where the projection on the t-th direction is positive.

    Raises:
        ValueError: a wrong dtype, shape, device or size; the message names the argument.
    """
    check_hash(x, planes, num_hash, hash_code_len, hash_family)
    return _operator("fast_hash")(x, planes, num_hash, hash_code_len, hash_family)


def lsh_cumulation(
    query_codes: Tensor,
    key_codes: Tensor,
    value: Tensor,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    hash_code_len: int,
    unrounded: bool = False,
) -> Tensor:
    """``out[i] = 1/m sum_h sum_j [query_codes[h, i] == key_codes[h, j]] value[j]`` in O(m (N_q + N_k) D_v).

    Masked keys add nothing, masked queries give zero rows. Differentiable in value only. ``yoso.ops.schemas`` has the
    shapes.

    Returns:
        ``[B, H, N_q, D_v]`` in value's dtype, summed in float32 (float64 for float64); with ``unrounded`` in the dtype
        of the sums.

    Raises:
        ValueError: a wrong dtype, shape, device or size; the message names the argument.
    """
    (value,) = to_autocast_dtype(value)
    check_codes(query_codes, key_codes, value, query_mask, key_mask, hash_code_len)
    return _operator("lsh_cumulation")(query_codes, key_codes, value, query_mask, key_mask, hash_code_len, unrounded)


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
    unrounded: bool = False,
) -> Tensor:
    """``lsh_cumulation``, with the authors' gradient for query and key.

    Rows of query and key are scaled to length 1 first, so they may have any length. The gradient includes this scaling;
    that of a zero row is zero.

    Args:
        query: ``[B, H, N_q, D]``; ``yoso.ops.schemas`` has the other shapes.
        key: as query.
        value: what is summed.
        query_codes: hash codes of query, from ``fast_hash``.
        key_codes: hash codes of key, with the same planes.
        query_mask: True for a real token.
        key_mask: True for a real token.
        hash_code_len: tau, the bits of a code, 1 to 16.
        lsh_backward: True: all three gradients are estimated from the collisions. False: they are computed over all
            pairs from the collision probability, in O(N_q N_k D).
        unrounded: True: the output keeps the dtype of its sums, float32 for 16-bit inputs.

    Returns:
        ``[B, H, N_q, D_v]`` in value's dtype, or unrounded.

    Raises:
        ValueError: a wrong dtype, shape, device or size; the message names the argument.
    """
    query, key, value = to_autocast_dtype(query, key, value)
    check_attention(query, key, value, query_mask, key_mask, hash_code_len)
    check_codes(query_codes, key_codes, value, query_mask, key_mask, hash_code_len)
    return _operator("lsh_attention")(
        query, key, value, query_codes, key_codes, query_mask, key_mask, hash_code_len, lsh_backward, unrounded
    )


def rescored_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_codes: Tensor,
    key_codes: Tensor,
    shared_key_ids: Tensor,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    hash_code_len: int,
    floor: float = 0.2,
    rest: bool = True,
    lsh_backward: bool = True,
    unrounded: bool = False,
) -> Tensor:
    """Sampled YOSO whose found pairs get their exact weight, divided by the probability that they are found.

    A pair is a candidate if its codes are equal in any of the m hashes, or if its key is one of the c shared keys. A
    candidate's weight W = (1 - angle / pi) ** tau is computed. A pair of this weight is a candidate with probability
    u = 1 - (1 - W) ** m (1 - c / n), where n is the number of real keys. The sum is

        out[i] = sum_j W / max(u, floor) value[j] + (S[i] - T[i]) mean(value)

    over the candidates j, where S[i] = sum_j W / u is an unbiased estimate of the sum of all weights, T[i] = sum_j W /
    max(u, floor) is the part of it that candidates have, and the mean is that of the real keys. The second term is
    absent without ``rest``. With floor 0 and without rest the estimate is unbiased. A floor bounds its variance, and
    the rest then gives the missing weight to the mean value. ``yoso.ops.schemas`` has the shapes.

    Where many keys have one code, the bucket is summed instead: a query takes its hashes in order, and those whose
    buckets do not fit in what is left of ``KEYS_PER_HASH`` m keys are crowded. If m' hashes are not, the sum above is
    over these m' hashes and gets the factor m' / m, and every crowded hash adds 1 / m times its bucket's values. The
    work of a query is bounded by it, whatever the codes are.

    The gradient for query and key treats u as constant and replaces the derivative of W by W tau / 2, as that of
    ``expectation`` does, over the same pairs; with ``lsh_backward`` False it is the gradient of ``expectation``.

    Raises:
        ValueError: a wrong dtype, shape, device or size; the message names the argument.
    """
    query, key, value = to_autocast_dtype(query, key, value)
    check_estimator("rescored", floor)
    check_attention(query, key, value, query_mask, key_mask, hash_code_len)
    check_codes(query_codes, key_codes, value, query_mask, key_mask, hash_code_len)
    check_shared_key_ids(shared_key_ids, value)
    keys_per_query = KEYS_PER_HASH * query_codes.shape[2]
    tensors = query, key, value, query_codes, key_codes, shared_key_ids, query_mask, key_mask
    return _operator("rescored_attention")(
        *tensors, hash_code_len, keys_per_query, floor, rest, lsh_backward, unrounded
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
    unrounded: bool = False,
) -> Tensor:
    """``out[i] = sum_j (1 - angle(query[i], key[j]) / pi) ** tau value[j]`` over all pairs, in O(N) memory.

    Rows of query and key may have any length. The gradient includes their scaling to length 1; that of a zero row is
    zero. Cosines that rounding puts outside [-1, 1] are clamped. The gradient is the authors' surrogate or, with
    ``exact_gradient``, the true derivative, whose pole at angle 0 is cut off at an angle of 1e-3.

    Returns:
        ``[B, H, N_q, D_v]`` in value's dtype or, with ``unrounded``, in that of the sums, float32 for 16-bit inputs;
        ``yoso.ops.schemas`` has the other shapes.

    Raises:
        ValueError: a wrong dtype, shape, device or size; the message names the argument.
    """
    query, key, value = to_autocast_dtype(query, key, value)
    check_attention(query, key, value, query_mask, key_mask, hash_code_len)
    return _operator("expectation")(query, key, value, query_mask, key_mask, hash_code_len, exact_gradient, unrounded)


def unit_rows(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """``x / |x|`` over the last dimension of ``[B, H, N, D]``; a zero row stays zero and has a zero gradient.

    The norm is computed in float32 (float64 for float64), of rows that are scaled before they are squared: rows of any
    length that the dtype holds neither overflow nor divide by zero. The result is rounded once, to ``dtype`` or, if
    that is None, to x's.
    """
    return _operator("unit_rows")(x, dtype)


def unit_rows_overwriting(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``unit_rows`` of a tensor with no other user: in place, unless dtypes differ or the input is still needed.

    A gradient or a transform needs it.
    """
    needed = (torch.is_grad_enabled() and x.requires_grad) or inside_functorch_transform()
    if needed or x.dtype != dtype or torch.compiler.is_compiling():
        return _operator("unit_rows")(x, dtype)
    _ops.unit_rows_(x)
    return x


def floored_unit_rows(x: Tensor, floor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """``x / sqrt(|x|^2 + floor^2)`` over the last dimension of ``[B, H, N, D]``: ``unit_rows`` with a floor.

    Rows much longer than their floor become rows of length 1, and much shorter ones nearly ``x / floor``. Where row and
    floor are zero, so is the result, and its gradients.

    Args:
        x: rows of any length.
        floor: ``[B, H]``, one for each head, in float32 (float64 for float64). It has a gradient.
        dtype: as for ``unit_rows``, as are the precision and the rounding.
    """
    return _operator("floored_unit_rows")(x, floor, dtype)


def _native_or(kernel: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The kernel for devices without a native one: load the native kernels and call those, or else run ``kernel``."""

    def call(*args: Any) -> Any:
        first = next(arg for arg in args if isinstance(arg, Tensor))
        device = first.device
        if jit.load(device.type) and has_kernel(f"yoso::{name}", device.type.upper()):
            return getattr(_ops, name)(*args)
        with without_autocast(first):  # a backward operator may run inside the region of the forward pass
            return kernel(*args)

    return call


for _name in set(SCHEMAS) - {"lsh_attention"}:
    _module = rescored if _name.startswith("rescored") else portable
    torch.library.impl(f"yoso::{_name}", "default", _native_or(getattr(_module, _name), _name))


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
    unrounded: bool = False,
) -> Tensor:
    del query, key, lsh_backward  # only the gradient depends on them
    return _ops.lsh_cumulation(query_codes, key_codes, value, query_mask, key_mask, hash_code_len, unrounded)


@torch.library.register_fake("yoso::fast_hash")
def _(x: Tensor, planes: Tensor, num_hash: int, hash_code_len: int, hash_family: str) -> Tensor:
    del planes, hash_code_len, hash_family
    return x.new_empty((x.shape[0], x.shape[1], num_hash, x.shape[2]), dtype=torch.uint16)


def _like_output(value: Tensor, num_query: Any, unrounded: bool) -> Tensor:
    dtype = portable.sum_dtype(value) if unrounded else value.dtype
    return value.new_empty((value.shape[0], value.shape[1], num_query, value.shape[3]), dtype=dtype)


@torch.library.register_fake("yoso::lsh_cumulation")
def _(
    query_codes: Tensor,
    key_codes: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    unrounded: bool = False,
) -> Tensor:
    del key_codes, query_mask, key_mask, hash_code_len
    return _like_output(value, query_codes.shape[3], unrounded)


@torch.library.register_fake("yoso::lsh_attention")
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_codes: Tensor,
    key_codes: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    lsh_backward: bool,
    unrounded: bool = False,
) -> Tensor:
    del key, query_codes, key_codes, query_mask, key_mask, hash_code_len, lsh_backward
    return _like_output(value, query.shape[2], unrounded)


@torch.library.register_fake("yoso::rescored_attention")
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_codes: Tensor,
    key_codes: Tensor,
    shared_key_ids: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    keys_per_query: int,
    floor: float,
    rest: bool,
    lsh_backward: bool,
    unrounded: bool = False,
) -> Tensor:
    del key, query_codes, key_codes, shared_key_ids, query_mask, key_mask
    del hash_code_len, keys_per_query, floor, rest, lsh_backward
    return _like_output(value, query.shape[2], unrounded)


@torch.library.register_fake("yoso::expectation")
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    exact_gradient: bool = False,
    unrounded: bool = False,
) -> Tensor:
    del key, query_mask, key_mask, hash_code_len, exact_gradient
    return _like_output(value, query.shape[2], unrounded)


@torch.library.register_fake("yoso::unit_rows")
def _(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return x.new_empty(x.shape, dtype=dtype or x.dtype)


@torch.library.register_fake("yoso::unit_rows_")
def _(x: Tensor) -> None:
    del x


@torch.library.register_fake("yoso::unit_rows_backward")
def _(grad: Tensor, x: Tensor) -> Tensor:
    del grad
    return x.new_empty(x.shape)


@torch.library.register_fake("yoso::floored_unit_rows")
def _(x: Tensor, floor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    del floor
    return x.new_empty(x.shape, dtype=dtype or x.dtype)


@torch.library.register_fake("yoso::floored_unit_rows_backward")
def _(grad: Tensor, x: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    del grad
    return x.new_empty(x.shape), floor.new_empty(floor.shape)


@torch.library.register_fake("yoso::lsh_attention_backward")
@torch.library.register_fake("yoso::rescored_attention_backward")
@torch.library.register_fake("yoso::expectation_backward")
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    del grad
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)
