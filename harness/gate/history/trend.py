"""Series of a case's metric over commits, and where its level changes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import ruptures

from harness.gate.history.run_history import Stored
from harness.gate.judge.contrast import figure
from harness.gate.judge.gated_metrics import METRICS

MIN_POINTS = 5
"""Runs that a series needs before anybody speaks of a step in it."""
MIN_STEP = 0.03
"""The least step that is marked, as a logarithm of a ratio."""
PENALTY = 3.0
"""Of one more step, in units of log(points) times the noise."""


@dataclass(frozen=True)
class Point:
    """One run: when, which commit, and the case's figure in the metric's unit."""

    started: str
    commit: str
    value: float


@dataclass(frozen=True)
class Step:
    """The first point of a new level, and the ratio of the medians after and before."""

    at: Point
    ratio: float


def series(runs: Iterable[Stored]) -> dict[tuple[str, str, str], list[Point]]:
    """Points by machine, case id and metric, in the order of the runs; runs without a figure have no point."""
    found: dict[tuple[str, str, str], list[Point]] = {}
    for stored in runs:
        for record in stored.run.records:
            for name, metric in METRICS.items():
                if record.status == "ok" and metric.read(record) is not None:
                    key = (stored.path.parent.name, record.case_id, name)
                    point = Point(stored.run.started, stored.run.commit or "", figure(metric, record))
                    found.setdefault(key, []).append(point)
    return found


def steps(points: Sequence[Point]) -> list[Step]:
    """Where the level changes: PELT (Killick, Fearnhead and Eckley 2012) on logarithms, by absolute deviations.

    A single run that is off is no step: it costs as much alone as among the others.

    The noise that a step is held against is that of neighbouring runs, so that one slow drift is not a row of steps
    and one noisy series not a change a week.
    """
    values = np.log([max(point.value, 1e-12) for point in points])
    if values.size < MIN_POINTS:
        return []
    # The median of absolute differences of neighbours: a step touches one of them.
    noise = max(float(np.median(np.abs(np.diff(values)))) / 0.954, MIN_STEP / 10)
    found = ruptures.Pelt(model="l1", min_size=2, jump=1).fit(values.reshape(-1, 1))
    ends = found.predict(pen=PENALTY * np.log(values.size) * noise)
    bounds = [0, *ends]
    levels = [float(np.median(values[start:end])) for start, end in pairwise(bounds)]
    return [
        Step(points[start], float(np.exp(after - before)))
        for start, before, after in zip(ends[:-1], levels[:-1], levels[1:], strict=True)
        if abs(after - before) >= MIN_STEP
    ]
