"""Which known mistake a wrong result equals, so that a message names the cause and not only the size of the error.

A wrong mask, a forgotten factor or a rounding in half precision all give "error 0.4". What the mistake computes follows
from the oracle itself, called with other arguments: without the mask, with the queries multiplied by sqrt(D), and so
on. A measured output that is close to such a result, and far from the right one, has that mistake.
"""

import math
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor

from harness.core.plugin import AttentionPlugin
from harness.core.spec import Spec
from harness.measure.inputs import Inputs
from harness.measure.process_state import clean_numerics
from harness.measure.sampled_rows import real_at, set_generator

ROWS = 16
"""Query rows that are compared, at most: each mistake is an oracle of its own."""
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Largest relative error to what a mistake computes, by dtype: rounding differs between formulas."""
MUCH_CLOSER = 0.1
"""Largest error to what a mistake computes, in errors to the right result."""
FACTOR_TOLERANCE = 0.2
"""How far the error may be from that of a lower precision: the difference of their logarithms to base 10."""


@clean_numerics()
def of_output(
    plugin: AttentionPlugin, spec: Spec, inputs: Inputs, rows: Tensor, measured: Tensor, whole: Tensor
) -> str | None:
    """What a wrong output equals, as the end of the sentence "it equals ..."; None if nothing that is known.

    Args:
        plugin: gives the oracle.
        spec: the case.
        inputs: of the call.
        rows: query positions, int64 ``[R]``.
        measured: the output there, ``[B, H, R, D]``.
        whole: the output at all positions, ``[B, H, N, D]``; what it has at padded ones tells two mistakes apart.
    """
    chosen = torch.arange(len(rows))[:: max(1, len(rows) // ROWS)]
    rows, measured = rows[chosen], measured[:, :, chosen].double()
    real = real_at(inputs, rows).expand_as(measured)
    if not bool(measured[real].isfinite().all()):
        return None
    oracle = _Oracle(plugin, spec, inputs, rows)
    with suppress(Exception), torch.no_grad():  # an oracle need not take other arguments than a case's
        right = oracle(inputs.q, inputs.k, inputs.v, inputs.key_padding_mask)
        distance = _error(measured, right, real)
        limit = min(CLOSE[inputs.q.dtype], MUCH_CLOSER * distance)
        found = _closest(measured, _mistakes(oracle, inputs, rows), real, limit)
        if found == _WITHOUT_MASK and _masks_queries(inputs, whole):
            return "the definition with the padding mask applied to the queries instead of the keys"
        return found or _multiple(measured, right, real, limit) or _lower_precision(oracle, inputs, right, distance)
    return None


def of_gradient(name: str, measured: Tensor, truth: dict[str, Tensor], allowed: float) -> str | None:
    """The same for a gradient; ``truth`` has the right ones by name, float64 ``[B, H, N, D]``."""
    right = truth[name].double()
    measured = measured.to(right.device, torch.float64)
    everywhere = torch.ones_like(right, dtype=torch.bool)
    if not bool(measured.isfinite().all()):
        return None
    limit = min(max(16 * allowed, CLOSE[torch.float32]), MUCH_CLOSER * _error(measured, right, everywhere))
    for other in ("grad_q", "grad_k", "grad_v"):
        if other != name and other in truth and _error(measured, truth[other].double(), everywhere) <= limit:
            return f"the right {other}"
    return _multiple(measured, right, everywhere, limit)


_WITHOUT_MASK = "the definition without the padding mask"


class _Oracle:
    """The oracle in float64, with other arguments than those of the case."""

    def __init__(self, plugin: AttentionPlugin, spec: Spec, inputs: Inputs, rows: Tensor) -> None:
        self._plugin, self._spec, self._rows = plugin, spec, rows.to(inputs.q.device)

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        rows: Tensor | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """``[B, H, R, D]`` in float64, computed in ``dtype``."""
        set_generator(self._spec.seed)
        rows = self._rows if rows is None else rows.to(q.device)
        with torch.device(q.device):
            return self._plugin.oracle(self._spec, q.to(dtype), k.to(dtype), v.to(dtype), mask, rows).double()


def _mistakes(oracle: _Oracle, inputs: Inputs, rows: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What each mistake computes, with its description."""
    q, k, v, mask = inputs.q.double(), inputs.k.double(), inputs.v.double(), inputs.key_padding_mask
    n, scale = q.shape[2], math.sqrt(q.shape[3])
    if mask is not None:
        yield _WITHOUT_MASK, oracle(q, k, v, None)
        yield "the definition with the padding mask inverted (True is a real token)", oracle(q, k, v, ~mask)
        zeroed = v.where(mask[:, None, :, None], 0)
        yield "the definition with the padding mask applied after the normalisation", oracle(q, k, zeroed, None)
    yield "the definition without the factor 1/sqrt(head size)", oracle(q * scale, k, v, mask)
    yield "the definition with the factor 1/sqrt(head size) applied twice", oracle(q / scale, k, v, mask)
    yield "the definition with q and k exchanged", oracle(k, q, v, mask)
    yield "the definition with k in place of v", oracle(q, k, k, mask)
    yield "the definition with q in place of v", oracle(q, k, q, mask)
    yield "causal attention: later keys are hidden from each query", _causal(oracle, inputs, rows)
    yield "the definition at the previous position", oracle(q, k, v, mask, (rows - 1) % n)
    yield "the definition at the next position", oracle(q, k, v, mask, (rows + 1) % n)
    yield "the definition with the heads in reverse order", oracle(q.flip(1), k.flip(1), v.flip(1), mask)


def _causal(oracle: _Oracle, inputs: Inputs, rows: Tensor) -> Tensor:
    """Each query row with a padding mask of its own."""
    batch, _, n, _ = inputs.q.shape
    everywhere = torch.ones(batch, n, dtype=torch.bool, device=inputs.q.device)
    mask = everywhere if inputs.key_padding_mask is None else inputs.key_padding_mask
    position = torch.arange(n, device=inputs.q.device)
    parts = [
        oracle(inputs.q, inputs.k, inputs.v, mask & (position <= row), row[None]) for row in rows.to(position.device)
    ]
    return torch.cat(parts, 2)


def _closest(measured: Tensor, mistakes: Iterator[tuple[str, Tensor]], real: Tensor, limit: float) -> str | None:
    errors = {name: _error(measured, computed, real) for name, computed in mistakes}
    name = min(errors, key=lambda name: errors[name])
    return name if errors[name] <= limit else None


def _error(measured: Tensor, computed: Tensor, real: Tensor) -> float:
    """Relative error where rows are real and ``computed`` is finite; infinite where that is nowhere."""
    computed = computed.to(measured.device)
    compared = real.to(measured.device) & computed.isfinite().all(-1, keepdim=True)
    norm = computed[compared].norm().item()
    return (measured - computed)[compared].norm().item() / norm if norm > 0 else math.inf


def _multiple(measured: Tensor, right: Tensor, real: Tensor, limit: float) -> str | None:
    """Zero, or the right result times a constant."""
    measured, right = measured[real], right.to(measured.device)[real]
    if not measured.any():
        return "zero everywhere"
    norm = (right @ right).item()
    if norm == 0:
        return None
    factor = (measured @ right).item() / norm
    rest = (measured - factor * right).norm().item() / measured.norm().item()
    return f"the right result times {factor:.4g}" if rest <= limit else None


def _masks_queries(inputs: Inputs, whole: Tensor) -> bool:
    """Whether the output at padded positions is that of a query without a key: no number, zero, or the mean of v."""
    assert inputs.key_padding_mask is not None
    padded = ~inputs.key_padding_mask[:, None, :, None].to(whole.device).expand_as(whole)
    if not bool(padded.any()):
        return False
    values = whole[padded].double()
    if not bool(values.isfinite().all()) or not bool(values.any()):
        return True
    mean = inputs.v.double().mean(2, keepdim=True).to(whole.device).expand_as(whole)[padded]
    return (values - mean).norm().item() <= CLOSE[inputs.q.dtype] * mean.norm().item()


def _lower_precision(oracle: _Oracle, inputs: Inputs, right: Tensor, distance: float) -> str | None:
    """Whether an error in float32 is as large as that of the definition in a 16-bit dtype."""
    if inputs.q.dtype != torch.float32:
        return None
    for dtype in (torch.bfloat16, torch.float16):
        rounded = oracle(inputs.q, inputs.k, inputs.v, inputs.key_padding_mask, dtype=dtype)
        error = _error(rounded, right, torch.ones_like(right, dtype=torch.bool))
        if error > 0 and distance > 0 and abs(math.log10(distance / error)) <= FACTOR_TOLERANCE:
            return f"the definition in {str(dtype).removeprefix('torch.')}, by the size of its error"
    return None
