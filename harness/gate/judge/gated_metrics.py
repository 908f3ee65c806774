"""What can be gated: each metric is data. How to read it from a record, and which way is worse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.core.record import Record

Scale = Literal["ratio", "difference"]
Replicate = Literal["process", "draw"]
ROUNDING = 1e-4
"""Relative errors below this are rounding, which any harmless change of an order of additions moves."""

SHORT_COMPILE_SECONDS = 1.0
"""Compiling for less than this, from a cache for example, is as good as not at all."""


@dataclass(frozen=True)
class Metric:
    """One figure of a case.

    ``read`` gives its raw samples in ``unit``, or None where the record has none. ``scale`` ratio compares logarithms,
    difference the figures themselves. ``replicate`` says what is independent of its like: a process (samples inside
    one share its luck: addresses, pages, neighbours) or a draw (each has a seed of its own, the same on both sides).
    ``floor`` is the least change that matters; ``spread`` the standard deviation of one process's figure against
    another's of the same code that ran in turns with it, and ``spread_apart`` that of a process at another time; all as
    a share (ratio) or in ``unit`` (difference); ``pyproject.toml`` may change them. ``better`` and ``worse`` are the
    verdicts. ``may_vanish``: a head without it is no regression.
    """

    name: str
    unit: str
    read: Callable[[Record], list[float] | None]
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
    return timing.wall_seconds if timing.device_seconds is None else timing.device_seconds


def _memory(record: Record) -> list[float] | None:
    # Bytes above what was there before: 0 for a call in place; a ratio needs one more.
    return None if record.memory is None else [record.memory.peak_bytes + 1.0]


def _check(record: Record) -> list[float] | None:
    shares = [one.error / one.allowed for one in record.checks if one.error is not None and one.allowed > 0]
    return [max(shares)] if shares else None


def _error(record: Record) -> list[float] | None:
    return None if record.quality is None else [max(one, ROUNDING) for one in record.quality.errors["output"]]


def _accuracy(record: Record) -> list[float] | None:
    return None if record.task is None else record.task.scores


def _compile(record: Record) -> list[float] | None:
    return None if record.timing is None else [max(record.compile_seconds or 0.0, SHORT_COMPILE_SECONDS)]


def _launches(record: Record) -> list[float] | None:
    return None if record.kernel_launches is None else [float(record.kernel_launches)]


def _operators(record: Record) -> list[float] | None:
    seen = None if record.conditions is None else record.conditions.operators
    return None if seen is None else [float(seen)]


METRICS = {
    metric.name: metric
    for metric in (
        Metric("time", "s", _time, 0.04, "FASTER", "SLOWER", spread=0.01, spread_apart=0.2),
        Metric("memory", "byte", _memory, 0.005, "SMALLER", "LARGER"),
        Metric("check", "share of what is allowed", _check, 0.25, "BETTER", "WORSE", scale="difference"),
        Metric("error", "relative error", _error, 0.05, "BETTER", "WORSE", replicate="draw"),
        Metric(
            "accuracy", "share of 1", _accuracy, 0.02, "BETTER", "WORSE",
            scale="difference", replicate="draw", higher_is_worse=False,
        ),
        Metric("compile_time", "s", _compile, 0.25, "FASTER", "SLOWER", spread=0.1, spread_apart=0.1),
        # Counts: one more is one too many. 0 is one too, so that they have no ratio.
        Metric("launches", "kernel launches", _launches, 0.0, "FEWER", "MORE", scale="difference"),
        Metric(  # what is compiled now has operators that nobody can count
            "operators", "operators", _operators, 0.0, "FEWER", "MORE", scale="difference", may_vanish=True
        ),
    )
}  # fmt: skip
"""By name."""
