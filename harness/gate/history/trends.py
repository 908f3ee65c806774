"""Stored runs as series: one point a commit, with the rounds of a commit merged, and where the level changes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from harness.core import comparability
from harness.core.merged_runs import DIRTY
from harness.core.record import Record
from harness.core.setting_error import NOT_MEASURED, SettingErrors, error_phrase
from harness.gate.history.run_history import StoredRun
from harness.gate.judge.gated_metrics import METRICS, Metric
from harness.gate.judge.metric_change import record_value
from harness.statistics import intervals
from harness.statistics.changepoints import level_changes
from harness.statistics.meta_analysis import compare_independent_rounds

SeriesKey = tuple[str, str, str]
"""The machine's folder, the case id and the metric's name."""
_SMALLEST = 1e-12
"""Values are at least this in a logarithm, as in ``level_changes``."""


@dataclass(frozen=True)
class Point:
    """One case at one commit, in the metric's unit.

    Attributes:
        started: of the first run of the commit.
        low, high: the interval between the processes of the commit, or over the draws of an error; None where there is
            only one.
        error: that of the attention at the setting of the case, in words; also where it was not measured.
        paths: the files of the runs.
    """

    started: str
    commit: str
    value: float
    low: float | None = None
    high: float | None = None
    processes: int = 1
    error: str = NOT_MEASURED
    paths: tuple[Path, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        """What orders the commits of a machine."""
        return self.started, self.commit


@dataclass(frozen=True)
class Change:
    """A change of level of one series: the points on its two sides, and the levels, which are medians.

    ``low`` and ``high`` are the interval of the relative change, each commit being a round; None where a level is not
    above 0, so that there is no relative change.
    """

    key: SeriesKey
    last_before: Point
    first_after: Point
    before: float
    after: float
    low: float | None
    high: float | None

    @property
    def metric(self) -> Metric:
        """The metric of the series."""
        return METRICS[self.key[2]]

    @property
    def is_clear(self) -> bool:
        """Whether the whole interval of the change is on the side of the new level; a change without one is clear."""
        if self.low is None or self.high is None:
            return True
        return self.low > 0 if self.after > self.before else self.high < 0

    @property
    def is_regression(self) -> bool:
        """Whether the new level is clearly the worse one."""
        return self.is_clear and self._is_worse

    @property
    def is_improvement(self) -> bool:
        """Whether the new level is clearly the better one."""
        return self.is_clear and not self._is_worse

    @property
    def _is_worse(self) -> bool:
        return (self.after > self.before) == self.metric.higher_is_worse


@dataclass
class _Rounds:
    """Runs of one commit on one machine with equal software and settings."""

    first: StoredRun
    paths: list[Path] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def series(runs: Iterable[StoredRun]) -> dict[SeriesKey, list[Point]]:
    """The points of every series, in the order of the commits' first runs. A commit without a value has no point."""
    points: dict[SeriesKey, list[Point]] = {}
    for rounds in _merged(runs):
        errors = SettingErrors(rounds.records)
        for records in _by_case(rounds.records):
            error = error_phrase(errors.of(records[0]))
            for name, metric in METRICS.items():
                measured = [record for record in records if metric.read(record) is not None and _counts(record, name)]
                if measured:
                    key = (rounds.first.path.parent.name, records[0].case_id, name)
                    points.setdefault(key, []).append(_point(rounds, measured, metric, error))
    return points


def changes(key: SeriesKey, points: Sequence[Point]) -> list[Change]:
    """The changes of level of one series."""
    found = level_changes([point.value for point in points])
    ends = [0, *(change.index for change in found), len(points)]
    sides = [points[start:end] for start, end in pairwise(ends)]
    return [_change(key, before, after) for before, after in pairwise(sides)]


def _merged(runs: Iterable[StoredRun]) -> list[_Rounds]:
    """The runs, those of one commit together where machine, software and settings are equal.

    Two runs of a changed working tree may be of different code, so each stays alone; and a run that is stored twice
    counts once.
    """
    merged: list[_Rounds] = []
    by_commit: dict[tuple[str, str], list[_Rounds]] = {}
    for stored in runs:
        commit = stored.run.commit or ""
        candidates = by_commit.setdefault((stored.path.parent.name, commit), [])
        may_merge = bool(commit) and not commit.endswith(DIRTY)
        same = next((rounds for rounds in candidates if may_merge and _are_rounds(rounds.first, stored)), None)
        if same is None:
            same = _Rounds(stored)
            candidates.append(same)
            merged.append(same)
        if not stored.run.records or stored.run.records[0] not in same.records:
            same.paths.append(stored.path)
            same.records += stored.run.records
    return merged


def _are_rounds(first: StoredRun, other: StoredRun) -> bool:
    return not comparability.run_differences(first.run, other.run)


def _counts(record: Record, metric: str) -> bool:
    """Not a time that other processes disturbed: it says nothing about the commit."""
    return metric != "time" or record.timing is None or not record.timing.disturbed


def _by_case(records: Iterable[Record]) -> list[list[Record]]:
    """The records with a result, those of one case together where their timing has equal settings."""
    by_case: dict[str, list[list[Record]]] = {}
    for record in records:
        if record.status == "ok":
            groups = by_case.setdefault(record.case_id, [])
            same = next((group for group in groups if comparability.case_difference(group[0], record) is None), None)
            if same is None:
                groups.append([record])
            else:
                same.append(record)
    return [group for groups in by_case.values() for group in groups]


def _point(rounds: _Rounds, records: Sequence[Record], metric: Metric, error: str) -> Point:
    value, low, high, processes = _level(metric, records)
    run = rounds.first.run
    return Point(run.started, run.commit or "", value, low, high, processes, error, tuple(rounds.paths))


def _level(metric: Metric, records: Sequence[Record]) -> tuple[float, float | None, float | None, int]:
    """The value of one commit, its interval, and the number of processes.

    Draws have the same seeds in every process, so those of the first process say all. Processes are independent: their
    mean has Student's interval, on logarithms where the metric is compared as a ratio.
    """
    if metric.replicate == "draw":
        drawn = intervals.bootstrap_median(metric.read(records[0]) or [], np.random.default_rng(0))
        return drawn.value, drawn.low, drawn.high, len(records)
    by_process: dict[str | int, list[float]] = {}
    for number, record in enumerate(records):
        process = record.timing.process if record.timing is not None else None
        by_process.setdefault(process or number, []).append(record_value(metric, record))
    values = [median(own) for own in by_process.values()]
    if len(values) > 1 and metric.scale == "ratio" and min(values) > 0:
        over_all = intervals.between_processes(values, np.random.default_rng(0))
        return over_all.value, over_all.low, over_all.high, len(values)
    mean = intervals.seed_mean(values)
    return mean.mean, mean.low, mean.high, len(values)


def _change(key: SeriesKey, before: Sequence[Point], after: Sequence[Point]) -> Change:
    values = [np.array([point.value for point in side]) for side in (before, after)]
    low, high = None, None
    if all((side > 0).all() for side in values):
        logs = [np.log(np.maximum(side, _SMALLEST)) for side in values]
        estimate = compare_independent_rounds(logs[0], logs[1], intervals.LEVEL, " ".join(key))
        low, high = estimate.low, estimate.high
    return Change(
        key, before[-1], after[0], float(np.median(values[0])), float(np.median(values[1])), low, high
    )  # fmt: skip
