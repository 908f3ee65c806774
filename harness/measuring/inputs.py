"""Random inputs of a case: the same seed gives the same bits on every device."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.plugin import torch_dtype
from harness.spec import OperationSpec, QualitySpec


@dataclass(frozen=True)
class Inputs:
    """Tensors of one case, all on the case's device.

    q, k, v and ``grad`` (the gradient of the output) are ``[B, H, N, D]`` in the case's dtype, standard normal; in
    quality cases each row of q has the cosine ``similarity`` with the row of k at its position, up to chance.
    ``key_padding_mask`` is bool ``[B, N]``, True for a real token; None where nothing is padded.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    key_padding_mask: Tensor | None
    grad: Tensor


def make(spec: OperationSpec | QualitySpec) -> Inputs:
    """The inputs of ``spec``, drawn from ``spec.seed`` alone.

    They are drawn on the CPU in float32, then cast and moved, so a CUDA case sees a CPU case's numbers. The last
    ``round(padding * n)`` positions of each sequence are padded, but never all of them.
    """
    generator = torch.Generator().manual_seed(spec.seed)
    shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)

    q, k, v, grad = (torch.randn(shape, generator=generator) for _ in range(4))
    if isinstance(spec, QualitySpec):
        q = spec.similarity * k + math.sqrt(1 - spec.similarity**2) * q
    q, k, v, grad = (x.to(spec.device, torch_dtype(spec.dtype)) for x in (q, k, v, grad))
    return Inputs(q, k, v, _padding_mask(spec), grad)


def _padding_mask(spec: OperationSpec | QualitySpec) -> Tensor | None:
    padding = spec.padding if isinstance(spec, OperationSpec) else 0.0
    padded = min(round(padding * spec.seq_len), spec.seq_len - 1)
    if padded == 0:
        return None
    real = torch.arange(spec.seq_len, device=spec.device) < spec.seq_len - padded
    return real.expand(spec.batch, -1).contiguous()
