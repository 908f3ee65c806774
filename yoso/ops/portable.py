"""The operators in plain torch: for any device, without a compiler, in O(n) memory.

They run where no native kernel is available. Sums are in float32 (float64 for float64 inputs), whatever the dtype of
the inputs. Arguments are those of the operators (``yoso.ops.schemas``).
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from yoso.ops.hashing import rotation_layout

# Elements of one block of rows of the n x n matrix: 64 MiB in float32.
_BLOCK_ELEMENTS = 1 << 24


def check_range(codes: Tensor, hash_code_len: int) -> None:
    """Raise ``ValueError`` for a code of more than ``hash_code_len`` bits."""
    if codes.numel() and int(codes.int().max()) >> hash_code_len:
        raise ValueError(
            f"codes must be below 2^hash_code_len = {1 << hash_code_len}, got {int(codes.int().max())}. "
            "Pass the hash_code_len that the codes were computed with"
        )


def real_rows(x: Tensor, mask: Tensor | None) -> Tensor:
    """x ``[B, H, N, D]`` with masked rows set to zero, so that NaN in a masked row affects no result."""
    return x if mask is None else x.masked_fill(~mask[:, None, :, None], 0)


def _real(x: Tensor, mask: Tensor | None) -> Tensor:
    """``real_rows`` in the dtype of the sums."""
    return real_rows(x.to(sum_dtype(x)), mask)


def sum_dtype(x: Tensor) -> torch.dtype:
    """The dtype of sums over x: float64 for float64, otherwise float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def largest_magnitude(rows: Tensor) -> Tensor:
    """The largest magnitude of each row ``[..., 1]``; 1 for a row that is zero or not finite.

    Rows are divided by it before they are squared, because the squares of long and short rows overflow and vanish.
    """
    if rows.shape[-1] == 0:
        return rows.new_ones(*rows.shape[:-1], 1)
    largest = rows.detach().abs().amax(-1, keepdim=True)
    return torch.where((largest > 0) & (largest < math.inf), largest, 1.0)


def _rotate(x: Tensor, signs: Tensor) -> Tensor:
    """Apply H D to x ``[G, N, dim]`` for every round of signs ``[G, rounds, dim]``; H is unscaled, by butterflies."""
    dim = x.shape[-1]
    for round_signs in signs.unbind(1):
        x = x * round_signs[:, None, :]
        stride = 1
        while stride < dim:
            low, high = x.reshape(*x.shape[:-1], -1, 2, stride).unbind(-2)
            x = torch.stack([low + high, low - high], -2).reshape(x.shape)
            stride *= 2
    return x


def hashable(vectors: Tensor) -> Tensor:
    """Vectors ``[..., D]`` in the dtype of the sums, none of whose projections overflow or vanish.

    Very long and short ones are multiplied by a power of two: a code does not depend on the length.
    """
    vectors = vectors.to(sum_dtype(vectors))
    largest = largest_magnitude(vectors)
    vectors = torch.where(largest < 2.0**-60, vectors * 2.0**100, vectors)
    return torch.where(largest > 2.0**60, vectors * 2.0**-100, vectors)


def fast_hash(x: Tensor, planes: Tensor, num_hash: int, hash_code_len: int, hash_family: str) -> Tensor:
    """See ``yoso.ops.fast_hash``."""
    batch, heads, length, dim = x.shape
    vectors = hashable(x.reshape(batch * heads, length, dim))
    repeats = batch * heads // planes.shape[0]
    planes = planes.to(vectors.dtype).repeat(repeats, *[1] * (planes.dim() - 1))
    codes = torch.zeros(batch * heads, num_hash, length, dtype=torch.int32, device=x.device)
    if hash_family == "gaussian":
        directions = planes.reshape(batch * heads, num_hash, hash_code_len, dim)
        for bit in range(hash_code_len):
            positive = directions[:, :, bit] @ vectors.transpose(1, 2) > 0
            codes |= positive.int() << bit
    else:
        layout = rotation_layout(hash_family, head_dim=dim, num_hash=num_hash, hash_code_len=hash_code_len)
        shared, block_signs = planes.split([layout.shared_rounds, planes.shape[1] - layout.shared_rounds], 1)
        block_signs = block_signs.unflatten(1, (layout.blocks, layout.block_rounds))
        vectors = _rotate(torch.nn.functional.pad(vectors, (0, layout.padded_dim - dim)), shared)
        for index in range(layout.blocks):
            positive = (_rotate(vectors, block_signs[:, index]) > 0).int()
            hashes, bits = (layout.block == index).nonzero(as_tuple=True)
            taken = positive[:, :, layout.coordinate[hashes, bits].long().to(x.device)].transpose(1, 2)
            for bit in bits.unique():
                at = bits == bit
                codes[:, hashes[at].to(x.device)] |= taken[:, at.to(x.device)] << int(bit)
    return codes.to(torch.uint16).reshape(batch, heads, num_hash, length)


def lsh_cumulation(
    query_codes: Tensor,
    key_codes: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    unrounded: bool = False,
) -> Tensor:
    """See ``yoso.ops.lsh_cumulation``."""
    batch, heads, num_hash, num_query = query_codes.shape
    num_key, dim = value.shape[2:]
    check_range(query_codes, hash_code_len)
    check_range(key_codes, hash_code_len)
    rows = _real(value, key_mask).reshape(batch * heads * num_key, dim)
    first = (torch.arange(batch * heads, device=value.device) << hash_code_len)[:, None]
    total = rows.new_zeros(batch * heads * num_query, dim)
    for h in range(num_hash):
        table = rows.new_zeros(batch * heads << hash_code_len, dim)
        table.index_add_(0, (first + key_codes[:, :, h].reshape(-1, num_key).long()).flatten(), rows)
        total += table[(first + query_codes[:, :, h].reshape(-1, num_query).long()).flatten()]
    out = (total / num_hash).reshape(batch, heads, num_query, dim)
    if query_mask is not None:
        out = out.masked_fill(~query_mask[:, None, :, None], 0)
    return out if unrounded else out.to(value.dtype)


def unit_rows(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """See ``yoso.ops.unit_rows``. Differentiable any number of times by torch; the gradient of a zero row is zero."""
    rows = x.to(sum_dtype(x))
    scaled = rows / largest_magnitude(rows)
    zero = (scaled == 0).all(-1, keepdim=True)
    # The norm is never taken of a zero row, because its second derivative there is NaN even where it is not used.
    norm = torch.linalg.vector_norm(torch.where(zero, 1.0, scaled), dim=-1, keepdim=True)
    return torch.where(zero, 0.0, scaled / norm).to(dtype or x.dtype)


def unit_rows_(x: Tensor) -> None:
    """``unit_rows`` in place."""
    x.copy_(unit_rows(x))


def unit_rows_backward(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of y = x / |x|: (grad - y (y . grad)) / |x|; zero for a zero row."""
    rows, grads = x.to(sum_dtype(x)), grad.to(sum_dtype(x))
    largest = largest_magnitude(rows)
    scaled = rows / largest
    norm = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    safe = norm.masked_fill(norm == 0, 1)
    unit = scaled / safe
    out = (grads - unit * (unit * grads).sum(-1, keepdim=True)) / safe / largest
    return out.masked_fill(norm == 0, 0).to(x.dtype)


def _with_floor(x: Tensor, floor: Tensor) -> Tensor:
    """The rows with their floor as one more column: its square then counts in their length."""
    rows = x.to(sum_dtype(x))
    return torch.cat([rows, floor.to(rows.dtype)[..., None, None].expand(*rows.shape[:3], 1)], -1)


def floored_unit_rows(x: Tensor, floor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """See ``yoso.ops.floored_unit_rows``. Differentiable any number of times by torch."""
    return unit_rows(_with_floor(x, floor))[..., :-1].to(dtype or x.dtype)


def floored_unit_rows_backward(grad: Tensor, x: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of ``floored_unit_rows`` for x and floor."""
    grads = unit_rows_backward(torch.nn.functional.pad(grad, (0, 1)), _with_floor(x, floor))
    return grads[..., :-1].to(x.dtype), grads[..., -1].sum(-1)


def row_blocks(query: Tensor, key: Tensor, divisor: int = 1) -> Iterator[slice]:
    """Slices of the query rows, so small that the weights of a slice on all keys are ``_BLOCK_ELEMENTS`` at most.

    ``divisor``: slices this many times smaller, for more temporary matrices at a time.
    """
    (batch, heads, num_query), num_key = query.shape[:3], key.shape[2]
    rows = max(1, _BLOCK_ELEMENTS // divisor // max(1, batch * heads * num_key))
    return (slice(start, min(start + rows, num_query)) for start in range(0, num_query, rows))


def mask_block(weights: Tensor, rows: slice, query_mask: Tensor | None, key_mask: Tensor | None) -> Tensor:
    """The weights of a block of query rows, with masked queries and keys set to zero."""
    if query_mask is not None:
        weights = weights.masked_fill(~query_mask[:, None, rows, None], 0)
    if key_mask is not None:
        weights = weights.masked_fill(~key_mask[:, None, None, :], 0)
    return weights


def collision_probability(cosine: Tensor, hash_code_len: int) -> Tensor:
    """(1 - arccos(cosine) / pi) ** hash_code_len, for cosines clamped to [-1, 1]."""
    return (1 - torch.arccos(cosine.clamp(-1, 1)) / math.pi) ** hash_code_len


def expectation(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    exact_gradient: bool = False,
    unrounded: bool = False,
) -> Tensor:
    """See ``yoso.ops.expectation``."""
    del exact_gradient  # it concerns the backward pass only
    queries, keys = unit_rows(_real(query, query_mask)), unit_rows(_real(key, key_mask))
    values = _real(value, key_mask)
    out = values.new_empty(*query.shape[:3], value.shape[3])
    for rows in row_blocks(query, key):
        weights = collision_probability(queries[:, :, rows] @ keys.transpose(-1, -2), hash_code_len)
        out[:, :, rows] = mask_block(weights, rows, query_mask, key_mask) @ values
    return out if unrounded else out.to(value.dtype)


def _surrogate_slope(weights: Tensor, cosine: Tensor, hash_code_len: int) -> Tensor:
    del cosine
    return weights * (hash_code_len / 2)


def _exact_slope(weights: Tensor, cosine: Tensor, hash_code_len: int) -> Tensor:
    """The derivative of the collision probability; its pole is cut off at angles below 1e-3."""
    del weights
    sine = ((1 - cosine) * (1 + cosine)).clamp(min=1e-6).sqrt()
    return hash_code_len * collision_probability(cosine, hash_code_len - 1) / (math.pi * sine)


def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    query_codes: Tensor | None,
    key_codes: Tensor | None,
    slope: Callable[[Tensor, Tensor, int], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, from the collisions of the codes or, without codes, their probability.

    ``slope(weights, cosine, hash_code_len)`` is the derivative of the weights with respect to the cosine.
    """
    dtype = sum_dtype(value)
    query_rows, key_rows = _real(query, query_mask), _real(key, key_mask)
    all_queries, all_grads = unit_rows(query_rows), _real(grad, query_mask)
    keys, values = unit_rows(key_rows), _real(value, key_mask)
    grad_query = torch.empty_like(query_rows)
    grad_key, grad_value = torch.zeros_like(keys), torch.zeros_like(values)
    for rows in row_blocks(query, key):
        queries, grads = all_queries[:, :, rows], all_grads[:, :, rows]
        cosine = queries @ keys.transpose(-1, -2)
        if query_codes is None or key_codes is None:
            weights = collision_probability(cosine, hash_code_len)
        else:
            weights = _collision_fraction(query_codes[..., rows], key_codes, dtype)
        weights = mask_block(weights, rows, query_mask, key_mask)
        grad_value += weights.transpose(-1, -2) @ grads
        slopes = mask_block(slope(weights, cosine, hash_code_len), rows, query_mask, key_mask)
        weights = slopes * (grads @ values.transpose(-1, -2))
        grad_query[:, :, rows] = weights @ keys
        grad_key += weights.transpose(-1, -2) @ queries
    grad_query, grad_key = unit_rows_backward(grad_query, query_rows), unit_rows_backward(grad_key, key_rows)
    return grad_query.to(query.dtype), grad_key.to(key.dtype), grad_value.to(value.dtype)


def _collision_fraction(query_codes: Tensor, key_codes: Tensor, dtype: torch.dtype) -> Tensor:
    num_hash = query_codes.shape[2]
    count = torch.zeros(
        *query_codes.shape[:2], query_codes.shape[3], key_codes.shape[3], dtype=dtype, device=key_codes.device
    )
    for h in range(num_hash):
        count += query_codes[:, :, h, :, None].int() == key_codes[:, :, h, None, :].int()
    return count / num_hash


def expectation_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    exact_gradient: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``expectation`` for query, key and value, of the surrogate or exact."""
    slope = _exact_slope if exact_gradient else _surrogate_slope
    return _backward(grad, query, key, value, query_mask, key_mask, hash_code_len, None, None, slope)


def lsh_attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_codes: Tensor,
    key_codes: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``lsh_attention`` for query, key and value, estimated from the collisions."""
    codes = query_codes, key_codes
    return _backward(grad, query, key, value, query_mask, key_mask, hash_code_len, *codes, _surrogate_slope)
