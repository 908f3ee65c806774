"""Argument checks of YOSO's operators: each error names the argument, what was expected and what was given.

All of them raise ``ValueError``.
"""

import sys

import torch
from torch import Tensor

from yoso.ops.hashing import check_family, planes_shape

MAX_HASH_CODE_LEN = 16
MAX_HEAD_DIM = 1024
NORMALIZATIONS = ("l2", "sum")
"""How the weighted sums of the values are normalised; ``yoso.ops.normalization`` has the definitions."""


def check_hash_code_len(hash_code_len: int) -> None:
    """Check tau: codes are stored in 16 bits."""
    if not 1 <= hash_code_len <= MAX_HASH_CODE_LEN:
        raise ValueError(f"hash_code_len must be 1 to {MAX_HASH_CODE_LEN} (a code has 16 bits), got {hash_code_len}")


def check_num_hash(num_hash: int) -> None:
    """Check m: at least one hash."""
    if num_hash < 1:
        raise ValueError(f"num_hash must be at least 1, got {num_hash}")


def check_normalization(normalization: object, norm_floor: object) -> None:
    """Check the two parameters of ``yoso.ops.normalization``."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization must be one of {NORMALIZATIONS}, got {normalization!r}; 'l2' scales rows to length 1, "
            "'sum' divides them by the sum of their weights"
        )
    is_number = isinstance(norm_floor, int | float) and not isinstance(norm_floor, bool)
    if not is_number or not 0 <= norm_floor <= sys.float_info.max:  # type: ignore[operator]  # is_number narrows it
        raise ValueError(f"norm_floor must be a finite number of at least 0, got {norm_floor!r}; 0 means no floor")


def _check_floating(name: str, x: Tensor) -> None:
    if x.dim() != 4 or not x.is_floating_point():
        raise ValueError(
            f"{name} must be a floating-point tensor [batch, heads, length, head_dim], got {x.dtype} {list(x.shape)}"
        )


def _check_mask(name: str, mask: Tensor | None, like: Tensor, batch: int, length: int) -> None:
    if mask is None:
        return
    if mask.dtype != torch.bool or tuple(mask.shape) != (batch, length):
        raise ValueError(
            f"{name} must be bool [{batch}, {length}] with True for a real token, or None; got {mask.dtype} "
            f"{list(mask.shape)}. mask.bool() converts a mask of 0 and 1"
        )
    if mask.device != like.device:
        raise ValueError(f"{name} must be on {like.device} like the other tensors, got {mask.device}")


def check_hash(x: Tensor, planes: Tensor, num_hash: int, hash_code_len: int, hash_family: str) -> None:
    """Check the arguments of ``fast_hash``."""
    check_family(hash_family)
    check_hash_code_len(hash_code_len)
    check_num_hash(num_hash)
    _check_floating("x", x)
    batch, heads, _, dim = x.shape
    groups = planes.shape[0] if planes.dim() else 0
    expected = planes_shape(hash_family, groups=groups, head_dim=dim, num_hash=num_hash, hash_code_len=hash_code_len)
    if groups < 1 or tuple(planes.shape) != expected or batch * heads % groups:
        raise ValueError(
            f"planes of hash_family {hash_family!r} for x {list(x.shape)}, num_hash {num_hash} and hash_code_len "
            f"{hash_code_len} must be {['groups', *expected[1:]]} with groups dividing batch * heads = "
            f"{batch * heads}, got {list(planes.shape)}; draw them with yoso.ops.hashing.draw_planes"
        )
    if planes.device != x.device:
        raise ValueError(f"planes must be on {x.device} like x, got {planes.device}")


def check_codes(
    query_codes: Tensor,
    key_codes: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
) -> None:
    """Check the arguments of ``lsh_cumulation``."""
    check_hash_code_len(hash_code_len)
    _check_floating("value", value)
    batch, heads, num_key, _ = value.shape
    for name, codes in (("query_codes", query_codes), ("key_codes", key_codes)):
        if codes.dtype != torch.uint16 or codes.dim() != 4 or codes.shape[:2] != value.shape[:2] or codes.shape[2] < 1:
            raise ValueError(
                f"{name} must be uint16 [{batch}, {heads}, num_hash, length] for value {list(value.shape)}, got "
                f"{codes.dtype} {list(codes.shape)}"
            )
        if codes.device != value.device:
            raise ValueError(f"{name} must be on {value.device} like value, got {codes.device}")
    if query_codes.shape[2] != key_codes.shape[2]:
        raise ValueError(
            "query_codes and key_codes must have the same num_hash, "
            f"got {query_codes.shape[2]} and {key_codes.shape[2]}"
        )
    if key_codes.shape[3] != num_key:
        raise ValueError(f"key_codes must have value's length {num_key}, got {key_codes.shape[3]}")
    _check_mask("query_mask", query_mask, value, batch, query_codes.shape[3])
    _check_mask("key_mask", key_mask, value, batch, num_key)


def check_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    hash_code_len: int,
) -> None:
    """Check the tensors, masks and code length of ``lsh_attention`` or ``expectation``."""
    check_hash_code_len(hash_code_len)
    tensors = {"query": query, "key": key, "value": value}
    for name, x in tensors.items():
        _check_floating(name, x)
    for name, x in tensors.items():
        if x.device != value.device or x.dtype != value.dtype:
            raise ValueError(
                f"{name} must have value's dtype and device, {value.dtype} on {value.device}, "
                f"got {x.dtype} on {x.device}"
            )
    batch, heads, num_key, _ = key.shape
    if query.shape[:2] != (batch, heads) or query.shape[3] != key.shape[3]:
        raise ValueError(
            f"query must be [{batch}, {heads}, length, {key.shape[3]}] for key {list(key.shape)}, "
            f"got {list(query.shape)}"
        )
    if value.shape[:3] != key.shape[:3]:
        raise ValueError(f"value must be {[batch, heads, num_key, 'value_dim']}, got {list(value.shape)}")
    for name, x in (("query", query), ("value", value)):
        if not 1 <= x.shape[3] <= MAX_HEAD_DIM:
            raise ValueError(f"{name}'s head_dim must be 1 to {MAX_HEAD_DIM}, got {x.shape[3]}")
    _check_mask("query_mask", query_mask, value, batch, query.shape[2])
    _check_mask("key_mask", key_mask, value, batch, num_key)
