"""The rescored estimator in plain torch: for any device, in blocks of query rows, in O(n^2) time and O(n) memory.

It runs where no native kernel is available, which includes CUDA. ``yoso.ops.operators.rescored_attention`` defines what
is computed; arguments are those of the operators (``yoso.ops.schemas``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from yoso.ops import portable

# A block of rows has about ten temporary matrices, where the other operators have three.
_ROWS_PER_BLOCK_DIVISOR = 4


def rescored_hashes(
    query_codes: Tensor, key_codes: Tensor, key_mask: Tensor | None, hash_code_len: int, keys_per_query: int
) -> Tensor:
    """Which hashes of a query are rescored, bool ``[B, H, m, N_q]``: those whose buckets fit in ``keys_per_query``.

    Hashes are taken in order. One whose bucket has more real keys than are left of ``keys_per_query`` is skipped, and
    later ones may still fit.
    """
    batch, heads, num_hash, num_query = query_codes.shape
    num_key = key_codes.shape[3]
    groups = batch * heads
    real = torch.ones(batch, num_key, dtype=torch.int64, device=key_codes.device) if key_mask is None else key_mask
    real = real.long()[:, None].expand(batch, heads, num_key).reshape(groups, num_key)
    left = real.new_full((groups, num_query), keys_per_query)
    fits = []
    for h in range(num_hash):
        sizes = real.new_zeros(groups, 1 << hash_code_len)
        sizes.scatter_add_(1, key_codes[:, :, h].reshape(groups, num_key).long(), real)
        bucket = sizes.gather(1, query_codes[:, :, h].reshape(groups, num_query).long())
        fits.append(bucket <= left)
        left = left - bucket * fits[-1]
    return torch.stack(fits, 1).reshape(batch, heads, num_hash, num_query)


@dataclass(frozen=True)
class _Block:
    """Weights ``[B, H, rows, N_k]`` of a block of query rows; masked queries and keys have weight 0.

    ``weights`` multiply the values. ``beyond`` is how much more of each weight the unbiased estimate has; with ``rest``
    the mean value gets it.
    """

    rows: slice
    cosine: Tensor
    weights: Tensor
    beyond: Tensor


@dataclass(frozen=True)
class _Inputs:
    """The tensors of a call in the dtype of the sums, with masked rows zero."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    mean_value: Tensor
    num_real: Tensor


def _inputs(query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor | None, key_mask: Tensor | None) -> _Inputs:
    dtype = portable.sum_dtype(value)
    queries = portable.unit_rows(portable.real_rows(query.to(dtype), query_mask))
    keys = portable.unit_rows(portable.real_rows(key.to(dtype), key_mask))
    values = portable.real_rows(value.to(dtype), key_mask)
    counts = value.new_full((value.shape[0],), value.shape[2], dtype=dtype)
    num_real = (counts if key_mask is None else key_mask.sum(1).to(dtype)).clamp(min=1)[:, None, None, None]
    return _Inputs(queries, keys, values, values.sum(2, keepdim=True) / num_real, num_real)


def _blocks(
    inputs: _Inputs,
    query_codes: Tensor,
    key_codes: Tensor,
    shared_key_ids: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    keys_per_query: int,
    floor: float,
) -> Iterator[_Block]:
    num_hash, num_key = key_codes.shape[2:]
    for codes in (query_codes, key_codes):
        portable.check_range(codes, hash_code_len)
    _check_ids(shared_key_ids, num_key)
    fits = rescored_hashes(query_codes, key_codes, key_mask, hash_code_len, keys_per_query)
    shared = torch.zeros(*key_codes.shape[:2], num_key, dtype=torch.bool, device=key_codes.device)
    shared.scatter_(2, shared_key_ids, True)
    if key_mask is not None:
        shared = shared & key_mask[:, None]
    share = shared.sum(-1, dtype=inputs.num_real.dtype)[:, :, None, None] / inputs.num_real
    for rows in portable.row_blocks(inputs.queries, inputs.keys, _ROWS_PER_BLOCK_DIVISOR):
        found = shared[:, :, None, :].expand(-1, -1, rows.stop - rows.start, -1)
        crowded = inputs.values.new_zeros(found.shape)
        for h in range(num_hash):
            equal = query_codes[:, :, h, rows, None].int() == key_codes[:, :, h, None, :].int()
            fitting = fits[:, :, h, rows, None]
            found = found | (equal & fitting)
            crowded += equal & ~fitting
        cosine = inputs.queries[:, :, rows] @ inputs.keys.transpose(-1, -2)
        probability = portable.collision_probability(cosine, hash_code_len)
        count = fits[..., rows].sum(2, dtype=probability.dtype)[..., None]
        # Where no hash is rescored, the clamp keeps finite what is then multiplied by 0.
        collides = -torch.expm1(count.clamp(min=1) * torch.log1p(-probability))
        chance = collides + (1 - collides) * share
        found = found & (probability > 0)  # False for NaN, too
        fraction = count / num_hash
        unbiased = torch.where(found, probability / chance, 0) * fraction
        capped = torch.where(found, probability / chance.clamp(min=floor), 0) * fraction
        weights, beyond = (
            portable.mask_block(x, rows, query_mask, key_mask) for x in (capped + crowded / num_hash, unbiased - capped)
        )
        yield _Block(rows, cosine, weights, beyond)


def _check_ids(shared_key_ids: Tensor, num_key: int) -> None:
    """Check the range of ids on the CPU; elsewhere ``scatter_`` itself refuses ids that are out of range."""
    if shared_key_ids.device.type != "cpu" or not shared_key_ids.numel():
        return
    low, high = (int(x) for x in shared_key_ids.aminmax())
    if low < 0 or high >= num_key:
        raise ValueError(f"shared_key_ids must be 0 to {num_key - 1}, the positions of the keys, got {low} to {high}")


def rescored_attention(
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
    """See ``yoso.ops.operators.rescored_attention``."""
    del lsh_backward  # it concerns the backward pass only
    inputs = _inputs(query, key, value, query_mask, key_mask)
    out = inputs.values.new_empty(*query.shape[:3], value.shape[3])
    codes_and_masks = query_codes, key_codes, shared_key_ids, query_mask, key_mask
    for block in _blocks(inputs, *codes_and_masks, hash_code_len, keys_per_query, floor):
        sums = block.weights @ inputs.values
        if rest:
            sums += block.beyond.sum(-1, keepdim=True) * inputs.mean_value
        out[:, :, block.rows] = sums
    return out if unrounded else out.to(value.dtype)


def rescored_attention_backward(
    grad: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``rescored_attention`` for query, key and value, from the pairs that the forward pass found."""
    inputs = _inputs(query, key, value, query_mask, key_mask)
    dtype = inputs.values.dtype
    all_grads = portable.real_rows(grad.to(dtype), query_mask)
    grad_query = torch.empty_like(inputs.queries)
    grad_key, grad_value = torch.zeros_like(inputs.keys), torch.zeros_like(inputs.values)
    grad_mean = torch.zeros_like(inputs.mean_value)
    codes_and_masks = query_codes, key_codes, shared_key_ids, query_mask, key_mask
    for block in _blocks(inputs, *codes_and_masks, hash_code_len, keys_per_query, floor):
        grads = all_grads[:, :, block.rows]
        grad_value += block.weights.transpose(-1, -2) @ grads
        slopes = block.weights * (grads @ inputs.values.transpose(-1, -2))
        if rest:
            grad_mean += block.beyond.sum(-1)[..., None, :] @ grads
            slopes += block.beyond * (grads @ inputs.mean_value.transpose(-1, -2))
        slopes *= hash_code_len / 2  # the surrogate: the derivative of a weight is tau / 2 times the weight
        grad_query[:, :, block.rows] = slopes @ inputs.keys
        grad_key += slopes.transpose(-1, -2) @ inputs.queries[:, :, block.rows]
    grad_value = portable.real_rows(grad_value + grad_mean / inputs.num_real, key_mask)
    grad_query = portable.unit_rows_backward(grad_query, portable.real_rows(query.to(dtype), query_mask))
    grad_key = portable.unit_rows_backward(grad_key, portable.real_rows(key.to(dtype), key_mask))
    return grad_query.to(query.dtype), grad_key.to(key.dtype), grad_value.to(value.dtype)
