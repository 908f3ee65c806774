"""Random inputs of a case: the same seed gives the same bits on every device, but for the largest on CUDA."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.plugin import torch_dtype
from harness.spec import OperationSpec, QualitySpec

DRAWN_ON_DEVICE = 2**21
"""Numbers a tensor above which a CUDA device draws its own: a CPU would take longer than the case."""


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
    """The inputs of ``spec``, drawn from ``spec.seed`` alone; see ``draw``.

    The last ``round(padding * n)`` positions of each sequence are padded, but never all of them.
    """
    shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
    q, k, v, grad = draw(shape, spec.seed, spec.device)
    if isinstance(spec, QualitySpec):
        q = spec.similarity * k + math.sqrt(1 - spec.similarity**2) * q
    q, k, v, grad = (x.to(spec.device, torch_dtype(spec.dtype)) for x in (q, k, v, grad))
    return Inputs(q, k, v, _padding_mask(spec), grad)


def draw(shape: tuple[int, ...], seed: int, device: str | torch.device) -> list[Tensor]:
    """Four standard normal float32 tensors.

    They are drawn on the CPU, so that a CUDA case sees a CPU case's numbers; tensors of more than ``DRAWN_ON_DEVICE``
    numbers for a CUDA device are drawn there.
    """
    large = torch.device(device).type == "cuda" and math.prod(shape) > DRAWN_ON_DEVICE
    source = device if large else "cpu"
    generator = torch.Generator(source).manual_seed(seed)
    return [torch.randn(shape, generator=generator, device=source).to(device) for _ in range(4)]


def rotated(inputs: Inputs) -> Inputs:
    """The same numbers at other positions, in memory of their own; the padding stays where it is."""
    q, k, v, grad = (x.roll(1, 2) for x in (inputs.q, inputs.k, inputs.v, inputs.grad))
    return Inputs(q, k, v, inputs.key_padding_mask, grad)


def _padding_mask(spec: OperationSpec | QualitySpec) -> Tensor | None:
    padding = spec.padding if isinstance(spec, OperationSpec) else 0.0
    padded = min(round(padding * spec.seq_len), spec.seq_len - 1)
    if padded == 0:
        return None
    real = torch.arange(spec.seq_len, device=spec.device) < spec.seq_len - padded
    return real.expand(spec.batch, -1).contiguous()
