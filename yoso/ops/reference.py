"""The oracles: YOSO by its definition, dense and slow, in the dtype of its inputs (float64 in the tests).

The attentions here build the whole n x n matrix. Source: Zeng et al., ICML 2021 (arXiv 2111.09714).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from yoso.ops.hashing import rotation_layout


def collision_probability(cosine: Tensor, hash_code_len: int) -> Tensor:
    """P(two codes are equal) = (1 - arccos(cosine) / pi) ** hash_code_len, for cosines clamped to [-1, 1]."""
    return (1 - torch.arccos(cosine.clamp(-1, 1)) / math.pi) ** hash_code_len


def hadamard_matrix(dim: int, dtype: torch.dtype) -> Tensor:
    """Sylvester's Hadamard matrix ``[dim, dim]`` of +-1, dim a power of two."""
    matrix = torch.ones(1, 1, dtype=dtype)
    while matrix.shape[0] < dim:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix


def hash_directions(planes: Tensor, *, head_dim: int, num_hash: int, hash_code_len: int, hash_family: str) -> Tensor:
    """The direction of every bit, ``[groups, num_hash, hash_code_len, head_dim]`` in float64."""
    groups = planes.shape[0]
    if hash_family == "gaussian":
        return planes.double().reshape(groups, num_hash, hash_code_len, head_dim)
    layout = rotation_layout(hash_family, head_dim=head_dim, num_hash=num_hash, hash_code_len=hash_code_len)
    hadamard = hadamard_matrix(layout.padded_dim, torch.float64)
    rotation = torch.eye(layout.padded_dim, dtype=torch.float64).expand(groups, 1, -1, -1)
    shared, block_signs = planes.double().split([layout.shared_rounds, planes.shape[1] - layout.shared_rounds], 1)
    for signs in shared.unbind(1):
        rotation = hadamard @ (signs[:, None, :, None] * rotation)
    for signs in block_signs.unflatten(1, (layout.blocks, layout.block_rounds)).unbind(2):
        rotation = hadamard @ (signs[..., :, None] * rotation)
    return rotation[:, layout.block.long(), layout.coordinate.long(), :head_dim]


def hash_projections(x: Tensor, planes: Tensor, *, num_hash: int, hash_code_len: int, hash_family: str) -> Tensor:
    """The projections of x ``[B, H, N, D]`` whose signs are the bits: float64 ``[B, H, m, tau, N]``."""
    batch, heads, length, dim = x.shape
    directions = hash_directions(
        planes, head_dim=dim, num_hash=num_hash, hash_code_len=hash_code_len, hash_family=hash_family
    )
    group = torch.arange(batch * heads) % planes.shape[0]
    projected = torch.einsum("gmtd,gnd->gmtn", directions[group], x.double().reshape(batch * heads, length, dim))
    return projected.reshape(batch, heads, num_hash, hash_code_len, length)


def fast_hash(x: Tensor, planes: Tensor, *, num_hash: int, hash_code_len: int, hash_family: str) -> Tensor:
    """Codes, int64 ``[B, H, num_hash, N]``: bit t of a code is set where its projection is positive."""
    projections = hash_projections(x, planes, num_hash=num_hash, hash_code_len=hash_code_len, hash_family=hash_family)
    weights = 2 ** torch.arange(hash_code_len)
    return ((projections > 0).long() * weights[:, None]).sum(-2)


def settle_codes(
    codes: Tensor, x: Tensor, planes: Tensor, *, num_hash: int, hash_code_len: int, hash_family: str
) -> Tensor:
    """The true codes, int64; only bits that float32 rounding leaves undecided are taken from ``codes``.

    A bit is undecided where its projection is within 1e-5 of zero, relative to the lengths of x and of the direction.
    A kernel is correct if the result equals its codes.
    """
    batch, heads, length, dim = x.shape
    directions = hash_directions(
        planes, head_dim=dim, num_hash=num_hash, hash_code_len=hash_code_len, hash_family=hash_family
    )[torch.arange(batch * heads) % planes.shape[0]]
    rows = x.double().reshape(batch * heads, length, dim)
    bits = torch.arange(hash_code_len)[:, None]
    settled = torch.zeros(batch * heads, num_hash, length, dtype=torch.int64)
    for h in range(num_hash):  # one hash at a time: for a long sequence all projections would not fit in memory
        projections = directions[:, h] @ rows.transpose(1, 2)
        scale = directions[:, h].norm(dim=-1)[..., None] * rows.norm(dim=-1)[:, None, :]
        computed = codes[:, :, h].reshape(batch * heads, 1, length).long() >> bits & 1
        true_bits = torch.where(projections.abs() <= 1e-5 * scale, computed, (projections > 0).long())
        settled[:, h] = (true_bits << bits).sum(1)
    return settled.reshape(batch, heads, num_hash, length)


def collision_fraction(query_codes: Tensor, key_codes: Tensor, dtype: torch.dtype) -> Tensor:
    """The fraction of hashes in which query i and key j have equal codes, ``[B, H, N_q, N_k]``."""
    num_hash = query_codes.shape[2]
    counter = torch.uint8 if num_hash < 256 else torch.int32  # whose sums are several times as fast as floats'
    count = torch.zeros(*query_codes.shape[:2], query_codes.shape[3], key_codes.shape[3], dtype=counter)
    for h in range(num_hash):
        count += (query_codes[:, :, h, :, None] == key_codes[:, :, h, None, :]).view(torch.uint8)
    return count.to(dtype) / num_hash


def masked(weights: Tensor, query_mask: Tensor | None, key_mask: Tensor | None) -> Tensor:
    """Weights ``[B, H, N_q, N_k]`` with the rows of masked queries and the columns of masked keys set to zero."""
    if query_mask is not None:
        weights = weights * query_mask[:, None, :, None]
    if key_mask is not None:
        weights = weights * key_mask[:, None, None, :]
    return weights


def with_surrogate_gradient(weights: Tensor, cosine: Tensor, hash_code_len: int) -> Tensor:
    """The same weights, with the authors' surrogate d weights / d cosine = weights * hash_code_len / 2.

    The true derivative of the collision probability has a pole at cosine 1. The surrogate is at most 0.91 times the
    true derivative, and it can be estimated from the same collisions as the weights.
    """
    return weights.detach() * (1 + hash_code_len / 2 * (cosine - cosine.detach()))


def unit(x: Tensor) -> Tensor:
    """Rows of length 1, however short or long they were; a zero row stays zero and has a zero gradient."""
    zero = (x == 0).all(-1, keepdim=True)
    rows = torch.where(zero, 1.0, x)
    rows = rows / rows.detach().abs().amax(-1, keepdim=True)
    return torch.where(zero, 0.0, rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True))


def weighted_sum(
    weights: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
) -> Tensor:
    """``sum_j weights[i, j] value[j]`` with the surrogate gradient for query and key, whose rows have length 1."""
    cosine = query @ key.transpose(-1, -2)
    return masked(with_surrogate_gradient(weights, cosine, hash_code_len), query_mask, key_mask) @ value


def normalized_sum(
    weights: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    normalization: str = "l2",
    norm_floor: float = 0.0,
) -> Tensor:
    """``weighted_sum``, normalised by one of the definitions of ``yoso.ops.normalization``."""

    def total(x: Tensor) -> Tensor:
        return weighted_sum(weights, query, key, x, query_mask, key_mask, hash_code_len)

    return normalized(total, value, key_mask, normalization, norm_floor)


def normalized(
    total: Callable[[Tensor], Tensor], value: Tensor, key_mask: Tensor | None, normalization: str, norm_floor: float
) -> Tensor:
    """``total(value)``, the weighted sums of the rows of value, normalised by the definitions of
    ``yoso.ops.normalization``; ``total`` of ones is the sum of the weights.
    """
    sums = total(value)
    if normalization == "sum":
        divisor = total(torch.ones_like(value[..., :1]))
        return torch.where(divisor > 0, sums / torch.where(divisor > 0, divisor + norm_floor, 1.0), 0.0)
    if norm_floor == 0:
        return unit(sums)
    return floored_unit(sums, norm_floor * root_mean_square(value, key_mask))


def root_mean_square(value: Tensor, key_mask: Tensor | None) -> Tensor:
    """The root of the mean squared length of each head's real rows, ``[B, H, 1, 1]``; 0 for a head without any."""
    real = torch.ones(value.shape[0], value.shape[2]) if key_mask is None else key_mask
    real = real.to(value)[:, None, :, None]
    value = torch.where(real > 0, value, 0.0)
    largest = value.detach().abs().amax((2, 3), keepdim=True).clamp(min=torch.finfo(value.dtype).tiny)
    mean = (value / largest).square().sum((2, 3), keepdim=True) / real.sum(2, keepdim=True).clamp(min=1)
    # The square root has no derivative at 0.
    return largest * torch.where(mean > 0, torch.where(mean > 0, mean, 1.0).sqrt(), 0.0)


def floored_unit(x: Tensor, floor: Tensor) -> Tensor:
    """``x / sqrt(|x|^2 + floor^2)`` for rows of any length; zero, with zero gradients, where row and floor are."""
    zero = (x == 0).all(-1, keepdim=True) & (floor == 0)
    x = torch.where(zero, 1.0, x)
    scale = torch.maximum(x.detach().abs().amax(-1, keepdim=True), floor.detach().abs())
    length = ((x / scale).square().sum(-1, keepdim=True) + (floor / scale).square()).sqrt()
    return torch.where(zero, 0.0, x / scale / length)


def yoso_e(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    hash_code_len: int,
    normalization: str = "l2",
    norm_floor: float = 0.0,
) -> Tensor:
    """YOSO-E: the normalised sum of the values, weighted by the collision probability. ``[B, H, N_q, D_v]``."""
    query, key = unit(query), unit(key)
    weights = collision_probability(query.detach() @ key.detach().transpose(-1, -2), hash_code_len)
    rows_and_masks = query, key, value, query_mask, key_mask
    return normalized_sum(weights, *rows_and_masks, hash_code_len, normalization, norm_floor)


def yoso_sampling(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_codes: Tensor,
    key_codes: Tensor,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    hash_code_len: int,
    normalization: str = "l2",
    norm_floor: float = 0.0,
) -> Tensor:
    """Sampled YOSO: as ``yoso_e``, with the probability estimated from the codes ``[B, H, num_hash, N]``."""
    weights = collision_fraction(query_codes, key_codes, value.dtype)
    rows_and_masks = unit(query), unit(key), value, query_mask, key_mask
    return normalized_sum(weights, *rows_and_masks, hash_code_len, normalization, norm_floor)


def rescored_hashes(query_codes: Tensor, key_codes: Tensor, key_mask: Tensor | None, keys_per_query: int) -> Tensor:
    """The hashes whose buckets a query rescores, bool ``[B, H, m, N_q]``, in order and while their keys fit."""
    left = torch.full_like(query_codes[:, :, 0], keys_per_query, dtype=torch.int64)
    fits = torch.zeros_like(query_codes, dtype=torch.bool)
    for h in range(query_codes.shape[2]):
        equal = query_codes[:, :, h, :, None].long() == key_codes[:, :, h, None, :].long()
        bucket = masked(equal, None, key_mask).sum(-1)
        fits[:, :, h] = bucket <= left
        left = left - bucket * fits[:, :, h]
    return fits


def yoso_rescored(
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
    keys_per_query: int,
    floor: float,
    rest: bool,
) -> Tensor:
    """The sum of the rescored estimator before it is normalised; ``yoso.ops.operators.rescored_attention`` defines it.

    Arguments are those of ``yoso_sampling``, and the shared keys ``[B, H, c]``.
    """
    num_hash = key_codes.shape[2]
    query, key = unit(query), unit(key)
    cosine = query @ key.transpose(-1, -2)
    exact = collision_probability(cosine.detach(), hash_code_len)
    real = torch.ones_like(value[:, 0, :, 0], dtype=torch.bool) if key_mask is None else key_mask
    fits = rescored_hashes(query_codes, key_codes, key_mask, keys_per_query)
    shared = torch.zeros_like(key_codes[:, :, 0], dtype=torch.bool).scatter(2, shared_key_ids, True)
    shared = shared & real[:, None]
    found, crowded = shared[:, :, None].expand_as(exact), torch.zeros_like(exact)
    for h in range(num_hash):  # one hash at a time: the comparisons of all would not fit in memory
        equal = query_codes[:, :, h, :, None].long() == key_codes[:, :, h, None, :].long()
        found = found | (equal & fits[:, :, h, :, None])
        crowded += equal & ~fits[:, :, h, :, None]
    num_real = real.sum(-1).clamp(min=1).to(value.dtype)[:, None, None, None]
    count = fits.sum(2).to(value.dtype)[..., None]
    missed = (1 - exact) ** count * (1 - shared.sum(-1)[:, :, None, None] / num_real)
    chance = 1 - missed
    unbiased = torch.where(found & (chance > 0), exact / chance, 0) * count / num_hash
    capped = torch.where(found & (chance > 0), exact / chance.clamp(min=floor), 0) * count / num_hash

    def with_gradient(weights: Tensor) -> Tensor:
        return masked(with_surrogate_gradient(weights, cosine, hash_code_len), query_mask, key_mask)

    sums = with_gradient(capped + crowded / num_hash) @ value
    if not rest:
        return sums
    mean = masked(torch.ones_like(exact[:, :, :1]), None, key_mask) @ value / num_real
    return sums + with_gradient(unbiased - capped).sum(-1, keepdim=True) * mean
