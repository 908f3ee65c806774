"""A module and its plugin's oracle, both evaluated at all or a sample of the query rows, with their gradients.

The module runs at full size with its real kernel, and the gradient of its output is zero outside the rows. The oracle's
input gradients, which come from these rows alone, must therefore equal the module's at **every** position, the last key
included.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.core.plugin import AttentionPlugin
from harness.core.spec import Spec
from harness.measure.inputs import Inputs
from harness.measure.process_state import clean_numerics

ORACLE_BYTES = {"cpu": 2**30, "cuda": 2**33}
"""Rough limit for the oracle's largest tensors together, by device type; other devices have the CPU's limit."""
GRADIENTS = ("grad_q", "grad_k", "grad_v")


@dataclass(frozen=True)
class SampledResult:
    """``output`` ``[B, H, R, D]`` at the sampled rows; ``gradients`` of q, k, v, ``[B, H, N, D]`` each, or empty."""

    output: Tensor
    gradients: tuple[Tensor, ...]

    def named(self) -> dict[str, Tensor]:
        """The tensors by the name of their check."""
        return {"output": self.output} | dict(zip(GRADIENTS, self.gradients, strict=False))


class WrongShape(Exception):
    """The module's output has another shape or dtype than its query."""


def sample_rows(inputs: Inputs, at_most: int, seed: int) -> Tensor:
    """Sorted query positions ``[R]`` (int64, CPU) that are real in every sequence: first, last, and random ones.

    All of them where there are at most ``at_most``.
    """
    real = real_positions(inputs).cpu()
    inner = real[1:-1]
    chosen = torch.randperm(len(inner), generator=torch.Generator().manual_seed(seed))[: max(at_most - 2, 0)]
    return torch.cat([real[:1], inner[chosen], real[-1:]]).unique()


def run_module(
    module: nn.Module, inputs: Inputs, rows: Tensor, seed: int, backward: bool
) -> tuple[Tensor, SampledResult]:
    """The module's whole output, and its result at ``rows`` with the input gradients that come from ``rows`` alone.

    Raises:
        WrongShape: the output has another shape or dtype than the query.
    """
    q, k, v = (x.detach().requires_grad_(backward) for x in (inputs.q, inputs.k, inputs.v))
    torch.manual_seed(seed)
    with torch.set_grad_enabled(backward):
        out = module(q, k, v, inputs.key_padding_mask)
    if not isinstance(out, Tensor):
        raise WrongShape(f"output is a {type(out).__name__}, not a tensor")
    if out.shape != q.shape or out.dtype != q.dtype:
        raise WrongShape(f"output is {out.dtype} {list(out.shape)}, not {q.dtype} {list(q.shape)}")
    gradients: tuple[Tensor, ...] = ()
    rows = rows.to(out.device)
    if backward:
        upstream = torch.zeros_like(inputs.grad)
        upstream[:, :, rows] = inputs.grad[:, :, rows]
        gradients = torch.autograd.grad(out, (q, k, v), upstream)
    # Cloned, because a faulty module may return a buffer that its next call overwrites.
    return out.detach().clone(), SampledResult(out.detach()[:, :, rows], gradients)


def run_oracle(
    plugin: AttentionPlugin, spec: Spec, inputs: Inputs, rows: Tensor, dtype: torch.dtype, backward: bool
) -> SampledResult:
    """``plugin.oracle`` at ``rows`` in ``dtype`` on the device of the inputs, in chunks of rows that bound its memory.

    At 65,536 tokens and 64 heads it takes a second on a GPU, where it runs torch's own kernels in float64, and minutes
    on the host. Chunks are of rows and not of heads, so that a random attention draws the same numbers in each.
    """
    with clean_numerics():  # a plugin may have left autocast on, in which its own oracle would be as wrong as itself
        return _run_oracle(plugin, spec, inputs, rows, dtype, backward)


def _run_oracle(
    plugin: AttentionPlugin, spec: Spec, inputs: Inputs, rows: Tensor, dtype: torch.dtype, backward: bool
) -> SampledResult:
    mask = inputs.key_padding_mask
    device = inputs.q.device
    q, k, v = (x.detach().to(dtype).requires_grad_(backward) for x in (inputs.q, inputs.k, inputs.v))
    grad = inputs.grad.to(dtype)
    rows = rows.to(device)
    batch, heads, n, _ = q.shape
    bytes_per_row = batch * heads * n * dtype.itemsize * 8  # scores, weights and their gradients
    outputs: list[Tensor] = []
    gradients = [torch.zeros_like(x) for x in (q, k, v)] if backward else []
    limit = ORACLE_BYTES.get(device.type, ORACLE_BYTES["cpu"])
    for chunk in rows.split(max(1, limit // bytes_per_row)):
        torch.manual_seed(spec.seed)
        with torch.device(device), torch.set_grad_enabled(backward):
            out = plugin.oracle(spec, q, k, v, mask, chunk)
        outputs.append(out.detach())
        if backward:
            of_chunk = torch.autograd.grad(out, (q, k, v), grad[:, :, chunk])
            for total, part in zip(gradients, of_chunk, strict=True):
                total += part
    return SampledResult(torch.cat(outputs, 2), tuple(gradients))


def relative_error(measured: Tensor, truth: Tensor, scale: float | None = None) -> float:
    """Frobenius norm of the difference, divided by ``scale``; None: by the norm of ``truth``.

    The difference itself if the divisor is 0; NaN or infinite if not all numbers are finite.
    """
    truth = truth.detach().double()
    measured = measured.detach().to(truth.device, torch.float64)
    difference = (measured - truth).norm().item()
    scale = truth.norm().item() if scale is None else scale
    return difference / scale if scale else difference


def real_positions(inputs: Inputs) -> Tensor:
    """Positions ``[R]`` (int64) that are real in every sequence."""
    if inputs.key_padding_mask is None:
        return torch.arange(inputs.q.shape[2], device=inputs.q.device)
    return inputs.key_padding_mask.all(0).nonzero().flatten()
