"""Whether a plugin computes what it says: compared with its float64 oracle before anything is timed.

Outputs are compared at a sample of query rows, gradients everywhere (see ``harness.measure.sampled_rows``).

An error is allowed as far as rounding explains it: ``FACTOR`` times the error of the oracle itself in the case's own
dtype. FlashAttention's tests use the same rule and factor (https://github.com/Dao-AILab/flash-attention, tests).
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.core.plugin import AttentionPlugin
from harness.core.record import Check
from harness.core.spec import OperationSpec
from harness.measure.inputs import Inputs, draw
from harness.measure.sampled_rows import (
    Result,
    WrongShape,
    real_positions,
    relative_error,
    run,
    run_oracle,
    sample_rows,
)

ROWS = 64
FACTOR = 2.0
FLOOR_EPS = 1
"""Allowed in any case, in units of the dtype's machine epsilon: the oracle's own rounding can be exactly zero."""
FEW_TOKENS = 16
"""With as few that floor is twice as high, and with fewer higher: a few roundings do not average out, and those of the
oracle may be small by chance."""
MOST = 0.5
"""Allowed at most, whatever rounding explains: zeros have an error of 1."""
ZERO = 1e-10
"""A truth below this share of the gradient of the output is zero but for float64's rounding."""
ZERO_EPS = 16
"""Allowed, in floors, where the truth is zero; relative to the gradient of the output then."""
LARGE = 100.0
"""What padded keys and values are multiplied with: far outside the real ones, and far from overflow in float16."""
TAIL = 8
"""Keys at the end whose values are raised in the second inputs, so that dropping them shows at any length."""


def check(plugin: AttentionPlugin, spec: OperationSpec, module: nn.Module, inputs: Inputs) -> list[Check]:
    """Every comparison of ``module`` with ``plugin.oracle``; the module is right if all of them passed.

    Args:
        plugin: gives the oracle.
        spec: forward_backward specs have their gradients compared too.
        module: as ``plugin.build(spec)`` gave it.
        inputs: as ``inputs.make(spec)`` gave them.
    """
    backward = spec.mode == "forward_backward"
    rows = sample_rows(inputs, ROWS, spec.seed)
    mine = _own_storage(inputs)
    try:
        full, found = run(module, mine, rows, spec.seed, backward)
    except WrongShape as error:
        return [Check(what=str(error), error=None, allowed=0.0, passed=False)]
    checks = [_finite(full, found, inputs)]
    against_oracle = _against_oracle(plugin, spec, inputs, rows, found, backward, "")
    checks += against_oracle
    allowed = against_oracle[0].allowed  # two calls may differ by their order of summation, so by rounding
    if inputs.key_padding_mask is not None:
        checks.append(_padding(module, inputs, full, allowed, spec.seed))
    checks += _second_call(plugin, spec, module, mine, backward)
    _copy(mine, inputs)
    again, _ = run(module, mine, rows, spec.seed, backward=False)
    real = real_positions(inputs)
    checks.append(_compare("output of a repeated call", again[:, :, real], full[:, :, real], allowed))
    return checks


def failures(checks: list[Check]) -> list[str]:
    """One sentence for each check that did not pass."""
    said = []
    for one in checks:
        if not one.passed:
            error = "not finite" if one.error is None else f"{one.error:.3g}"
            said.append(f"{one.what}: error {error}, allowed {one.allowed:.3g}")
    return said


def _against_oracle(
    plugin: AttentionPlugin,
    spec: OperationSpec,
    inputs: Inputs,
    rows: Tensor,
    found: Result,
    backward: bool,
    when: str,
) -> list[Check]:
    truth = run_oracle(plugin, spec, inputs, rows, torch.float64, backward).named()
    rounded = run_oracle(plugin, spec, inputs, rows, inputs.q.dtype, backward).named()
    least = FLOOR_EPS * torch.finfo(inputs.q.dtype).eps
    floor = least * (1 + FEW_TOKENS / inputs.q.shape[2]) + plugin.kernel_error
    upstream = inputs.grad[:, :, rows.to(inputs.grad.device)].double().norm().item()
    checks = []
    for name, value in found.named().items():
        if truth[name].norm() > ZERO * upstream:
            rounding = relative_error(rounded[name], truth[name])
            allowed = min(FACTOR * rounding + floor, MOST) if math.isfinite(rounding) else floor
            checks.append(_compare(name + when, value, truth[name], allowed))
        else:  # the weight of a single key is constant: what a kernel gives for this zero is rounding
            checks.append(_compare(name + when, value, truth[name], ZERO_EPS * least, upstream))
    return checks


def _second_call(
    plugin: AttentionPlugin, spec: OperationSpec, module: nn.Module, mine: Inputs, backward: bool
) -> list[Check]:
    """Other numbers in the same tensors: an output that was kept from the first call is wrong here."""
    drawn = draw(tuple(mine.q.shape), spec.seed + 1, spec.device)
    tail = real_positions(mine)[-TAIL:]
    drawn[2][:, :, tail] *= math.sqrt(spec.seq_len / TAIL) if spec.seq_len > TAIL else 1.0
    q, k, v, grad = (x.to(mine.q.dtype) for x in drawn)
    _copy(mine, Inputs(q, k, v, mine.key_padding_mask, grad))
    rows = sample_rows(mine, TAIL, spec.seed + 1)
    _, found = run(module, mine, rows, spec.seed, backward)
    return _against_oracle(plugin, spec, mine, rows, found, backward, " of a second call")


def _padding(module: nn.Module, inputs: Inputs, before: Tensor, allowed: float, seed: int) -> Check:
    """The output at real rows, with padded keys and values made large."""
    mask = inputs.key_padding_mask
    assert mask is not None
    scale = torch.where(mask, 1.0, LARGE)[:, None, :, None].to(inputs.k.dtype)
    after, _ = run(module, replace(inputs, k=inputs.k * scale, v=inputs.v * scale), real_positions(inputs), seed, False)
    real = real_positions(inputs)
    return _compare("output after a change of padded keys", after[:, :, real], before[:, :, real], allowed)


def _finite(full: Tensor, found: Result, inputs: Inputs) -> Check:
    """Share of numbers that are not finite, over all real rows and all gradients."""
    parts = [full[:, :, real_positions(inputs)], *found.gradients]
    wrong = sum(int((~part.isfinite()).sum()) for part in parts)
    share = wrong / sum(part.numel() for part in parts)
    return Check(what="share of numbers that are not finite", error=share, allowed=0.0, passed=wrong == 0)


def _compare(what: str, found: Tensor, truth: Tensor, allowed: float, scale: float | None = None) -> Check:
    error = relative_error(found, truth, scale)
    if not math.isfinite(error):
        return Check(what=what, error=None, allowed=allowed, passed=False)
    return Check(what=what, error=error, allowed=allowed, passed=error <= allowed)


def _own_storage(inputs: Inputs) -> Inputs:
    return replace(inputs, q=inputs.q.clone(), k=inputs.k.clone(), v=inputs.v.clone(), grad=inputs.grad.clone())


def _copy(to: Inputs, other: Inputs) -> None:
    for mine, theirs in ((to.q, other.q), (to.k, other.k), (to.v, other.v), (to.grad, other.grad)):
        mine.copy_(theirs)
