"""What the study's numbers say: rescored against plain samples, and where samples are worth their error.

Every sentence follows from the stored numbers alone. A claim is met if the whole interval is below its limit, not met
if the whole interval is not, and undecided where the limit is within the interval; a single round has no interval.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

import numpy as np

from harness.core.record import Timing
from harness.core.spec import Swap
from harness.statistics import intervals
from suites.studies.estimators.results import Outcome, Point

RESCORED = Swap(attention="yoso", knobs={"num_hash": 16, "estimator": "rescored", "shared_keys": 64})
PLAIN = Swap(attention="yoso", knobs={"num_hash": 64})
MOST_TIME_RATIO = 1.5
MOST_OUTPUT_ERROR = 0.10
"""In the green zone of the forward pass."""
MOST_TRAINING_ERROR = 0.25
"""In the green zone of training: of the output and of every gradient."""
Mode = Literal["forward", "training"]
Verdict = Literal["met", "not met", "undecided"]
MODES: dict[Mode, str] = {"forward": "forward", "training": "forward and backward"}


@dataclass(frozen=True)
class Interval:
    """A value with its interval, as ``harness.statistics.intervals`` gives it; None: there is only one sample."""

    value: float
    low: float | None
    high: float | None

    def is_below(self, limit: float) -> Verdict:
        """Whether the value is below the limit, as far as its interval tells."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if high < limit:
            return "met"
        return "not met" if low >= limit else "undecided"

    def __str__(self) -> str:
        ends = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{ends}"


def milliseconds(timing: Timing) -> Interval:
    """The median over rounds."""
    return _median([1e3 * seconds for seconds in timing.wall_seconds])


def time_ratio(of: Timing, to: Timing) -> Interval:
    """The median over rounds of the ratio within a round."""
    return _median([own / other for own, other in zip(of.wall_seconds, to.wall_seconds, strict=True)])


def error_ratio(of: Outcome, to: Outcome, tensor: str) -> Interval:
    """The mean over draws of the ratio of errors."""
    ratios = [own / other for own, other in zip(of.errors[tensor], to.errors[tensor], strict=True)]
    found = intervals.seed_mean(ratios)
    return Interval(found.mean, found.low, found.high)


def rescored_against_plain(point: Point) -> str | None:
    """Four claims about ``RESCORED`` beside ``PLAIN``, in one sentence; None if one of them was not measured."""
    rescored, plain = point.outcome(RESCORED), point.outcome(PLAIN)
    if rescored is None or plain is None:
        return None
    claims = [
        ("error of output", error_ratio(rescored, plain, "output"), 1.0),
        ("error of dq", error_ratio(rescored, plain, "grad_q"), 1.0),
        ("time forward", time_ratio(rescored.forward, plain.forward), MOST_TIME_RATIO),
        ("time forward and backward", time_ratio(rescored.training, plain.training), MOST_TIME_RATIO),
    ]
    parts = [f"{name} {ratio}, below {limit:g}: {ratio.is_below(limit)}" for name, ratio, limit in claims]
    return f"{_place(point)}: {'; '.join(parts)}."


def green_zone(point: Point, mode: Mode) -> str:
    """Which settings are faster than the fastest exact attention with a small error; or the nearest ones.

    The point must have an exact attention, which has no errors, and an estimator.
    """
    all_exact = [found for found in point.outcomes if not found.errors]
    exact = min(all_exact, key=lambda found: median(_times(found, mode)))
    limit = MOST_OUTPUT_ERROR if mode == "forward" else MOST_TRAINING_ERROR
    what = "output" if mode == "forward" else "output and all gradients"
    aim = (
        f"{_place(point)}, {MODES[mode]}: an error of {what} of at most {limit:.0%} in less time than "
        f"{exact.setting.label}, the fastest exact attention"
    )
    candidates = list(_candidates(point, exact, mode))
    faster = [found for found in candidates if found.time.is_below(1.0) == "met"]
    green = [found for found in faster if found.error <= limit]
    if green:
        return f"{aim}: met by {'; '.join(found.text for found in green)}."
    nearest = [
        f"of the faster settings the smallest error has {_least_error(faster).text}"
        if faster
        else f"no setting is faster, and the smallest error has {_least_error(candidates).text}"
    ]
    accurate = [found for found in candidates if found.error <= limit]
    if accurate:
        fastest = min(accurate, key=lambda found: found.time.value)
        nearest.append(f"the fastest with so small an error is {fastest.text}")
    return f"{aim}: not met; {'; '.join(nearest)}."


@dataclass(frozen=True)
class _Candidate:
    label: str
    time: Interval
    """Relative to the fastest exact attention."""
    error: float
    """The largest of those that count."""

    @property
    def text(self) -> str:
        return f"{self.label} (time {self.time} of it, error {self.error:.1%})"


def _candidates(point: Point, exact: Outcome, mode: Mode) -> Iterator[_Candidate]:
    for found in point.outcomes:
        if found.errors:
            counted = ["output"] if mode == "forward" else list(found.errors)
            of, to = (getattr(outcome, mode) for outcome in (found, exact))
            yield _Candidate(
                found.setting.label, time_ratio(of, to), max(fmean(found.errors[name]) for name in counted)
            )


def _least_error(candidates: list[_Candidate]) -> _Candidate:
    return min(candidates, key=lambda found: found.error)


def _times(outcome: Outcome, mode: Mode) -> list[float]:
    timing: Timing = getattr(outcome, mode)
    return timing.wall_seconds


def _place(point: Point) -> str:
    return f"{point.inputs}, n = {point.seq_len:,}"


def _median(samples: list[float]) -> Interval:
    found = intervals.bootstrap_median(samples, np.random.default_rng(0))
    return Interval(found.value, found.low, found.high)
