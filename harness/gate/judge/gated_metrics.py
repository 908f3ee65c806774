"""The metrics that the gate compares, as data: how to read each, its thresholds, and which direction is worse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.core.quantities import ROUNDING
from harness.core.record import Record

Scale = Literal["ratio", "difference"]
Replicate = Literal["process", "draw"]
SHORT_COMPILE_SECONDS = 1.0
"""Compile times below this, from a cache for example, count as this much."""


@dataclass(frozen=True)
class Metric:
    """One metric of a case.

    ``read`` returns its raw samples in ``unit``, or None if the record has none. ``field`` is the record's field
    that it reads, which records of another version of the harness may lack. ``scale``: "ratio" compares logarithms,
    "difference" the values themselves. ``replicate`` is the unit that is independent: "process" (the samples inside one
    share its addresses, memory pages and neighbours) or "draw" (each has its own seed, the same at both commits).

    Thresholds, as a share (ratio) or in ``unit`` (difference), which ``pyproject.toml`` may change: ``floor`` is the
    smallest change that matters; ``spread`` is the standard deviation of a process's value from that of another
    process of the same code with which it was interleaved; ``spread_apart`` is the same for processes that ran at
    different times.

    ``better`` and ``worse`` are the verdicts. With ``may_vanish``, a head without the metric is no regression.
    """

    name: str
    unit: str
    read: Callable[[Record], list[float] | None]
    field: str
    floor: float
    better: str
    worse: str
    spread: float = 0.0
    spread_apart: float = 0.0
    scale: Scale = "ratio"
    replicate: Replicate = "process"
    higher_is_worse: bool = True
    may_vanish: bool = False


def _time(record: Record) -> list[float] | None:
    timing = record.timing
    if timing is None:
        return None
    return timing.device_seconds or timing.wall_seconds


def _memory(record: Record) -> list[float] | None:
    # Bytes above those allocated before the call: 0 for a call in place. One is added so that a ratio is defined.
    return None if record.memory is None else [record.memory.peak_bytes + 1.0]


def _check(record: Record) -> list[float] | None:
    # Only comparisons of whole tensors: the worst of thousands of rows is an extreme value and so is its allowed error,
    # so both vary with the rows that were drawn and with any change of rounding.
    checks = [check for check in record.checks if not check.is_extreme and not check.is_of_timed_call]
    shares = [check.error / check.allowed for check in checks if check.error is not None and check.allowed > 0]
    return [max(shares)] if shares else None


def _error(record: Record) -> list[float] | None:
    errors = [] if record.quality is None else record.quality.errors.get("output", [])
    return [max(error, ROUNDING) for error in errors] or None


def _accuracy(record: Record) -> list[float] | None:
    return None if record.task is None else record.task.scores or None


def _compile(record: Record) -> list[float] | None:
    return None if record.timing is None else [max(record.compile_seconds or 0.0, SHORT_COMPILE_SECONDS)]


def _launches(record: Record) -> list[float] | None:
    return None if record.kernel_launches is None else [float(record.kernel_launches)]


def _operators(record: Record) -> list[float] | None:
    operators = None if record.conditions is None else record.conditions.operators
    return None if operators is None else [float(operators)]


METRICS = {
    metric.name: metric
    for metric in (
        Metric("time", "s", _time, "timing", 0.04, "FASTER", "SLOWER", spread=0.01, spread_apart=0.2),
        Metric("memory", "byte", _memory, "memory", 0.005, "SMALLER", "LARGER"),
        Metric("check", "share of what is allowed", _check, "checks", 0.25, "BETTER", "WORSE", scale="difference"),
        Metric("error", "relative error", _error, "quality", 0.05, "BETTER", "WORSE", replicate="draw"),
        Metric(
            "accuracy", "share of 1", _accuracy, "task", 0.02, "BETTER", "WORSE",
            scale="difference", replicate="draw", higher_is_worse=False,
        ),
        Metric(
            "compile_time", "s", _compile, "compile_seconds", 0.25, "FASTER", "SLOWER", spread=0.1, spread_apart=0.1
        ),
        # Counts: one more is a regression. They may be 0, so that they have no ratio.
        Metric("launches", "kernel launches", _launches, "kernel_launches", 0.0, "FEWER", "MORE", scale="difference"),
        Metric(  # the operators of a compiled call cannot be counted
            "operators", "operators", _operators, "conditions", 0.0, "FEWER", "MORE",
            scale="difference", may_vanish=True,
        ),
    )
}  # fmt: skip
"""By name."""
