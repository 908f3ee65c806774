"""YOSO attention as functions of query, key and value: the expectation (YOSO-E) and the sampled estimate of it.

Source: Zeng et al., "You Only Sample (Almost) Once", ICML 2021 (arXiv 2111.09714). There is no softmax and no scale:
rows of query and key are l2-normalised, the weight of a pair is the probability that its hash codes are equal, and the
weighted sum of the values is l2-normalised, unless the parameters of ``yoso.ops.normalization`` say otherwise.
"""

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from yoso.ops import operators, portable
from yoso.ops.arguments import check_attention, check_hash_code_len, check_normalization, check_num_hash
from yoso.ops.autocast import to_autocast_dtype, without_autocast
from yoso.ops.decompositions import exporting_to_onnx
from yoso.ops.estimators import check_estimator, check_shared_keys, draw_shared_keys
from yoso.ops.hashing import check_family, draw_planes
from yoso.ops.normalization import normalized, summands
from yoso.torch_private import with_values

_LOGGER = logging.getLogger(__name__)


def yoso_e(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    *,
    hash_code_len: int = 9,
    exact_gradient: bool = False,
    normalization: str = "l2",
    norm_floor: float = 0.0,
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
        normalization: "l2" or "sum"; see ``yoso.ops.normalization``.
        norm_floor: at least 0; a positive one shortens rows whose weights nearly vanish, see there.

    Returns:
        ``[B, H, N, D_v]`` in value's dtype; by default rows have length 1, and a row without any key is zero.

    Raises:
        ValueError: a wrong dtype, shape, device or size; the message names the argument.
    """
    check_normalization(normalization, norm_floor)
    query, key, value = to_autocast_dtype(query, key, value)
    query_mask = _query_mask(query, key, key_padding_mask)
    check_attention(query, key, value, query_mask, key_padding_mask, hash_code_len)
    context = operators.expectation(
        query,
        key,
        summands(value, normalization),
        query_mask,
        key_padding_mask,
        hash_code_len=hash_code_len,
        exact_gradient=exact_gradient,
        unrounded=True,
    )
    return normalized(context, value, key_padding_mask, normalization, norm_floor)


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
    normalization: str = "l2",
    norm_floor: float = 0.0,
    estimator: str = "collisions",
    shared_keys: int = 64,
    rescore_floor: float = 0.2,
    rescore_rest: bool = True,
    shared_key_ids: Tensor | None = None,
) -> Tensor:
    """Sampled YOSO: the collision probability is estimated from ``num_hash`` hashes. O(N num_hash D) time, O(N) memory.

    A row of query or key with NaN or infinity is hashed like any other (a projection that is NaN counts as not
    positive). It does not affect other rows, and its own output is finite. NaN or infinity in a row of value reaches
    every query that collides with that row; with "l2" and a ``norm_floor`` above 0, every query of the head.

    Args:
        query: float ``[B, H, N, D]``; its rows may have any length.
        key: as query.
        value: ``[B, H, N, D_v]``.
        key_padding_mask: bool ``[B, N]``, True for a real token, or None. Padded queries give zero rows.
        num_hash: m, at least 1; the error against YOSO-E falls as 1 / sqrt(m).
        hash_code_len: tau, 1 to 16.
        hash_family: one of ``yoso.ops.hashing.HASH_FAMILIES``.
        lsh_backward: True: the gradients are estimated from the collisions. False: they are computed from the
            collision probability over all pairs, in O(N^2 D); a call that needs gradients then warns, once per process
            (docs/accuracy.md).
        planes: from ``yoso.ops.hashing.draw_planes``; None: new planes are drawn from torch's default CPU generator,
            one set per head and sequence.
        normalization: "l2" or "sum"; see ``yoso.ops.normalization``.
        norm_floor: at least 0; a positive one shortens rows with few collisions, see there.
        estimator: ``"collisions"``: a weight is the fraction of hashes whose codes are equal. ``"rescored"``: pairs
            that collide, and ``shared_keys`` random keys for every query, get their exact weight, divided by the
            probability that they are found (``yoso.ops.operators.rescored_attention``); the weight of a pair with NaN
            or infinity in query or key is then 0. On CUDA it runs in plain torch and takes O(N^2).
        shared_keys: c, the random keys per head of the rescored estimator, at most N.
        rescore_floor: the smallest probability that it divides by; 0: none.
        rescore_rest: whether it gives the weight that the floor takes away to the mean of the values. Floor 0 without
            the rest is unbiased; the defaults are biased and have a smaller error.
        shared_key_ids: int64 ``[B, H, c]`` from ``yoso.ops.estimators.draw_shared_keys``, instead of ``shared_keys``;
            None: new ones are drawn from torch's default CPU generator, after the planes.

    Returns:
        ``[B, H, N, D_v]`` in value's dtype; by default rows have length 1, and a row without any collision is zero.

    Raises:
        ValueError: a wrong dtype, shape, device or size; the message names the argument.
    """
    check_num_hash(num_hash)
    check_family(hash_family)
    check_normalization(normalization, norm_floor)
    check_estimator(estimator, rescore_floor)
    query, key, value = to_autocast_dtype(query, key, value)
    query_mask = _query_mask(query, key, key_padding_mask)
    check_attention(query, key, value, query_mask, key_padding_mask, hash_code_len)
    check_shared_keys(shared_keys, key.shape[2] if estimator == "rescored" and shared_key_ids is None else None)
    if planes is None:
        planes = _planes(query, hash_family, num_hash, hash_code_len)
    trained = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if trained and not lsh_backward and not torch.compiler.is_compiling():
        _warn_of_a_gradient_without_the_noise()
    query_codes, key_codes = (
        operators.fast_hash(x.detach(), planes, num_hash=num_hash, hash_code_len=hash_code_len, hash_family=hash_family)
        for x in (query, key)
    )
    tensors = query, key, summands(value, normalization), query_codes, key_codes
    masks = query_mask, key_padding_mask
    options: dict[str, Any] = {"hash_code_len": hash_code_len, "lsh_backward": lsh_backward, "unrounded": True}
    if estimator == "rescored":
        if shared_key_ids is None:
            shared_key_ids = draw_shared_keys(shared_keys, key.shape[:3], key_padding_mask, device=key.device)
        options |= {"floor": rescore_floor, "rest": rescore_rest}
        context = operators.rescored_attention(*tensors, shared_key_ids, *masks, **options)
    else:
        context = operators.lsh_attention(*tensors, *masks, **options)
    return normalized(context, value, key_padding_mask, normalization, norm_floor)


def expectation_weights(
    query: Tensor,
    key: Tensor,
    key_padding_mask: Tensor | None = None,
    *,
    hash_code_len: int = 9,
    unrounded: bool = False,
) -> Tensor:
    """The collision probabilities as a dense matrix ``[B, H, N_q, N_k]``, zero at padded keys and queries.

    They are the weights of the sum of values, before it is normalised.

    Plain torch, differentiable any number of times, with the true derivative. Cosines are clamped just inside [-1, 1],
    so that the derivative stays finite at rows of equal direction. Computed in float32 (float64 for float64) and then
    rounded to query's dtype, unless ``unrounded``.

    Raises:
        ValueError: as for ``yoso_e``.
    """
    check_hash_code_len(hash_code_len)
    query, key = to_autocast_dtype(query, key)
    query_mask = _query_mask(query, key, key_padding_mask)
    check_attention(query, key, key, query_mask, key_padding_mask, hash_code_len)
    dtype = portable.sum_dtype(query)
    limit = 1 - torch.finfo(dtype).eps
    with without_autocast(query):
        cosine = portable.unit_rows(query, dtype) @ portable.unit_rows(key, dtype).transpose(-1, -2)
    weights = (1 - torch.arccos(cosine.clamp(-limit, limit)) / torch.pi) ** hash_code_len
    if query_mask is not None:
        weights = weights.masked_fill(~query_mask[:, None, :, None], 0)
    if key_padding_mask is not None:
        weights = weights.masked_fill(~key_padding_mask[:, None, None, :], 0)
    return weights if unrounded else weights.to(query.dtype)


def dense_yoso_e(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    *,
    hash_code_len: int = 9,
    dropout: float = 0.0,
    normalization: str = "l2",
    norm_floor: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """YOSO-E in plain torch with its true derivative, in O(N^2) memory, with dropout of its weights.

    Sums are in float32 (float64 for float64) and are rounded to value's dtype once, after they have been normalised.
    Normalization "sum" divides by the sum of the weights that dropout leaves.

    Returns:
        The output ``[B, H, N, D_v]`` and the weights before dropout ``[B, H, N_q, N_k]``.

    Raises:
        ValueError: as for ``yoso_e``.
    """
    check_normalization(normalization, norm_floor)
    query, key, value = to_autocast_dtype(query, key, value)
    query_mask = _query_mask(query, key, key_padding_mask)
    check_attention(query, key, value, query_mask, key_padding_mask, hash_code_len)
    # A weight of 0 does not remove NaN or infinity.
    query = portable.real_rows(query, query_mask)
    key, value = (portable.real_rows(x, key_padding_mask) for x in (key, value))
    weights = expectation_weights(query, key, key_padding_mask, hash_code_len=hash_code_len, unrounded=True)
    with without_autocast(value):
        sums = functional.dropout(weights, dropout) @ summands(value, normalization).to(weights.dtype)
        output = normalized(sums, value, key_padding_mask, normalization, norm_floor, plain_torch=True)
        return output, weights.to(value.dtype)


@cache  # once per process
def _warn_of_a_gradient_without_the_noise() -> None:
    _LOGGER.warning(
        "yoso_sampling with lsh_backward=False: the output is sampled, but its gradient is that of YOSO-E, which knows "
        "nothing of the samples; models that are trained this way can end at chance. Train with lsh_backward=True, or "
        "with YOSO-E (docs/accuracy.md)"
    )


def _planes(query: Tensor, hash_family: str, num_hash: int, hash_code_len: int) -> Tensor:
    """New planes for every head and sequence; in an ONNX export one set per head, which becomes a constant of the file.

    ONNX has no random integers, and its runtimes draw too few random bits to make planes from.
    """
    batch, heads, _, head_dim = query.shape
    sizes: dict[str, Any] = {"head_dim": head_dim, "num_hash": num_hash, "hash_code_len": hash_code_len}
    if exporting_to_onnx():
        with with_values():
            return draw_planes(hash_family, groups=heads, device=query.device, **sizes)
    return draw_planes(hash_family, groups=batch * heads, device=query.device, **sizes)


def _query_mask(query: Tensor, key: Tensor, key_padding_mask: Tensor | None) -> Tensor | None:
    """In self-attention a padded key is also a padded query; where the lengths differ, every query is a real token."""
    same_length = query.dim() == key.dim() == 4 and query.shape[2] == key.shape[2]
    return key_padding_mask if same_length else None
