"""Verification of one call that was made for another purpose: a timed call, or a layer's call inside a model.

Such a call cannot be arranged for the verifier: its output has a gradient at every position, and the oracle of all
positions takes too long. So the call is repeated with that gradient set to zero at a random sample of rows. Its outputs
must be the same. A backward pass is linear, so the difference of both calls' gradients is the gradient through the
sampled rows, which the oracle gives. A call that was wrong, incomplete or answered from memory cannot satisfy both
unless it computes what the attention is, because the rows are drawn after the call.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.core.plugin import AttentionPlugin
from harness.core.record import Check
from harness.core.spec import OperationSpec
from harness.measure.inputs import Inputs
from harness.measure.sampled_rows import (
    GRADIENTS,
    SampledResult,
    WrongShape,
    at_real_rows,
    checked_output,
    input_gradients,
    real_at,
    real_positions,
    sample_rows,
)
from harness.measure.verify import ROWS, OracleResults, compare, loosened

Repeat = Callable[[Inputs], Tensor]
"""Makes the call again, from the same state of torch's generator, on the q, k, v and mask of these inputs."""


@dataclass(frozen=True)
class RecordedCall:
    """What a call was given and what it returned.

    Args:
        inputs: with the values from before the call, in memory that the module has not seen.
        output: ``[B, H, N, D]``.
        gradients: of q, k and v, for the gradient ``inputs.grad`` of the whole output; empty without a backward pass.
        generator: the state of torch's default CPU generator before the call.
        repeat: makes the call again.
    """

    inputs: Inputs
    output: Tensor
    gradients: tuple[Tensor, ...]
    generator: Tensor
    repeat: Repeat


def check(
    plugin: AttentionPlugin, spec: OperationSpec, call: RecordedCall, rows_compared: int = ROWS, factor: float = 1.0
) -> list[Check]:
    """Compare a recorded call with its repetition and with the oracle.

    Args:
        plugin: gives the oracle.
        spec: the operation case of the call.
        call: the call.
        rows_compared: size of the sample of rows of each sequence.
        factor: allowed error, in multiples of what ``verify`` allows; see ``verify.STRUCTURED_FACTOR``.
    """
    rows_seed = secrets.randbits(32)
    rows = sample_rows(call.inputs, rows_compared, rows_seed)
    try:
        output, gradients = _repeat_without(rows, call)
    except WrongShape as error:
        return [Check(what=f"{error}, when it is repeated", error=None, allowed=0.0, passed=False)]
    oracle = OracleResults.of(plugin, spec, call.inputs, rows, bool(call.gradients), call.generator)
    checks = oracle.compare(SampledResult(at_real_rows(call.output, call.inputs, rows), ()))
    repeated, first = (at_real_rows(x, call.inputs, real_positions(call.inputs)) for x in (output, call.output))
    checks.append(compare("output of its repetition", repeated, first, 2 * checks[0].allowed))
    checks += [
        oracle.compare_in_total(kind, of_all, rest=of_rest)
        for kind, of_all, of_rest in zip(GRADIENTS, call.gradients, gradients, strict=False)
    ]
    return [found.model_copy(update={"rows_seed": rows_seed}) for found in loosened(checks, factor)]


def _repeat_without(rows: Tensor, call: RecordedCall) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output of the repeated call, and its gradients for an upstream gradient that is zero at ``rows``."""
    backward = bool(call.gradients)
    q, k, v = (x.clone().requires_grad_(backward) for x in (call.inputs.q, call.inputs.k, call.inputs.v))
    mask = None if call.inputs.key_padding_mask is None else call.inputs.key_padding_mask.clone()
    with torch.set_grad_enabled(backward):
        output = checked_output(call.repeat(replace(call.inputs, q=q, k=k, v=v, key_padding_mask=mask)), q)
    gradients: tuple[Tensor, ...] = ()
    if backward:
        upstream = call.inputs.grad.clone()
        at_rows = rows.to(upstream.device)
        upstream[:, :, at_rows] = upstream[:, :, at_rows].where(~real_at(call.inputs, rows), 0)
        gradients = input_gradients(output, (q, k, v), upstream)
    return output.detach(), gradients
