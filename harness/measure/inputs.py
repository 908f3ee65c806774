"""Random inputs of a case. A seed gives the same bits on every device, except for large tensors on CUDA."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.core.plugin import torch_dtype
from harness.core.spec import OperationSpec, QualitySpec, seed_from_entropy
from harness.measure import recordings
from harness.measure.process_state import clean_numerics

DRAWN_ON_DEVICE = 2**21
"""Tensors of more elements than this are drawn on the CUDA device, because the CPU would take longer than the case."""

MASK_CHANGE = 1 / 32
"""Most tokens, as a share of a sequence, by which the padding differs from call to call."""
CLUSTERS = 16
"""Clusters per head of clustered inputs."""
MEAN_RUN = 16
"""Mean number of neighbouring tokens in one cluster of clustered inputs."""
ALIGNED_LOGIT = 4.0
"""``|q||k| / sqrt(D)`` of clustered inputs: the logit of a query and a key that point in the same direction."""


@dataclass(frozen=True)
class Inputs:
    """The tensors of one case, all on the case's device.

    q, k, v and ``grad`` (the gradient of the output) are ``[B, H, N, D]`` in the case's dtype: standard normal, or for
    quality cases as ``_of_kind`` makes them. ``key_padding_mask`` is bool ``[B, N]``, True for a real
    token; None if nothing is padded.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    key_padding_mask: Tensor | None
    grad: Tensor


@clean_numerics()
def make(spec: OperationSpec | QualitySpec) -> Inputs:
    """The inputs of ``spec``, drawn from ``spec.seed`` alone whatever a plugin has set; see ``draw``.

    The last ``round(padding * n)`` positions of each sequence are padded, but at least one position stays real.
    """
    shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
    generator = _generator(shape, spec.seed, spec.device)
    drawn = _normal(shape, generator)
    if isinstance(spec, QualitySpec):
        drawn = _of_kind(spec, drawn, generator)
    q, k, v, grad = (x.to(spec.device, torch_dtype(spec.dtype)) for x in drawn)
    return Inputs(q, k, v, _padding_mask(spec), grad)


def draw(shape: tuple[int, ...], seed: int, device: str | torch.device) -> list[Tensor]:
    """Four standard normal float32 tensors.

    They are drawn on the CPU, so that a CUDA case has the same numbers as a CPU case. Tensors of more than
    ``DRAWN_ON_DEVICE`` elements for a CUDA device are drawn on that device.
    """
    return [x.to(device) for x in _normal(shape, _generator(shape, seed, device))]


def _generator(shape: tuple[int, ...], seed: int, device: str | torch.device) -> torch.Generator:
    large = torch.device(device).type == "cuda" and math.prod(shape) > DRAWN_ON_DEVICE
    return torch.Generator(device if large else "cpu").manual_seed(seed)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(shape, generator=generator, device=generator.device) for _ in range(4)]


def _of_kind(spec: QualitySpec, drawn: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """q, k, v and the output's gradient of one kind of inputs. A recording has no gradient: that stays normal."""
    match spec.inputs:
        case "matched":
            return _matched(spec, drawn)
        case "clustered":
            return _clustered(spec, drawn, generator)
        case "normal":
            return drawn
        case "recorded":
            return [*recordings.inputs_of(spec, drawn[:3]), drawn[3]]


def _matched(spec: QualitySpec, drawn: list[Tensor]) -> list[Tensor]:
    """Each row of q has an expected cosine of ``similarity`` with the row of k at its position: attention is a lookup.

    With ``similarity`` 0 all pairs are alike, and the output is the mean of noise.
    """
    q, k, v, grad = drawn
    return [_with_cosine(k, q, spec.similarity), k, v, grad]


def _clustered(spec: QualitySpec, drawn: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Each row has an expected cosine of ``similarity`` with the centre of its token's cluster.

    q and k share their centres. v and grad have centres of their own, so that outputs and gradients are more than a
    mean of noise. A sequence goes through the clusters in runs of ``MEAN_RUN`` tokens on average.
    """
    q, k, v, grad = drawn
    batch, heads, n, dim = q.shape
    device = generator.device
    starts = torch.rand((batch, heads, n), generator=generator, device=device) < 1 / MEAN_RUN
    of_run = torch.randint(CLUSTERS, (batch, heads, n + 1), generator=generator, device=device)
    cluster = of_run.gather(-1, starts.cumsum(-1))[..., None].expand(-1, -1, -1, dim)
    centres = torch.randn((3, batch, heads, CLUSTERS, dim), generator=generator, device=device)
    pair_centre, value_centre, grad_centre = (kind.gather(2, cluster) for kind in centres)
    scale = math.sqrt(ALIGNED_LOGIT / math.sqrt(dim))
    return [
        scale * _with_cosine(pair_centre, q, spec.similarity),
        scale * _with_cosine(pair_centre, k, spec.similarity),
        _with_cosine(value_centre, v, spec.similarity),
        _with_cosine(grad_centre, grad, spec.similarity),
    ]


def _with_cosine(rows: Tensor, noise: Tensor, cosine: float) -> Tensor:
    """Standard normal rows with this expected cosine to ``rows``; ``rows`` and ``noise`` must be standard normal."""
    return cosine * rows + math.sqrt(1 - cosine**2) * noise


def bytes_per_call(spec: OperationSpec) -> int:
    """Bytes of q, k, v and the output's gradient of one call."""
    numbers = spec.batch * spec.heads * spec.seq_len * spec.head_dim
    return 4 * numbers * torch_dtype(spec.dtype).itemsize


class FreshInputs:
    """Inputs for many calls of one case, different in every call, in a ring of memory that is allocated once.

    Call ``number`` has the numbers of one standard normal draw, moved along the sequence and with other signs of the
    features: again standard normal, and cheap to write. q, k, v and the output's gradient are moved by different
    distances, so that other queries meet other keys. A padded sequence has up to ``MASK_CHANGE`` of its length more or
    fewer real tokens, in the mean as many as in the case. In ``forward`` mode nothing reads the output's gradient: it
    is not written, which would put the rest out of the caches.

    Args:
        spec: the case.
        seed: everything follows from it; None draws one from entropy, so that no attention can know the numbers.
        sets: sets of tensors in the ring. A set's memory is used again after so many calls.
    """

    def __init__(self, spec: OperationSpec, seed: int | None, sets: int) -> None:
        self.seed = seed_from_entropy() if seed is None else seed
        shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
        q, k, v, grad = (x.to(torch_dtype(spec.dtype)) for x in draw(shape, self.seed, spec.device))
        self._drawn = Inputs(q, k, v, _padding_mask(spec), grad)
        self._writes_grad = spec.mode == "forward_backward"
        self._ring = [self._empty() for _ in range(sets)]

    def of_call(self, number: int, sets: int | None = None) -> Inputs:
        """The inputs of a call, in the ring, of which the first ``sets`` sets are used in turn; None: all."""
        return self._write(self._ring[number % (sets or len(self._ring))], number)

    def again(self, number: int) -> Inputs:
        """The same inputs as ``of_call``, in memory of their own."""
        return self._write(self._empty(), number)

    def _empty(self) -> Inputs:
        drawn = self._drawn
        q, k, v = (torch.empty_like(x) for x in (drawn.q, drawn.k, drawn.v))
        grad = torch.empty_like(drawn.grad) if self._writes_grad else drawn.grad
        mask = None if drawn.key_padding_mask is None else torch.empty_like(drawn.key_padding_mask)
        return Inputs(q, k, v, mask, grad)

    def _write(self, to: Inputs, number: int) -> Inputs:
        drawn = self._drawn
        n, dim = drawn.q.shape[2:]
        generator = torch.Generator().manual_seed(self.seed + number)
        shifts = torch.randint(n, (4,), generator=generator).tolist()
        signs = torch.randint(2, (4, dim), generator=generator).mul_(2).sub_(1).to(drawn.q.device, drawn.q.dtype)
        pairs = [(drawn.q, to.q), (drawn.k, to.k), (drawn.v, to.v)]
        if self._writes_grad:
            pairs.append((drawn.grad, to.grad))
        for (source, target), shift, sign in zip(pairs, shifts, signs, strict=False):  # the gradient's may be unused
            torch.mul(source[:, :, n - shift :], sign, out=target[:, :, :shift])
            torch.mul(source[:, :, : n - shift], sign, out=target[:, :, shift:])
        if to.key_padding_mask is not None and drawn.key_padding_mask is not None:
            to.key_padding_mask.copy_(with_other_lengths(drawn.key_padding_mask, generator))
        return to


def with_other_lengths(mask: Tensor, generator: torch.Generator) -> Tensor:
    """A padding mask with padding at the end, in which each sequence has up to ``MASK_CHANGE`` more or fewer tokens.

    No sequence keeps its length where another one is possible, so that a remembered mask is never right by chance.
    """
    batch, n = mask.shape
    real = mask.sum(1).cpu()
    most = torch.minimum(torch.full_like(real, int(n * MASK_CHANGE)), torch.minimum(real - 1, n - real))
    drawn = torch.rand((2, batch), generator=generator)
    size = torch.minimum(1 + (most * drawn[0]).long(), most)
    change = torch.where(drawn[1] < 0.5, size, -size)
    return (torch.arange(n) < (real + change)[:, None]).to(mask.device)


def _padding_mask(spec: OperationSpec | QualitySpec) -> Tensor | None:
    padding = spec.padding if isinstance(spec, OperationSpec) else 0.0
    padded = min(round(padding * spec.seq_len), spec.seq_len - 1)
    if padded == 0:
        return None
    real = torch.arange(spec.seq_len, device=spec.device) < spec.seq_len - padded
    return real.expand(spec.batch, -1).contiguous()
