"""Whether a plugin computes what it says: compared with its float64 oracle before anything is timed.

Outputs are compared at every query row that is real in its sequence up to ``FULL_ROWS`` tokens, and beyond at a random
sample of them; gradients at every position (see ``harness.measure.sampled_rows``). Each tensor is judged in total, by
its worst head and by its worst row, and the output also by the deviation that all rows share (see
``harness.measure.worst_rows``).

The allowed error is what rounding explains: ``ROUNDING_FACTOR`` times the error of the oracle itself in the case's own
dtype. FlashAttention's tests use the same rule and factor (https://github.com/Dao-AILab/flash-attention, tests).
"""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.audit import MAX_KERNEL_ERROR
from harness.core.plugin import AttentionPlugin
from harness.core.record import CHANGED_INPUTS, MEAN_DEVIATION, WORST_HEAD, WORST_ROW, Check
from harness.core.spec import OperationSpec, Spec
from harness.measure import known_mistakes
from harness.measure.inputs import Inputs, draw, with_other_lengths
from harness.measure.sampled_rows import (
    Randomness,
    SampledResult,
    WrongShape,
    at_real_rows,
    real_at,
    real_positions,
    relative_error,
    run_module,
    run_oracle,
    sample_rows,
)
from harness.measure.worst_rows import ROUNDING_FACTOR, Comparison, Worst

FULL_ROWS = 1024
"""Up to this many tokens every query row is compared."""
LEAST_ROW_SIZE = 8
"""Numbers in a row from which heads and rows are judged: the norm of fewer is often near zero by cancellation."""
SAMPLED_ROWS = 128
"""Query rows that are compared in a longer sequence."""
ROWS = 64
"""Query rows that are compared in the second call, at most."""
SOFTMAX_ROWS = 8
"""Rows at which the oracle of an attention that declares exact softmax attention is compared with it."""
FLOOR_EPS = 1
"""An error that is always allowed, in machine epsilons of the dtype: the oracle's own rounding can be exactly zero."""
FEW_TOKENS = 16
"""At this many tokens the floor is doubled, and for fewer it is higher: a few roundings do not average out, and the
oracle's own may be small by chance."""
MAX_ALLOWED = 0.5
"""Upper limit of the allowed error, whatever rounding explains: an output of zeros has an error of 1."""
MAX_ALLOWED_IN_TOTAL = {torch.float32: 1e-2, torch.float16: 0.1, torch.bfloat16: 0.25}
"""The same for a whole tensor, by dtype: an oracle that rounds more than this is as rough as a wrong kernel. The
largest allowed errors of the attentions here are 3e-3 in float32 and 0.1 in bfloat16."""
ZERO = 1e-10
"""A true value below this fraction of the upstream gradient is zero, apart from rounding in float64."""
ZERO_EPS = 16
"""Allowed error where the true value is zero, in multiples of the floor, relative to the upstream gradient."""
STRUCTURED_FACTOR = 16
"""Allowed error on inputs that are not independent noise, in multiples of what is allowed otherwise: those of a model,
and of a quality case. Attention is smooth there, and gradients are small differences of large numbers, which kernels
round in other ways than the oracle because they compute them by other formulas."""
PADDED_SCALE = 100.0
"""Factor on padded keys and values: far outside the range of the real ones, and far from overflow in float16."""
TAIL = 8
"""Keys at the end whose values are enlarged in the second inputs, so that dropping them is detected at any length."""


def check(
    plugin: AttentionPlugin, spec: OperationSpec, module: nn.Module, inputs: Inputs, rows_seed: int | None = None
) -> list[Check]:
    """Every comparison of ``module`` with ``plugin.oracle``. The module is correct if all of them passed.

    Args:
        plugin: gives the oracle.
        spec: the case; gradients are compared too if its mode is ``forward_backward``.
        module: the result of ``plugin.build(spec)``.
        inputs: the result of ``inputs.make(spec)``.
        rows_seed: seed of the sample of rows, to reproduce the checks of a record; None: drawn from entropy, so that
            no module can know the rows.
    """
    if rows_seed is None:
        rows_seed = secrets.randbits(32)
    checks = _checks(plugin, spec, module, inputs, rows_seed)
    return [check.model_copy(update={"rows_seed": rows_seed}) for check in checks] if _sampled(inputs) else checks


def check_one_call(plugin: AttentionPlugin, spec: OperationSpec, module: nn.Module, inputs: Inputs) -> list[Check]:
    """The comparisons of ``check`` for a single call; every real row of at most ``FULL_ROWS`` tokens is compared."""
    backward = spec.mode == "forward_backward"
    rows = sample_rows(inputs, FULL_ROWS, spec.seed)
    try:
        output, sampled = run_module(module, _own_storage(inputs), rows, spec.seed, backward)
    except WrongShape as error:
        return [_wrong_shape(error)]
    oracle = OracleResults.of(plugin, spec, inputs, rows, backward)
    against_oracle = _with_known_mistakes(oracle.compare(sampled), plugin, spec, inputs, oracle, output, sampled)
    return [_finite(output, sampled, inputs), *against_oracle]


def _sampled(inputs: Inputs) -> bool:
    """Whether a call compares fewer rows than are real; the second call compares at most ``ROWS``."""
    return len(real_positions(inputs)) > ROWS


def _checks(
    plugin: AttentionPlugin, spec: OperationSpec, module: nn.Module, inputs: Inputs, rows_seed: int
) -> list[Check]:
    backward = spec.mode == "forward_backward"
    rows = sample_rows(inputs, FULL_ROWS if inputs.q.shape[2] <= FULL_ROWS else SAMPLED_ROWS, rows_seed)
    called_with = _own_storage(inputs)
    try:
        output, sampled = run_module(module, called_with, rows, spec.seed, backward)
    except WrongShape as error:
        return [_wrong_shape(error)]
    checks = [_finite(output, sampled, inputs), _unmodified(called_with, inputs)]
    oracle = OracleResults.of(plugin, spec, inputs, rows, backward)
    if plugin.exact_softmax:
        checks.append(_is_softmax(oracle, inputs, rows_seed))
    against_oracle = _with_known_mistakes(oracle.compare(sampled), plugin, spec, inputs, oracle, output, sampled)
    checks += against_oracle
    allowed = against_oracle[0].allowed  # two calls may differ in their order of summation, so by rounding
    if inputs.key_padding_mask is not None:
        checks.append(_padding(module, inputs, output, allowed, spec.seed))
    checks += _second_call(plugin, spec, module, called_with, inputs.key_padding_mask, backward, rows_seed)
    _copy(called_with, inputs)
    repeated, repeated_sample = run_module(module, called_with, rows, spec.seed, backward=False)
    first, second = (at_real_rows(out, inputs, real_positions(inputs)) for out in (output, repeated))
    checks.append(compare("output of a repeated call", second, first, allowed))
    if spec.head_dim >= LEAST_ROW_SIZE:
        checks.append(oracle.worst_row("output", repeated_sample.output, " of a repeated call"))
    return checks


def worst_by_name(checks: Sequence[Check]) -> list[Check]:
    """Of the checks of one name, those that failed, or else the one nearest to its limit."""
    by_name: dict[str, list[Check]] = {}
    for check in checks:
        by_name.setdefault(check.what, []).append(check)

    def share(check: Check) -> float:
        return (check.error or 0.0) / check.allowed if check.allowed else 0.0

    return [
        kept
        for group in by_name.values()
        for kept in ([check for check in group if not check.passed] or [max(group, key=share)])
    ]


def loosened(checks: Sequence[Check], factor: float) -> list[Check]:
    """The checks with a multiple of the error allowed, but not more than ``MAX_ALLOWED``."""

    def loosen(check: Check) -> Check:
        allowed = min(factor * check.allowed, max(check.allowed, MAX_ALLOWED))
        return check.model_copy(
            update={"allowed": allowed, "passed": check.error is not None and check.error <= allowed}
        )

    return [loosen(check) for check in checks]


@dataclass(frozen=True)
class OracleResults:
    """The oracle's results for one call, in float64 and in the case's dtype.

    Args:
        truth: in float64.
        rounded: in the case's dtype.
        rows: the query positions of the outputs.
        real: in which sequences the rows are real, bool ``[B, 1, R, 1]``.
        positions: the number of tokens, which are the positions of the gradients.
        upstream: norm of the output's gradient at the rows.
        least: an error that is always allowed where the true value is zero.
        floor: an error that is always allowed.
    """

    truth: dict[str, Tensor]
    rounded: dict[str, Tensor]
    rows: Tensor
    real: Tensor
    positions: int
    upstream: float
    least: float
    floor: float

    @classmethod
    def of(
        cls,
        plugin: AttentionPlugin,
        spec: Spec,
        inputs: Inputs,
        rows: Tensor,
        backward: bool,
        randomness: Randomness | None = None,
    ) -> "OracleResults":
        """Evaluate the oracle of ``plugin`` twice, from ``randomness`` (None: from the seed of ``spec``).

        By its plain formula an oracle may overflow in float16 where a careful kernel does not. It is then evaluated in
        bfloat16, which does not overflow, and its rounding errors divided by eight, the ratio of the two precisions.
        """
        dtype = inputs.q.dtype
        truth, rounded = (
            run_oracle(plugin, spec, inputs, rows, of, backward, randomness).named() for of in (torch.float64, dtype)
        )
        if dtype is torch.float16 and not all(value.isfinite().all() for value in rounded.values()):
            wide = run_oracle(plugin, spec, inputs, rows, torch.bfloat16, backward, randomness).named()
            share = torch.finfo(torch.float16).eps / torch.finfo(torch.bfloat16).eps
            rounded = {name: torch.lerp(truth[name], wide[name].double(), share).to(dtype) for name in truth}
        positions = inputs.q.shape[2]
        least = FLOOR_EPS * torch.finfo(inputs.q.dtype).eps
        floor = least * (1 + FEW_TOKENS / positions) + min(plugin.kernel_error, MAX_KERNEL_ERROR)
        upstream = at_real_rows(inputs.grad, inputs, rows).double().norm().item()
        return cls(truth, rounded, rows, real_at(inputs, rows), positions, upstream, least, floor)

    def compare(self, sampled: SampledResult, when: str = "") -> list[Check]:
        """Compare each tensor of ``sampled``, first in total; ``when`` is appended to their names."""
        in_total, of_parts = [], []
        for name, value in sampled.named().items():
            in_total.append(self.compare_in_total(name, value, when))
            if self._is_zero(name) or self.truth[name].shape[-1] < LEAST_ROW_SIZE:
                continue
            parts = self._comparison(name, value)
            of_parts.append(_worst(name + when + WORST_HEAD, parts.worst_head()))
            of_parts.append(_worst(name + when + WORST_ROW, parts.worst_row()))
            if name == "output":
                of_parts.append(_worst(name + when + MEAN_DEVIATION, parts.worst_shift(self.positions)))
        return in_total + of_parts

    def compare_in_total(self, name: str, value: Tensor, when: str = "", rest: Tensor | None = None) -> Check:
        """Compare one tensor in total.

        Args:
            name: the tensor's name in ``truth``.
            value: the module's result.
            when: appended to the name of the check.
            rest: what ``value`` contains in addition to the oracle's result, from another call of the module. Then both
                calls have rounded, and twice as much is allowed, relative to the whole.
        """
        truth = self.truth[name]
        expected = truth if rest is None else truth + rest.to(truth.device, truth.dtype)
        roundings = 1 if rest is None else 2
        if self._is_zero(name):
            scale = max(expected.norm().item(), self.upstream)
            return compare(name + when, value, expected, roundings * ZERO_EPS * self.least, scale)
        rounding = relative_error(self.rounded[name], truth)
        explained = ROUNDING_FACTOR * rounding + self.floor if math.isfinite(rounding) else self.floor
        limit = MAX_ALLOWED_IN_TOTAL.get(self.rounded[name].dtype, MAX_ALLOWED)
        return compare(name + when, value, expected, roundings * min(explained, limit))

    def _is_zero(self, name: str) -> bool:
        """Whether the true value is zero: the weight of a single key is constant, and its gradient only rounding.

        Rounding has no scale of its own in a row or head.
        """
        return not self.truth[name].norm() > ZERO * self.upstream

    def worst_row(self, name: str, value: Tensor, when: str) -> Check:
        """Only the worst row of one tensor."""
        return _worst(name + when + WORST_ROW, self._comparison(name, value).worst_row())

    def _comparison(self, name: str, value: Tensor) -> Comparison:
        truth = self.truth[name].detach().double()
        measured, rounded = (x.detach().to(truth.device, torch.float64) for x in (value, self.rounded[name]))
        if name == "output":
            return Comparison(measured, truth, rounded, self.rows, self.floor, MAX_ALLOWED, self.real.to(truth.device))
        return Comparison(measured, truth, rounded, torch.arange(self.positions), self.floor, MAX_ALLOWED)


def _with_known_mistakes(
    checks: list[Check],
    plugin: AttentionPlugin,
    spec: OperationSpec,
    inputs: Inputs,
    oracle: OracleResults,
    output: Tensor,
    sampled: SampledResult,
) -> list[Check]:
    """The checks; a wrong output, or the wrong gradients of a right one, with the known mistake that it equals."""
    failed = {check.what for check in checks if not check.passed}
    equal: dict[str, str | None] = {}
    if "output" in failed:
        equal["output"] = known_mistakes.of_output(plugin, spec, inputs, oracle.rows, sampled.output, output)
    else:
        measured = sampled.named()
        wrong_gradients = [check for check in checks if check.what in measured and not check.passed]
        for check in wrong_gradients:
            equal[check.what] = known_mistakes.of_gradient(
                check.what, measured[check.what], oracle.truth, check.allowed
            )
    return [check.model_copy(update={"equals": equal.get(check.what)}) for check in checks]


def _second_call(
    plugin: AttentionPlugin,
    spec: OperationSpec,
    module: nn.Module,
    called_with: Inputs,
    mask: Tensor | None,
    backward: bool,
    rows_seed: int,
) -> list[Check]:
    """Call with other numbers in the same tensors. An output that the module kept from the first call is wrong here."""
    drawn = draw(tuple(called_with.q.shape), spec.seed + 1, spec.device)
    drawn[2] *= torch.where(_tail(called_with), math.sqrt(spec.seq_len / TAIL) if spec.seq_len > TAIL else 1.0, 1.0)
    q, k, v, grad = (x.to(called_with.q.dtype) for x in drawn)
    if mask is not None and bool(mask[:, 0].all()):  # padding at the end, as in every case
        mask = with_other_lengths(mask, torch.Generator().manual_seed(rows_seed))
    given = Inputs(q, k, v, mask, grad)
    _copy(called_with, given)
    rows = sample_rows(given, ROWS, rows_seed + 1)
    _, sampled = run_module(module, called_with, rows, spec.seed, backward)
    return OracleResults.of(plugin, spec, given, rows, backward).compare(sampled, " of a second call")


def _tail(inputs: Inputs) -> Tensor:
    """The last ``TAIL`` real positions of each sequence: bool ``[B, 1, N, 1]``."""
    real = real_at(inputs, torch.arange(inputs.q.shape[2]))
    return real & (real.flip(2).cumsum(2).flip(2) <= TAIL)


def _padding(module: nn.Module, inputs: Inputs, before: Tensor, allowed: float, seed: int) -> Check:
    """The output at real rows must stay the same when padded keys and values are made large."""
    mask = inputs.key_padding_mask
    assert mask is not None
    scale = torch.where(mask, 1.0, PADDED_SCALE)[:, None, :, None].to(inputs.k.dtype)
    changed = replace(_own_storage(inputs), k=inputs.k * scale, v=inputs.v * scale)
    real = real_positions(inputs)
    _, after = run_module(module, changed, real, seed, backward=False)
    before = at_real_rows(before, inputs, real)
    return compare("output after a change of padded keys", after.output, before, allowed)


def _wrong_shape(error: WrongShape) -> Check:
    return Check(what=str(error), error=None, allowed=0.0, passed=False)


def _finite(output: Tensor, sampled: SampledResult, inputs: Inputs) -> Check:
    """Share of numbers that are not finite, over the output at all real rows and all gradients."""
    parts = [at_real_rows(output, inputs, real_positions(inputs)), *sampled.gradients]
    wrong = sum(int((~part.isfinite()).sum()) for part in parts)
    share = wrong / sum(part.numel() for part in parts)
    return Check(what="share of numbers that are not finite", error=share, allowed=0.0, passed=wrong == 0)


def _is_softmax(oracle: "OracleResults", inputs: Inputs, rows_seed: int) -> Check:
    """The oracle of an attention that declares exact softmax attention, at some rows, against softmax attention."""
    generator = torch.Generator().manual_seed(rows_seed)
    chosen = torch.randperm(len(oracle.rows), generator=generator)[:SOFTMAX_ROWS]
    q, k, v = (x.double() for x in (inputs.q, inputs.k, inputs.v))
    rows = oracle.rows[chosen].to(q.device)
    softmax = softmax_attention(q, k, v, inputs.key_padding_mask, rows).where(real_at(inputs, rows), 0)
    return compare("oracle against softmax attention", oracle.truth["output"][:, :, chosen], softmax, ZERO)


def _unmodified(called_with: Inputs, inputs: Inputs) -> Check:
    """Share of numbers of q, k, v and the mask that the call changed."""
    names = [name for name in ("q", "k", "v", "key_padding_mask") if getattr(inputs, name) is not None]
    pairs = [(getattr(called_with, name), getattr(inputs, name)) for name in names]
    changed = {name: int((after != before).sum()) for name, (after, before) in zip(names, pairs, strict=True)}
    share = sum(changed.values()) / sum(before.numel() for _, before in pairs)
    where = ", ".join(name for name, count in changed.items() if count) or None
    return Check(what=CHANGED_INPUTS, error=share, allowed=0.0, passed=share == 0.0, where=where)


def compare(what: str, measured: Tensor, truth: Tensor, allowed: float, scale: float | None = None) -> Check:
    """Compare two tensors by the relative error of ``harness.measure.sampled_rows``."""
    error = relative_error(measured, truth, scale)
    if not math.isfinite(error):
        return Check(what=what, error=None, allowed=allowed, passed=False)
    return Check(what=what, error=error, allowed=allowed, passed=error <= allowed)


def _worst(what: str, worst: Worst) -> Check:
    error = worst.error if math.isfinite(worst.error) else None
    passed = error is not None and error <= worst.allowed
    return Check(what=what, error=error, allowed=worst.allowed, passed=passed, where=worst.where)


def _own_storage(inputs: Inputs) -> Inputs:
    mask = None if inputs.key_padding_mask is None else inputs.key_padding_mask.clone()
    q, k, v, grad = (x.clone() for x in (inputs.q, inputs.k, inputs.v, inputs.grad))
    return Inputs(q, k, v, mask, grad)


def _copy(to: Inputs, source: Inputs) -> None:
    for target, tensor in ((to.q, source.q), (to.k, source.k), (to.v, source.v), (to.grad, source.grad)):
        target.copy_(tensor)
    if to.key_padding_mask is not None:
        assert source.key_padding_mask is not None
        to.key_padding_mask.copy_(source.key_padding_mask)
