"""A module and its plugin's oracle, both evaluated at all or a sample of the query rows, with their gradients.

The module runs at full size with its real kernel, and the gradient of its output is zero outside the rows. The oracle's
input gradients, which come from these rows alone, must therefore equal the module's at **every** position, the last key
included.

Sequences of one batch may have different padding. A row is therefore compared if it is real in at least one sequence;
in the others, where it is padded, the output is unspecified, so both results are zero there and the gradient of the
output, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn

from harness.core.plugin import AttentionPlugin
from harness.core.record_text import exception_text
from harness.core.spec import Spec
from harness.measure.inputs import Inputs
from harness.measure.process_state import clean_numerics

ORACLE_BYTES = {"cpu": 2**30, "cuda": 2**33}
"""Rough limit for the oracle's largest tensors together, by device type; other devices have the CPU's limit."""
ORACLE_SECONDS = 300.0
"""Limit for one evaluation of an oracle. It is checked after each chunk of rows."""
GRADIENTS = ("grad_q", "grad_k", "grad_v")
Randomness = int | Tensor
"""A seed for torch's default CPU generator, or a state of it."""


@dataclass(frozen=True)
class SampledResult:
    """``output`` ``[B, H, R, D]`` at the sampled rows; ``gradients`` of q, k, v, ``[B, H, N, D]`` each, or empty.

    The output is zero at rows that are padded in their sequence.
    """

    output: Tensor
    gradients: tuple[Tensor, ...]

    def named(self) -> dict[str, Tensor]:
        """The tensors by the name of their check."""
        return {"output": self.output} | dict(zip(GRADIENTS, self.gradients, strict=False))


class WrongShape(Exception):
    """The output is no plain tensor, has another shape or dtype than its query, or no gradient in a backward pass."""


class OracleFailure(Exception):
    """The oracle raised an exception, so the case cannot be verified."""


class OracleTimeout(Exception):
    """The oracle took longer than ``ORACLE_SECONDS``, so the case cannot be verified."""


def set_generator(randomness: Randomness) -> None:
    """Set torch's default CPU generator, from which attentions draw their random numbers."""
    if isinstance(randomness, Tensor):
        torch.set_rng_state(randomness)
    else:
        torch.manual_seed(randomness)


def checked_output(output: object, q: Tensor) -> Tensor:
    """``output`` if it is a plain tensor of the shape and dtype of ``q``.

    Raises:
        WrongShape: it is not. A subclass of Tensor may compute its values when they are read, after the clock stopped.
    """
    if not isinstance(output, Tensor):
        raise WrongShape(f"output is a {type(output).__name__}, not a tensor")
    if type(output) is not Tensor:
        raise WrongShape(f"output is a {type(output).__name__}, a subclass of torch.Tensor; return a plain tensor")
    if output.shape != q.shape or output.dtype != q.dtype:
        raise WrongShape(f"output is {output.dtype} {list(output.shape)}, not {q.dtype} {list(q.shape)}")
    return output


def input_gradients(output: Tensor, tensors: tuple[Tensor, ...], upstream: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the tensors; zeros for one that the output does not depend on.

    Raises:
        WrongShape: the output depends on none of them, or was computed without a record for gradients.
    """
    if not output.requires_grad:
        raise WrongShape(
            "the output has no gradient: it does not depend on q, k and v, or it was computed under torch.no_grad or "
            "from detached tensors"
        )
    return torch.autograd.grad(output, tensors, upstream, materialize_grads=True)


def sample_rows(inputs: Inputs, at_most: int, seed: int) -> Tensor:
    """Sorted query positions ``[R]`` (int64, CPU) that are real in some sequence: first, last, and random ones.

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
        WrongShape: the output is no plain tensor, has another shape or dtype than the query, or no gradient.
    """
    q, k, v = (x.detach().requires_grad_(backward) for x in (inputs.q, inputs.k, inputs.v))
    torch.manual_seed(seed)
    with torch.set_grad_enabled(backward):
        out = checked_output(module(q, k, v, inputs.key_padding_mask), q)
    gradients: tuple[Tensor, ...] = ()
    rows = rows.to(out.device)
    if backward:
        upstream = torch.zeros_like(inputs.grad)
        upstream[:, :, rows] = at_real_rows(inputs.grad, inputs, rows)
        gradients = input_gradients(out, (q, k, v), upstream)
    # Cloned, because a faulty module may return a buffer that its next call overwrites.
    return out.detach().clone(), SampledResult(at_real_rows(out.detach(), inputs, rows), gradients)


@clean_numerics()  # a plugin may have left autocast on, in which its own oracle would be as wrong as itself
def run_oracle(
    plugin: AttentionPlugin,
    spec: Spec,
    inputs: Inputs,
    rows: Tensor,
    dtype: torch.dtype,
    backward: bool,
    randomness: Randomness | None = None,
) -> SampledResult:
    """``plugin.oracle`` at ``rows`` in ``dtype`` on the device of the inputs, in chunks of rows that bound its memory.

    At 65,536 tokens and 64 heads it takes a second on a GPU, where it runs torch's own kernels in float64, and minutes
    on the host. Chunks are of rows and not of heads, so that a random attention draws the same numbers in each. Each
    starts from ``randomness``; None: from ``spec.seed``.

    Raises:
        OracleFailure: the oracle raised an exception.
        OracleTimeout: it took longer than ``ORACLE_SECONDS``.
    """
    began = perf_counter()
    mask = inputs.key_padding_mask
    device = inputs.q.device
    q, k, v = (x.detach().to(dtype).requires_grad_(backward) for x in (inputs.q, inputs.k, inputs.v))
    grad = inputs.grad.to(dtype)
    rows = rows.to(device)
    batch, heads, n, _ = q.shape
    bytes_per_row = batch * heads * n * dtype.itemsize * 8  # scores, weights and their gradients
    output = torch.zeros(batch, heads, len(rows), v.shape[-1], dtype=dtype, device=device)
    gradients = [torch.zeros_like(x) for x in (q, k, v)] if backward else []
    limit = ORACLE_BYTES.get(device.type, ORACLE_BYTES["cpu"])
    for real, places in _by_padding(inputs, rows):
        for part in places.split(max(1, limit // bytes_per_row)):
            if perf_counter() - began > ORACLE_SECONDS:
                raise OracleTimeout(
                    f"not verified, and so not timed: the oracle of {plugin.name} took longer than {ORACLE_SECONDS:g} "
                    f"s for {len(rows)} rows of {n} tokens"
                )
            set_generator(spec.seed if randomness is None else randomness)
            chunk = rows[part]
            try:
                with torch.device(device), torch.set_grad_enabled(backward):
                    out = plugin.oracle(spec, q, k, v, mask, chunk)
                upstream = grad[:, :, chunk].where(real, 0)
                of_chunk = input_gradients(out, (q, k, v), upstream) if backward else ()
            except (MemoryError, torch.OutOfMemoryError, OracleFailure):
                raise
            except Exception as error:
                raise OracleFailure(
                    f"not verified, and so not timed: the oracle of {plugin.name} raised {exception_text(error)}"
                ) from error
            output[:, :, part] = out.detach().where(real, 0)
            for total, gradient in zip(gradients, of_chunk, strict=True):
                total += gradient.where(real, 0)
    return SampledResult(output, tuple(gradients))


def _by_padding(inputs: Inputs, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The sequences in which rows are real, bool ``[B, 1, 1, 1]``, and the places in ``rows`` where these are the same.

    A padded row may have no key at all, for which a definition by softmax gives NaN, in the gradients of its sequence,
    too. Rows that are padded in the same sequences are evaluated together, and these sequences left out.
    """
    real = real_at(inputs, rows)[:, 0, :, 0]
    patterns, which = real.T.unique(dim=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        yield pattern[:, None, None, None], (which == number).nonzero().flatten()


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
    """Positions ``[R]`` (int64) that are real in at least one sequence."""
    if inputs.key_padding_mask is None:
        return torch.arange(inputs.q.shape[2], device=inputs.q.device)
    return inputs.key_padding_mask.any(0).nonzero().flatten()


def real_at(inputs: Inputs, rows: Tensor) -> Tensor:
    """In which sequences the positions ``rows`` are real: bool ``[B, 1, R, 1]``, on the device of the inputs."""
    mask = inputs.key_padding_mask
    if mask is None:
        return torch.ones(inputs.q.shape[0], 1, len(rows), 1, dtype=torch.bool, device=inputs.q.device)
    return mask[:, None, rows.to(mask.device), None]


def at_real_rows(values: Tensor, inputs: Inputs, rows: Tensor) -> Tensor:
    """``values`` ``[B, H, N, D]`` at the positions ``rows``, ``[B, H, R, D]``; zero where a row is padded."""
    at_rows = values[:, :, rows.to(values.device)]
    if inputs.key_padding_mask is None:
        return at_rows
    return at_rows.where(real_at(inputs, rows).to(values.device), 0)
