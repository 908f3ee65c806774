"""Trends over stored runs: one offline HTML page with the regressions, and a grid of small drawings, one a series."""

import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from harness.core.case_words import CaseWords, case_words
from harness.core.escaping import reordering_texts
from harness.core.quantities import change_words
from harness.core.templates import environment
from harness.gate.history import trends
from harness.gate.history.sparkline import HEIGHT, WIDTH, Sparkline, sparkline
from harness.gate.history.trends import Change, Point, SeriesKey
from harness.gate.judge.case_rows import LARGEST, in_numerical_order, value_words
from harness.gate.judge.gated_metrics import METRICS, Metric
from harness.statistics.changepoints import MIN_POINTS
from harness.statistics.intervals import LEVEL

COMMIT_LENGTH = 12
"""Characters of a commit that the page shows."""


@dataclass(frozen=True)
class Card:
    """One series of the grid: its drawing, and its last value in words."""

    name: str
    case_id: str
    metric: Metric
    drawing: Sparkline
    latest: str
    error: str
    summary: str
    regressions: int


@dataclass(frozen=True)
class Group:
    """The series of one metric and one kind of case on one machine; those with a regression come first."""

    title: str
    shared: str
    finding: str
    cards: list[Card]
    is_open: bool


@dataclass(frozen=True)
class Machine:
    """All series of one machine, by metric, and its commits with the files of their runs."""

    name: str
    groups: list[Group]
    commits: list[Point]


@dataclass(frozen=True)
class ChangeLine:
    """A change of level in words."""

    machine: str
    case_id: str
    metric: str
    levels: str
    change: str
    error: str
    last_before: Point
    first_after: Point


def write(series: Mapping[SeriesKey, Sequence[Point]], path: Path) -> list[Change]:
    """Write the page.

    Returns:
        Every change of level.
    """
    found = {key: trends.changes(key, points) for key, points in series.items()}
    all_changes = [change for changes in found.values() for change in changes]
    lines = sorted(all_changes, key=lambda change: -abs(_log_ratio(change)))
    made = environment(Path(__file__).parent, _reordering_names(series))
    made.globals |= {"link": lambda to: Path(os.path.relpath(to.resolve(), path.resolve().parent)).as_posix()}
    made.globals |= {"report_page": _report_page, "report_command": _report_command}
    made.filters |= {"value": value_words, "commit": _commit_words, "point": _point_words}
    text = made.get_template("history.html").render(
        machines=_machines(series, found),
        regressions=[_line(change) for change in lines if change.is_regression],
        improvements=[_line(change) for change in lines if change.is_improvement],
        unclear=[_line(change) for change in lines if not change.is_clear],
        series=len(series),
        short=sum(len(points) < MIN_POINTS for points in series.values()),
        least=MIN_POINTS,
        width=WIDTH,
        height=HEIGHT,
        level=f"{LEVEL:.0%}",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return all_changes


def _reordering_names(series: Iterable[SeriesKey]) -> list[str]:
    """The names in the series that would reorder the words around them: of machines, and the parts of case ids."""
    parts = {part for machine, case_id, *_ in series for part in (machine, *re.split("[-/]", case_id))}
    return reordering_texts(json.dumps(sorted(parts), ensure_ascii=False))


def _report_page(point: Point) -> Path | None:
    """The page of the report beside a run of the commit, under the run's name: a file, or a folder with an index."""
    places = (
        place for path in point.paths for place in (path.with_suffix(".html"), path.with_suffix("") / "index.html")
    )
    return next((place for place in places if place.is_file()), None)


def _report_command(*points: Point) -> str:
    """The command that makes the report of all runs of these commits; that of one commit has its place beside them."""
    words = ["harness", "report", *(str(path) for point in points for path in point.paths)]
    out = ["--out", str(points[0].paths[0].with_suffix(".html"))] if len(points) == 1 else []
    return shlex.join([*words, *out])


def _machines(
    series: Mapping[SeriesKey, Sequence[Point]], found: Mapping[SeriesKey, Sequence[Change]]
) -> list[Machine]:
    machines = []
    for name, keys in groupby(sorted(series), key=lambda key: key[0]):
        own = list(keys)
        commits = {point.place: point for key in own for point in series[key]}
        by_kind: dict[tuple[str, str], list[SeriesKey]] = {}
        for key in sorted(own, key=_place_on_page):
            by_kind.setdefault((key[2], _kind(key)), []).append(key)
        groups = [_group(title, of_kind, series, found, sorted(commits)) for title, of_kind in by_kind.items()]
        machines.append(Machine(name, groups, [commits[place] for place in sorted(commits, reverse=True)]))
    return machines


def _kind(key: SeriesKey) -> str:
    return key[1].partition("/")[0]


def _place_on_page(key: SeriesKey) -> tuple[object, ...]:
    """Orders series by metric and kind of case, the attention alone first."""
    kind = _kind(key)
    return list(METRICS).index(key[2]), kind != "operation", kind


def _group(
    title: tuple[str, str],
    keys: Sequence[SeriesKey],
    series: Mapping[SeriesKey, Sequence[Point]],
    found: Mapping[SeriesKey, Sequence[Change]],
    commits: Sequence[tuple[str, str]],
) -> Group:
    names = case_words([case_id for _, case_id, _ in keys])
    cards = [_card(key, names, series[key], found[key], commits) for key in keys]
    cards.sort(key=lambda card: (-card.regressions, in_numerical_order(card.name)))
    regressions = sum(card.regressions for card in cards)
    finding = f"{_count(len(cards), 'case')}, {_count(regressions, 'regression')}"
    metric, kind = title
    is_first = (metric, kind) == ("time", "operation")
    words = f"{metric.replace('_', ' ')} of {kind} cases"
    return Group(words, names.shared, finding, cards, is_open=is_first or regressions > 0)


def _card(
    key: SeriesKey,
    names: CaseWords,
    points: Sequence[Point],
    changes: Sequence[Change],
    commits: Sequence[tuple[str, str]],
) -> Card:
    _, case_id, name = key
    metric, last = METRICS[name], points[-1]
    values = [point.value for point in points]
    ends = f"{value_words(metric, min(values))} to {value_words(metric, max(values))}"
    regressions = sum(change.is_regression for change in changes)
    return Card(
        name=names[case_id],
        case_id=case_id,
        metric=metric,
        drawing=sparkline(points, changes, commits),
        latest=_value_with_interval(metric, last),
        error="" if name in ("error", "accuracy") else last.error,
        summary=f"{case_id}, {name.replace('_', ' ')} over {_count(len(points), 'commit')}: {ends}, at last "
        f"{value_words(metric, last.value)}; {_count(regressions, 'regression')}",
        regressions=regressions,
    )


def _line(change: Change) -> ChangeLine:
    machine, case_id, name = change.key
    errors = list(dict.fromkeys(point.error for point in (change.last_before, change.first_after)))
    return ChangeLine(
        machine=machine,
        case_id=case_id,
        metric=name.replace("_", " "),
        levels=" \N{RIGHTWARDS ARROW} ".join(
            value_words(change.metric, value) for value in (change.before, change.after)
        ),
        change=_change_words(change),
        error="" if name in ("error", "accuracy") else " \N{RIGHTWARDS ARROW} ".join(errors),
        last_before=change.last_before,
        first_after=change.first_after,
    )


def _change_words(change: Change) -> str:
    """The relative change with its interval; empty where a level is not above 0."""
    if change.low is None or change.high is None:
        return ""
    return f"{_percent(_log_ratio(change))} [{_percent(change.low)}, {_percent(change.high)}]"


def _log_ratio(change: Change) -> float:
    if min(change.before, change.after) <= 0:
        return math.inf
    return math.log(change.after / change.before)


def _percent(log_ratio: float) -> str:
    return change_words(math.expm1(log_ratio)) if log_ratio < LARGEST else "any"


def _value_with_interval(metric: Metric, point: Point) -> str:
    value = value_words(metric, point.value)
    if point.low is None or point.high is None:
        return value
    return f"{value} [{value_words(metric, point.low)}, {value_words(metric, point.high)}]"


def _point_words(point: Point, metric: Metric) -> str:
    """What a point of a drawing says when it is pointed at."""
    processes = _count(point.processes, "process", "es")
    value = _value_with_interval(metric, point)
    return f"{value} at {_commit_words(point.commit)}, {point.started[:10]}, {processes}, {point.error}"


def _commit_words(commit: str) -> str:
    """The first characters of a commit, and whether the working tree had changes."""
    plain, dirty, _ = commit.partition("+dirty")
    return f"{plain[:COMMIT_LENGTH]}{dirty}"


def _count(count: int, noun: str, plural: str = "s") -> str:
    return f"{count:,} {noun}{'' if count == 1 else plural}"
