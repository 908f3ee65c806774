"""A module and its plugin's oracle, both evaluated at a sample of query rows, with the gradients of these rows.

The module runs at its full size with its real kernel, and the gradient of its output is zero outside the rows: so the
oracle's input gradients, which come from these rows alone, must equal the module's at **every** position, the last
key included.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.core.plugin import AttentionPlugin
from harness.core.spec import Spec
from harness.measure.inputs import Inputs

ORACLE_BYTES = {"cpu": 2**30, "cuda": 2**33}
"""About what the oracle's largest tensors may take together, by device; on others as on the CPU."""
GRADIENTS = ("grad_q", "grad_k", "grad_v")


@dataclass(frozen=True)
class Result:
    """``output`` ``[B, H, R, D]`` at the sampled rows, and the gradients ``[B, H, N, D]`` of q, k, v (or none)."""

    output: Tensor
    gradients: tuple[Tensor, ...]

    def named(self) -> dict[str, Tensor]:
        """The tensors by the name of their check."""
        return {"output": self.output} | dict(zip(GRADIENTS, self.gradients, strict=False))


class WrongShape(Exception):
    """The module's output has another shape or dtype than its query."""


def sample_rows(inputs: Inputs, at_most: int, seed: int) -> Tensor:
    """Sorted query positions ``[R]`` (int64, CPU) that are real in every sequence: first, last, the rest random."""
    real = real_positions(inputs).cpu()
    inner = real[1:-1]
    chosen = torch.randperm(len(inner), generator=torch.Generator().manual_seed(seed))[: max(at_most - 2, 0)]
    return torch.cat([real[:1], inner[chosen], real[-1:]]).unique()


def run(module: nn.Module, inputs: Inputs, rows: Tensor, seed: int, backward: bool) -> tuple[Tensor, Result]:
    """The module's whole output and its part at ``rows``, with the input gradients that come from ``rows`` alone.

    Raises:
        WrongShape: the output is not shaped or typed as the query.
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
    # Cloned: a module may hand out a buffer that its next call writes over.
    return out.detach().clone(), Result(out.detach()[:, :, rows], gradients)


def run_oracle(
    plugin: AttentionPlugin, spec: Spec, inputs: Inputs, rows: Tensor, dtype: torch.dtype, backward: bool
) -> Result:
    """``plugin.oracle`` at ``rows`` in ``dtype``, where the inputs are, in chunks of rows that bound its memory.

    On a GPU at 65,536 tokens of 64 heads it takes a second; on its host it would take minutes. Its kernels there are
    torch's own, in float64. Chunks are of rows, not heads, so that a random attention draws the same numbers for each.
    """
    mask = inputs.key_padding_mask
    device = inputs.q.device
    q, k, v = (x.detach().to(dtype).requires_grad_(backward) for x in (inputs.q, inputs.k, inputs.v))
    grad = inputs.grad.to(dtype)
    rows = rows.to(device)
    batch, heads, n, _ = q.shape
    a_row = batch * heads * n * dtype.itemsize * 8  # scores, weights and their gradients
    outputs: list[Tensor] = []
    sums = [torch.zeros_like(x) for x in (q, k, v)] if backward else []
    budget = ORACLE_BYTES.get(device.type, ORACLE_BYTES["cpu"])
    for chunk in rows.split(max(1, budget // a_row)):
        torch.manual_seed(spec.seed)
        with torch.device(device), torch.set_grad_enabled(backward):
            out = plugin.oracle(spec, q, k, v, mask, chunk)
        outputs.append(out.detach())
        if backward:
            for total, part in zip(sums, torch.autograd.grad(out, (q, k, v), grad[:, :, chunk]), strict=True):
                total += part
    return Result(torch.cat(outputs, 2), tuple(sums))


def relative_error(found: Tensor, truth: Tensor, scale: float | None = None) -> float:
    """Frobenius norm of the difference over ``scale``, that of ``truth`` if None; nan or inf if not all are finite."""
    truth = truth.detach().double()
    found = found.detach().to(truth.device, torch.float64)
    difference = (found - truth).norm().item()
    scale = truth.norm().item() if scale is None else scale
    return difference / scale if scale else difference


def real_positions(inputs: Inputs) -> Tensor:
    """Positions ``[R]`` that are real in every sequence."""
    if inputs.key_padding_mask is None:
        return torch.arange(inputs.q.shape[2], device=inputs.q.device)
    return inputs.key_padding_mask.all(0).nonzero().flatten()
