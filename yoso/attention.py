"""YOSO attention as functions of query, key and value: the expectation (YOSO-E) and the sampled estimate of it.

Source: Zeng et al., "You Only Sample (Almost) Once", ICML 2021 (arXiv 2111.09714). There is no softmax and no scale:
rows of query and key are l2-normalised, the weight of a pair is the probability that its hash codes are equal, and the
weighted sum of the values is l2-normalised.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from yoso.ops import operators
from yoso.ops.arguments import check_attention, check_hash_code_len, check_num_hash
from yoso.ops.autocast import to_autocast_dtype
from yoso.ops.hashing import check_family, draw_planes


def yoso_e(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    *,
    hash_code_len: int = 9,
    exact_gradient: bool = False,
) -> Tensor:
    """YOSO-E: every pair is weighted by its collision probability. O(N^2 D) time, O(N) memory.

    Args:
        query: float ``[B, H, N, D]``; its rows may have any length.
        key: as query.
        value: ``[B, H, N, D_v]``.
        key_padding_mask: bool ``[B, N]``, True for a real token, or None. Padded queries give zero rows.
        hash_code_len: tau, 1 to 16; the larger, the faster the weight falls with the angle.
        exact_gradient: False: the gradient is the authors' surrogate, at most 0.91 times the derivative. True: it is
            the derivative itself, whose pole at rows of equal direction is cut off at an angle of 1e-3. Use float32
            inputs with it on CUDA: in 16 bits, rounding moves the pole so that its terms no longer cancel.

    Returns:
        ``[B, H, N, D_v]`` in value's dtype; rows have length 1, and a row without any key is zero.

    Raises:
        ValueError: a wrong dtype, shape, device or size; the message names the argument.
    """
    query, key, value = to_autocast_dtype(query, key, value)
    query_mask = _query_mask(query, key, key_padding_mask)
    check_attention(query, key, value, query_mask, key_padding_mask, hash_code_len)
    context = operators.expectation(
        query,
        key,
        value,
        query_mask,
        key_padding_mask,
        hash_code_len=hash_code_len,
        exact_gradient=exact_gradient,
    )
    return operators.unit_rows_overwriting(context)


def yoso_sampling(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    *,
    num_hash: int = 64,
    hash_code_len: int = 9,
    hash_family: str = "hadamard",
    lsh_backward: bool = True,
    planes: Tensor | None = None,
) -> Tensor:
    """Sampled YOSO: the collision probability is estimated from ``num_hash`` hashes. O(N num_hash D) time, O(N) memory.

    A row of query or key with NaN or infinity is hashed like any other (a projection that is NaN counts as not
    positive). It does not affect other rows, and its own output is finite. NaN or infinity in a row of value reaches
    every query that collides with that row.

    Args:
        query: float ``[B, H, N, D]``; its rows may have any length.
        key: as query.
        value: ``[B, H, N, D_v]``.
        key_padding_mask: bool ``[B, N]``, True for a real token, or None. Padded queries give zero rows.
        num_hash: m, at least 1; the error against YOSO-E falls as 1 / sqrt(m).
        hash_code_len: tau, 1 to 16.
        hash_family: one of ``yoso.ops.hashing.HASH_FAMILIES``.
        lsh_backward: True: the gradients are estimated from the collisions. False: they are computed from the
            collision probability over all pairs, in O(N^2 D).
        planes: from ``yoso.ops.hashing.draw_planes``; None: new planes are drawn from torch's default CPU generator,
            one set per head and sequence.

    Returns:
        ``[B, H, N, D_v]`` in value's dtype; rows have length 1, and a row without any collision is zero.

    Raises:
        ValueError: a wrong dtype, shape, device or size; the message names the argument.
    """
    check_num_hash(num_hash)
    check_family(hash_family)
    query, key, value = to_autocast_dtype(query, key, value)
    query_mask = _query_mask(query, key, key_padding_mask)
    check_attention(query, key, value, query_mask, key_padding_mask, hash_code_len)
    if planes is None:
        planes = draw_planes(
            hash_family,
            groups=query.shape[0] * query.shape[1],
            head_dim=query.shape[3],
            num_hash=num_hash,
            hash_code_len=hash_code_len,
            device=query.device,
        )
    query_codes, key_codes = (
        operators.fast_hash(x.detach(), planes, num_hash=num_hash, hash_code_len=hash_code_len, hash_family=hash_family)
        for x in (query, key)
    )
    context = operators.lsh_attention(
        query,
        key,
        value,
        query_codes,
        key_codes,
        query_mask,
        key_padding_mask,
        hash_code_len=hash_code_len,
        lsh_backward=lsh_backward,
    )
    return operators.unit_rows_overwriting(context)


def expectation_weights(
    query: Tensor, key: Tensor, key_padding_mask: Tensor | None = None, *, hash_code_len: int = 9
) -> Tensor:
    """The collision probabilities as a dense matrix ``[B, H, N_q, N_k]``, zero at padded keys and queries.

    Plain torch, differentiable any number of times, with the true derivative. Cosines are clamped just inside [-1, 1],
    so that the derivative stays finite at rows of equal direction.

    Raises:
        ValueError: as for ``yoso_e``.
    """
    check_hash_code_len(hash_code_len)
    query, key = to_autocast_dtype(query, key)
    query_mask = _query_mask(query, key, key_padding_mask)
    check_attention(query, key, key, query_mask, key_padding_mask, hash_code_len)
    limit = 1 - torch.finfo(query.dtype).eps
    cosine = normalize(query, dim=-1) @ normalize(key, dim=-1).transpose(-1, -2)
    weights = (1 - torch.arccos(cosine.clamp(-limit, limit)) / torch.pi) ** hash_code_len
    if query_mask is not None:
        weights = weights.masked_fill(~query_mask[:, None, :, None], 0)
    if key_padding_mask is not None:
        weights = weights.masked_fill(~key_padding_mask[:, None, None, :], 0)
    return weights


def _query_mask(query: Tensor, key: Tensor, key_padding_mask: Tensor | None) -> Tensor | None:
    """In self-attention a padded key is also a padded query; where the lengths differ, every query is a real token."""
    same_length = query.dim() == key.dim() == 4 and query.shape[2] == key.shape[2]
    return key_padding_mask if same_length else None
