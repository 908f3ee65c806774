"""A series as a small drawing: where its points, intervals and changes of level are, in the drawing's units."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.gate.history.trends import Change, Point

WIDTH, HEIGHT = 170.0, 48.0
_MARGIN = 4.0
_LEAST_RANGE = 1.06
"""The axis spans at least this factor, so that noise does not look like a change."""


@dataclass(frozen=True)
class Mark:
    """A point of the series, with the ends of its interval; ``top`` and ``bottom`` are None where it has none."""

    x: float
    y: float
    top: float | None
    bottom: float | None
    point: Point


@dataclass(frozen=True)
class Sparkline:
    """A drawing of ``WIDTH`` by ``HEIGHT``; ``low`` and ``high`` are the values at the ends of its axis."""

    marks: list[Mark]
    steps: list[tuple[float, Change]]
    low: float
    high: float

    @property
    def line(self) -> str:
        """The points of the polyline."""
        return " ".join(f"{mark.x:g},{mark.y:g}" for mark in self.marks)


def sparkline(points: Sequence[Point], changes: Sequence[Change], commits: Sequence[tuple[str, str]]) -> Sparkline:
    """The drawing of a series, on a logarithmic axis where all values are above 0.

    Args:
        points: at least one.
        changes: the changes of level among the points.
        commits: the place of each of the machine's commits, so that one commit has one place in every drawing.
    """
    bounds = [bound for point in points for bound in (point.value, point.low, point.high) if bound is not None]
    low, high = _axis(min(bounds), max(bounds))
    scale: Callable[[float], float] = math.log if low > 0 else float
    places = {commit: index for index, commit in enumerate(commits)}

    def x(point: Point) -> float:
        share = places[point.place] / (len(places) - 1) if len(places) > 1 else 0.5
        return round(_MARGIN + share * (WIDTH - 2 * _MARGIN), 1)

    def y(value: float) -> float:
        share = (scale(value) - scale(low)) / (scale(high) - scale(low))
        return round(HEIGHT - _MARGIN - share * (HEIGHT - 2 * _MARGIN), 1)

    marks = [
        Mark(
            x(point), y(point.value),
            None if point.high is None else y(point.high), None if point.low is None else y(point.low), point,
        )
        for point in points
    ]  # fmt: skip
    steps = [((x(change.last_before) + x(change.first_after)) / 2, change) for change in changes]
    return Sparkline(marks, steps, low, high)


def _axis(low: float, high: float) -> tuple[float, float]:
    """The ends of the axis."""
    if low > 0:
        if high / low >= _LEAST_RANGE:
            return low, high
        middle = math.sqrt(low) * math.sqrt(high)
        return middle / math.sqrt(_LEAST_RANGE), middle * math.sqrt(_LEAST_RANGE)
    return (low, high) if high > low else (low, low + 1.0)
