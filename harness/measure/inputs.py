"""Random inputs of a case: the same seed gives the same bits on every device, but for the largest on CUDA."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.core.plugin import torch_dtype
from harness.core.spec import OperationSpec, QualitySpec

DRAWN_ON_DEVICE = 2**21
"""Numbers a tensor above which a CUDA device draws its own: a CPU would take longer than the case."""

CLUSTERS = 16
RUN = 16
LOGIT = 4.0
"""Of clustered inputs: clusters a head; tokens that follow one another in a cluster, on average; and
``|q||k| / sqrt(D)``, what the logit of a query and a key in the same direction would be."""


@dataclass(frozen=True)
class Inputs:
    """Tensors of one case, all on the case's device.

    q, k, v and ``grad`` (the gradient of the output) are ``[B, H, N, D]`` in the case's dtype, standard normal; what
    quality cases have instead is with ``_matched`` and ``_clustered``. ``key_padding_mask`` is bool ``[B, N]``, True
    for a real token; None where nothing is padded.
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
    generator = _generator(shape, spec.seed, spec.device)
    drawn = _normal(shape, generator)
    if isinstance(spec, QualitySpec):
        drawn = _matched(spec, drawn) if spec.inputs == "matched" else _clustered(spec, drawn, generator)
    q, k, v, grad = (x.to(spec.device, torch_dtype(spec.dtype)) for x in drawn)
    return Inputs(q, k, v, _padding_mask(spec), grad)


def draw(shape: tuple[int, ...], seed: int, device: str | torch.device) -> list[Tensor]:
    """Four standard normal float32 tensors.

    They are drawn on the CPU, so that a CUDA case sees a CPU case's numbers; tensors of more than ``DRAWN_ON_DEVICE``
    numbers for a CUDA device are drawn there.
    """
    return [x.to(device) for x in _normal(shape, _generator(shape, seed, device))]


def _generator(shape: tuple[int, ...], seed: int, device: str | torch.device) -> torch.Generator:
    large = torch.device(device).type == "cuda" and math.prod(shape) > DRAWN_ON_DEVICE
    return torch.Generator(device if large else "cpu").manual_seed(seed)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(shape, generator=generator, device=generator.device) for _ in range(4)]


def _matched(spec: QualitySpec, drawn: list[Tensor]) -> list[Tensor]:
    """Each row of q has the cosine ``similarity`` with the row of k at its position, up to chance: a lookup.

    With 0 all pairs are alike, and their sum is mere noise.
    """
    q, k, v, grad = drawn
    return [_near(k, q, spec.similarity), k, v, grad]


def _clustered(spec: QualitySpec, drawn: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Each row has the cosine ``similarity`` with the centre of its token's cluster, up to chance.

    q and k share their centres; v and grad have centres of their own, so that outputs and gradients are no mean of
    noise. A sequence goes through the clusters in runs of ``RUN`` tokens on average.
    """
    q, k, v, grad = drawn
    batch, heads, n, dim = q.shape
    device = generator.device
    starts = torch.rand((batch, heads, n), generator=generator, device=device) < 1 / RUN
    of_run = torch.randint(CLUSTERS, (batch, heads, n + 1), generator=generator, device=device)
    cluster = of_run.gather(-1, starts.cumsum(-1))[..., None].expand(-1, -1, -1, dim)
    centres = torch.randn((3, batch, heads, CLUSTERS, dim), generator=generator, device=device)
    of_pair, of_value, of_grad = (one.gather(2, cluster) for one in centres)
    scale = math.sqrt(LOGIT / math.sqrt(dim))
    return [
        scale * _near(of_pair, q, spec.similarity),
        scale * _near(of_pair, k, spec.similarity),
        _near(of_value, v, spec.similarity),
        _near(of_grad, grad, spec.similarity),
    ]


def _near(rows: Tensor, noise: Tensor, cosine: float) -> Tensor:
    """Standard normal rows with this cosine to ``rows``, up to chance, if those and ``noise`` are standard normal."""
    return cosine * rows + math.sqrt(1 - cosine**2) * noise


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
