"""How sampled YOSO estimates its weights from hash codes, and the random keys that every query of a head looks at.

- ``collisions``: the authors' estimator: the fraction of hashes in which two codes are equal.
- ``rescored``: pairs that collide in some hash, or whose key is one of the shared keys, get their exact weight, divided
  by the probability that a pair of this weight is found (``yoso.ops.operators.rescored_attention``).
"""

import math
from typing import Any

import torch
from torch import Tensor

ESTIMATORS = ("collisions", "rescored")
KEYS_PER_HASH = 8
"""A query rescores the keys of its buckets while they are at most this many times ``num_hash``; larger buckets are
summed. The work of a query is bounded by it, however many keys have the same code."""


def check_estimator(estimator: str, rescore_floor: float) -> None:
    """Check the name of an estimator and the floor of the rescored one.

    Raises:
        ValueError: an unknown estimator, or a floor that is not a probability.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {ESTIMATORS}, got {estimator!r}")
    if not isinstance(rescore_floor, int | float) or not 0 <= rescore_floor <= 1:
        raise ValueError(
            f"rescore_floor must be a number from 0 to 1, got {rescore_floor!r}; it bounds a probability from below"
        )


def check_shared_keys(shared_keys: int, num_key: int | None = None) -> None:
    """Check the number of shared keys, against the number of keys where that is known.

    Raises:
        ValueError: a number below 0, or more keys than there are.
    """
    if shared_keys < 0:
        raise ValueError(f"shared_keys must be at least 0, got {shared_keys}")
    if num_key is not None and shared_keys > num_key:
        raise ValueError(
            f"shared_keys must be at most the number of keys, {num_key}, because they are drawn without replacement; "
            f"got {shared_keys}. Pass shared_keys={num_key} or fewer"
        )


def check_shared_key_ids(shared_key_ids: Tensor, value: Tensor) -> None:
    """Check the shape, dtype and device of given shared keys; the kernels check their range.

    Raises:
        ValueError: ids that do not fit value ``[B, H, N_k, D_v]``.
    """
    batch, heads, num_key, _ = value.shape
    shape = tuple(shared_key_ids.shape)
    if shared_key_ids.dtype != torch.int64 or shape[:-1] != (batch, heads) or shape[-1] > num_key:
        raise ValueError(
            f"shared_key_ids must be int64 [{batch}, {heads}, at most {num_key}] for value {list(value.shape)}, got "
            f"{shared_key_ids.dtype} {list(shape)}; draw them with yoso.ops.estimators.draw_shared_keys"
        )
    if shared_key_ids.device != value.device:
        raise ValueError(f"shared_key_ids must be on {value.device} like value, got {shared_key_ids.device}")


def draw_shared_keys(
    count: int,
    shape: tuple[int, ...],
    key_mask: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw random real keys, without replacement and for every head by itself.

    Args:
        count: c, the number of keys per head.
        shape: ``(B, H, N_k)``, the first dimensions of key.
        key_mask: bool ``[B, N_k]``, True for a real key, or None.
        generator: a CPU generator; None: torch's default CPU generator. The same seed gives the same keys on every
            device.
        device: where the result is.

    Returns:
        int64 ``[B, H, count]``. Where a sequence has fewer real keys than ``count``, all of them are included,
        and the padded keys that fill the row are never candidates.

    Raises:
        ValueError: as for ``check_shared_keys``.
    """
    check_shared_keys(count, shape[2])
    source: dict[str, Any] = {} if generator is None else {"generator": generator}
    # float64, because two of thousands of float32 numbers are often equal, and devices order equal numbers differently.
    order = torch.rand(tuple(shape), dtype=torch.float64, device="cpu", **source).to(device)
    if key_mask is not None:
        order = order.masked_fill(~key_mask[:, None, :], math.inf)
    return order.topk(count, dim=-1, largest=False).indices
