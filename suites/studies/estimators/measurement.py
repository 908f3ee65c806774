"""One kind of inputs of one length: all settings are timed in turns, and the timed results are compared with YOSO-E.

A round has one forward call and one forward with backward of every setting, every other round in the opposite order, so
that what slows the machine for a while slows all settings. Every round has random numbers of its own. Its errors are
those of its timed call with backward, for all rows and with a gradient at every row.

YOSO-E in float32 is what errors are relative to: it is timed anyhow, and its rounding is far below the errors of
samples. That is checked at some rows against its definition in float64.
"""

import gc
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from harness.core import registry
from harness.core.record import Timing
from harness.core.spec import QualitySpec, Scalar, Swap
from harness.measure import inputs as made_inputs
from harness.measure import recordings
from harness.measure.inputs import Inputs
from harness.measure.other_processes import CpuUse
from harness.measure.sampled_rows import GRADIENTS, relative_error, run_oracle, sample_rows
from harness.measure.timed_calls import Result, operation_call
from harness.models import packaged_weights
from harness.statistics import disturbance
from suites.studies.estimators.results import Outcome, Point

HEADS, LONG_HEADS = 4, 2
"""Heads of a point, and of one with more tokens than ``LONG``, where a call of exact attention takes seconds."""
LONG = 4096
MADE_UP_DIM = 64
MADE_UP = {
    "matched": "sharp: each query has a cosine of about 0.9 with the key at its own position",
    "clustered": "smooth: queries and keys have a cosine of about 0.9 with one of 16 centres that they share",
}
"""The kinds of inputs of the quality suite that are not recorded."""
EXACT = "yoso_e"
CHECKED_ROWS = 32
MOST_REFERENCE_ERROR = 1e-3
"""Largest error of YOSO-E in float32 for which it can stand for its definition."""
TENSORS = ("output", *GRADIENTS)


@dataclass(frozen=True)
class Effort:
    """How many rounds a point has: at least ``least``, and up to ``most`` while they take no more than ``seconds``."""

    least: int = 5
    most: int = 25
    seconds: float = 10.0

    def rounds(self, round_seconds: float, seconds_left: float) -> int | None:
        """The number of rounds for rounds of this length; None if the least number does not fit in the time left."""
        if self.least * round_seconds > seconds_left:
            return None
        return min(self.most, max(self.least, math.floor(min(self.seconds, seconds_left) / round_seconds)))


@dataclass
class _Series:
    """The calls of one setting and mode that were timed so far."""

    call: Callable[[], Result]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    switches: list[int] = field(default_factory=list)

    def take(self) -> Result:
        """Time one call."""
        used_before, start = CpuUse.now(), perf_counter()
        result = self.call()
        self.wall.append(perf_counter() - start)
        used = CpuUse.now() - used_before
        self.cpu.append(used.seconds)
        self.switches.append(used.involuntary_switches)
        return result

    def timing(self, load: float) -> Timing:
        """All samples, with the judgement whether other processes disturbed them."""
        return disturbance.judged(
            Timing(
                wall_seconds=self.wall,
                cpu_seconds=self.cpu,
                involuntary_switches=self.switches,
                warmup_calls=1,
                threads=torch.get_num_threads(),
                load_before=load,
            )
        )


@dataclass
class _Timed:
    """One setting that is being measured."""

    setting: Swap
    all_knobs: dict[str, Scalar]
    forward: _Series
    training: _Series
    errors: dict[str, list[float]] = field(default_factory=dict)

    def outcome(self, load: float) -> Outcome:
        """What is stored."""
        return Outcome(
            attention=self.setting.attention,
            knobs=self.setting.knobs,
            all_knobs=self.all_knobs,
            forward=self.forward.timing(load),
            training=self.training.timing(load),
            errors=self.errors,
        )


def installed_inputs() -> list[str]:
    """The kinds of inputs that can be made here: two made up, and the recordings whose packages are installed."""
    recorded = [name for name, model in packaged_weights.MODELS.items() if packaged_weights.missing(model) is None]
    return [*MADE_UP, *recorded]


def input_spec(kind: str, seq_len: int) -> QualitySpec:
    """The quality case with these inputs. Of a recording each head is from another layer.

    Raises:
        ValueError: the kind is unknown, or its package is not installed.
    """
    heads = HEADS if seq_len <= LONG else LONG_HEADS
    if kind in MADE_UP:
        made_up = {"inputs": kind, "batch": heads, "heads": 1, "head_dim": MADE_UP_DIM}
        return QualitySpec.model_validate({"attention": EXACT, "seq_len": seq_len, **made_up})
    packaged = packaged_weights.MODELS.get(kind)
    if packaged is None:
        known = ", ".join([*MADE_UP, *packaged_weights.MODELS])
        raise ValueError(f"--inputs: expected one of {known}, got {kind!r}; choose one of these")
    reason = packaged_weights.missing(packaged)
    if reason is not None:
        raise ValueError(reason)
    return QualitySpec(
        attention=EXACT,
        seq_len=seq_len,
        inputs="recorded",
        recording=kind,
        batch=heads,
        heads=1,
        head_dim=packaged.head_dim,
    )


def measure(
    kind: str, seq_len: int, settings: Sequence[Swap], effort: Effort, seconds_left: float = math.inf
) -> Point | None:
    """Measure all settings on these inputs; None if that takes longer than ``seconds_left``.

    Raises:
        ValueError: the inputs cannot be made, or a setting cannot run on them.
        ArithmeticError: YOSO-E in float32 is not near its definition, or an error is not finite.
    """
    began = perf_counter()
    spec = input_spec(kind, seq_len)
    given = _one_sequence(made_inputs.make(spec))
    timed = [_timed(setting, spec, given) for setting in settings]
    load = os.getloadavg()[0]
    gc.collect()
    gc.disable()
    try:
        reference = _named(operation_call(registry.get(EXACT).build(spec), given, backward=True)())
        round_began = perf_counter()
        for one in timed:
            torch.manual_seed(0)
            one.forward.call()
            one.training.call()
        round_seconds = perf_counter() - round_began
        rounds = effort.rounds(round_seconds, seconds_left - (perf_counter() - began))
        if rounds is None:
            return None
        for number in range(rounds):
            _take_round(timed if number % 2 == 0 else timed[::-1], number, reference)
    finally:
        gc.enable()
    about = MADE_UP[kind] if kind in MADE_UP else recordings.describe(spec)
    return Point(
        inputs=kind,
        seq_len=seq_len,
        heads=given.q.shape[1],
        head_dim=given.q.shape[3],
        about=about,
        reference_errors=_reference_errors(spec, given, reference),
        outcomes=[one.outcome(load) for one in timed],
        seconds=perf_counter() - began,
    )


def _one_sequence(given: Inputs) -> Inputs:
    """The inputs ``[H, 1, N, D]`` as one sequence ``[1, H, N, D]``."""
    q, k, v, grad = (x.transpose(0, 1).contiguous() for x in (given.q, given.k, given.v, given.grad))
    return Inputs(q, k, v, None, grad)


def _timed(setting: Swap, spec: QualitySpec, given: Inputs) -> _Timed:
    plugin = registry.get(setting.attention)
    own = spec.model_copy(update={"attention": setting.attention, "knobs": setting.knobs})
    reasons = plugin.unsupported(own)
    if reasons:
        raise ValueError(f"{setting.label} cannot run with {spec.seq_len} tokens: {'; '.join(reasons)}; see --lengths")
    module = plugin.build(own)
    forward, training = (_Series(operation_call(module, given, backward)) for backward in (False, True))
    errors: dict[str, list[float]] = {name: [] for name in TENSORS} if plugin.estimates == EXACT else {}
    return _Timed(setting, plugin.knobs(own), forward, training, errors)


def _take_round(timed: Sequence[_Timed], number: int, reference: dict[str, Tensor]) -> None:
    for one in timed:
        torch.manual_seed(number)
        one.forward.take()
        torch.manual_seed(number)
        found = _named(one.training.take())
        for name, errors in one.errors.items():
            error = relative_error(found[name], reference[name])
            if not math.isfinite(error):
                raise ArithmeticError(f"{name} of {one.setting.label} in round {number} is not finite")
            errors.append(error)


def _named(result: Result) -> dict[str, Tensor]:
    output, gradients = result
    # Every attention of this study has gradients of all three.
    tensors = [output.detach(), *(gradient for gradient in gradients if gradient is not None)]
    return dict(zip(TENSORS, tensors, strict=True))


def _reference_errors(spec: QualitySpec, given: Inputs, reference: dict[str, Tensor]) -> dict[str, float]:
    """Errors of the output and of the query's gradient at some rows, of which each depends on its own row only."""
    rows = sample_rows(given, CHECKED_ROWS, spec.seed)
    truth = run_oracle(registry.get(EXACT), spec, given, rows, torch.float64, backward=True)
    errors = {
        "output": relative_error(reference["output"][:, :, rows], truth.output),
        "grad_q": relative_error(reference["grad_q"][:, :, rows], truth.gradients[0][:, :, rows]),
    }
    for name, error in errors.items():
        if not error <= MOST_REFERENCE_ERROR:
            raise ArithmeticError(
                f"{name} of YOSO-E on {spec.inputs} inputs with {spec.seq_len} tokens: expected an error of at most "
                f"{MOST_REFERENCE_ERROR:g} against its definition in float64, got {error:g}; no error can be measured"
            )
    return errors
