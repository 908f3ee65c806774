"""YOSO's operators as torch's own operations, for exporters that know no others.

``torch.onnx.export(dynamo=True)`` of a model gets them without further ado. In a program of ``torch.export.export``,
``program.run_decompositions(yoso.ops.decompositions.TABLE)`` puts them in place of the operators.

Only forward passes have a decomposition. Nothing here depends on values or loops over sizes, so that batch and length
may be dynamic. Arguments are those of the operators (``yoso.ops.schemas``); ``yoso.ops.portable`` computes the same.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import yoso.ops.schemas  # noqa: F401  defines the operators that the table names
from yoso.ops import portable
from yoso.ops.hashing import rotation_layout
from yoso.ops.reference import hadamard_matrix

_LOGGER = logging.getLogger(__name__)


def fast_hash(x: Tensor, planes: Tensor, num_hash: int, hash_code_len: int, hash_family: str) -> Tensor:
    """The codes of ``yoso.ops.fast_hash``; all bits at once, with matrix products in place of butterflies."""
    batch, heads, length, dim = x.shape
    vectors = portable.hashable(x.flatten(0, 1))
    groups = planes.shape[0]
    # Head g of all sequences uses set g % groups.
    vectors = vectors.reshape(-1, groups, length, dim)
    planes = planes.to(vectors.dtype)
    if hash_family == "gaussian":
        projections = planes @ vectors.transpose(-1, -2)
    else:
        layout = rotation_layout(hash_family, head_dim=dim, num_hash=num_hash, hash_code_len=hash_code_len)
        hadamard = hadamard_matrix(layout.padded_dim, vectors.dtype)
        vectors = torch.nn.functional.pad(vectors, (0, layout.padded_dim - dim))
        for index in range(layout.shared_rounds):
            vectors = (vectors * planes[:, index, None]) @ hadamard
        block_signs = planes[:, layout.shared_rounds :].unflatten(1, (layout.blocks, layout.block_rounds))
        rotated = vectors[:, :, None]
        for index in range(layout.block_rounds):
            rotated = (rotated * block_signs[:, :, index, None]) @ hadamard
        rows = (layout.block * layout.padded_dim + layout.coordinate).flatten().long().to(x.device)
        projections = rotated.transpose(-1, -2).flatten(2, 3).index_select(2, rows)
    bits = (projections > 0).int().reshape(batch, heads, num_hash, hash_code_len, length)
    powers = 2 ** torch.arange(hash_code_len, dtype=torch.int32, device=x.device)
    return (bits * powers[:, None]).sum(3, dtype=torch.int32).to(torch.uint16)


def lsh_cumulation(
    query_codes: Tensor,
    key_codes: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
    unrounded: bool = False,
) -> Tensor:
    """See ``yoso.ops.lsh_cumulation``; the tables of all hashes at once, in O(m (N + 2 ** tau) D) memory."""
    batch, heads, num_hash, num_query = query_codes.shape
    num_key, dim = value.shape[2:]
    rows = portable.real_rows(value.to(portable.sum_dtype(value)), key_mask)
    tables, buckets = batch * heads * num_hash, 2**hash_code_len
    first = (torch.arange(tables, device=value.device) * buckets)[:, None]
    slots, taken = ((first + codes.long().reshape(tables, -1)).flatten() for codes in (key_codes, query_codes))
    repeated = rows[:, :, None].expand(batch, heads, num_hash, num_key, dim).reshape(-1, dim)
    table = rows.new_zeros(tables * buckets, dim).index_put((slots,), repeated, True)
    out = table[taken].reshape(batch, heads, num_hash, num_query, dim).mean(2)
    if query_mask is not None:
        out = out.masked_fill(~query_mask[:, None, :, None], 0)
    return out if unrounded else out.to(value.dtype)


def lsh_attention(
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
    """The forward pass, which is ``lsh_cumulation``."""
    del query, key, lsh_backward  # only the gradient depends on them
    return lsh_cumulation(query_codes, key_codes, value, query_mask, key_mask, hash_code_len, unrounded)


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
    """See ``yoso.ops.expectation``; the whole matrix of weights, in O(N^2) memory."""
    del exact_gradient  # it concerns the backward pass only
    dtype = portable.sum_dtype(value)
    queries = portable.unit_rows(portable.real_rows(query.to(dtype), query_mask))
    keys = portable.unit_rows(portable.real_rows(key.to(dtype), key_mask))
    weights = portable.collision_probability(queries @ keys.transpose(-1, -2), hash_code_len)
    weights = portable.mask_block(weights, slice(None), query_mask, key_mask)
    out = weights @ portable.real_rows(value.to(dtype), key_mask)
    return out if unrounded else out.to(value.dtype)


def rescored_attention(*args: Any) -> Tensor:
    """Refused: which keys a query rescores depends on values.

    Raises:
        NotImplementedError: always. It is logged as well, because the exporter tries again and reports its last error.
    """
    del args
    reason = (
        "estimator='rescored' cannot be exported to ONNX; set config.estimator='collisions', or export YOSO-E, which "
        "it estimates, with attn_implementation='yoso_e'"
    )
    _LOGGER.error(reason)
    raise NotImplementedError(reason)


def exporting_to_onnx() -> bool:
    """Whether ``torch.onnx.export(dynamo=True)`` is tracing the call."""
    return torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export()


DECOMPOSITIONS: dict[str, Callable[..., Tensor]] = {
    "fast_hash": fast_hash,
    "lsh_cumulation": lsh_cumulation,
    "lsh_attention": lsh_attention,
    "rescored_attention": rescored_attention,
    "expectation": expectation,
    "unit_rows": portable.unit_rows,
    "floored_unit_rows": portable.floored_unit_rows,
}
"""By the names of the operators."""
TABLE = {getattr(torch.ops.yoso, name).default: function for name, function in DECOMPOSITIONS.items()}
"""The same as torch's decomposition tables have it."""
