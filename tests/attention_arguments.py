"""Small inputs of YOSO's attentions, for tests of autocast, compilation, torch.func and others."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from yoso.attention import yoso_e, yoso_sampling
from yoso.ops.hashing import draw_planes

SIZES: dict[str, Any] = {"num_hash": 6, "hash_code_len": 4}


def make_qkv(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(shape, generator=generator).to(dtype) for _ in range(3))
    return query, key, value


def make_attention(name: str, *, groups: int = 4, head_dim: int = 16) -> Any:
    """``yoso_e``, or ``yoso_sampling`` with fixed planes: a function of query, key, value and a mask."""
    name, _, normalization = name.partition(", ")
    options = NORMALIZATIONS[normalization]
    if name == "yoso_e":
        return partial(yoso_e, hash_code_len=4, **options)
    generator = torch.Generator().manual_seed(1)
    planes = draw_planes("hadamard", groups=groups, head_dim=head_dim, generator=generator, **SIZES)
    if name == "yoso_sampling rescored":
        return partial(_rescored_with_fixed_keys, planes=planes, **SIZES, **options)
    return partial(yoso_sampling, planes=planes, lsh_backward=name == "yoso_sampling", **SIZES, **options)


def _rescored_with_fixed_keys(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any
) -> Tensor:
    """The rescored estimator with every third key as a shared key, whatever the batch and the length."""
    ids = torch.arange(0, key.shape[2], 3, device=key.device).expand(*key.shape[:2], -1)
    return yoso_sampling(query, key, value, mask, estimator="rescored", shared_key_ids=ids, **options)


NORMALIZATIONS: dict[str, Any] = {"": {}, "floor": {"norm_floor": 0.1}, "sum": {"normalization": "sum"}}
ATTENTIONS = (
    "yoso_e",
    "yoso_sampling",
    "yoso_sampling over all pairs",
    "yoso_sampling rescored",
    "yoso_e, sum",
    "yoso_sampling, floor",
    "yoso_sampling rescored, sum",
)
