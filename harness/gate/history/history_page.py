"""Trends over stored runs: one offline HTML page with a plot for every case and metric, level changes marked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from harness.core.templates import environment
from harness.gate.history.run_history import StoredRun
from harness.gate.judge.gated_metrics import METRICS
from harness.gate.judge.metric_change import record_value
from harness.statistics.changepoints import LevelChange, level_changes

SeriesKey = tuple[str, str, str]
"""The machine's folder, the case id and the metric's name."""


@dataclass(frozen=True)
class Point:
    """One run of a series: when it started, its commit, and the case's value in the metric's unit."""

    started: str
    commit: str
    value: float


def series(runs: Iterable[StoredRun]) -> dict[SeriesKey, list[Point]]:
    """The points of every series, in the order of the runs. A run without a value has no point."""
    points: dict[SeriesKey, list[Point]] = {}
    for stored in runs:
        for record in stored.run.records:
            for name, metric in METRICS.items():
                if record.status == "ok" and metric.read(record) is not None:
                    key = (stored.path.parent.name, record.case_id, name)
                    point = Point(stored.run.started, stored.run.commit or "", record_value(metric, record))
                    points.setdefault(key, []).append(point)
    return points


def write(series: Mapping[SeriesKey, Sequence[Point]], path: Path) -> int:
    """Write the page, the series with the most level changes first.

    Returns:
        The number of level changes.
    """
    sections = [(key, points, level_changes([point.value for point in points])) for key, points in series.items()]
    sections.sort(key=lambda section: (-len(section[2]), section[0]))
    lines = [_line(key, points[change.index], change) for key, points, changes in sections for change in changes]
    plots = [(f"{case_id}: {metric} on {machine}", _plot(metric, points, changes))
             for (machine, case_id, metric), points, changes in sections]  # fmt: skip
    template = environment(Path(__file__).parent).get_template("history.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(changes=lines, plots=plots, plotly=Markup(get_plotlyjs())), encoding="utf-8")
    return len(lines)


def _line(key: SeriesKey, point: Point, change: LevelChange) -> str:
    machine, case_id, metric = key
    return f"{case_id} {metric}: {change.ratio - 1:+.1%} from {point.commit[:12]} on ({point.started}, {machine})"


def _plot(metric: str, points: Sequence[Point], changes: Sequence[LevelChange]) -> Markup:
    figure = go.Figure(
        go.Scatter(
            x=list(range(len(points))),
            y=[point.value for point in points],
            mode="lines+markers",
            text=[f"{escape(point.commit[:12])}<br>{escape(point.started)}" for point in points],
        )
    )
    for change in changes:
        figure.add_vline(x=change.index - 0.5, line_dash="dot", annotation_text=f"{change.ratio - 1:+.1%}")
    figure.update_layout(
        height=260, margin={"l": 60, "r": 20, "t": 20, "b": 40}, template="plotly_white",
        xaxis_title="run", yaxis_title=METRICS[metric].unit,
    )  # fmt: skip
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False))
