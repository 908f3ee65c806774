"""Trends over stored runs: one offline HTML page with a plot for every case and metric, level changes marked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from harness.gate.history.run_history import StoredRun
from harness.gate.judge.gated_metrics import METRICS
from harness.gate.judge.metric_change import record_value
from harness.statistics.changepoints import LevelChange, level_changes

SeriesKey = tuple[str, str, str]
"""The machine's folder, the case id and the metric's name."""
STYLE = "body{font:15px system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}h2{font-size:1rem}li{margin:.2rem 0}"


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
    items = "".join(f"<li>{escape(line)}</li>" for line in lines) or "<li>none</li>"
    plots = "".join(_plot(*section) for section in sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>History</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script><h1>History</h1><p>{len(sections)} series. Changes of level:</p>"
        f"<ul>{items}</ul>{plots}</html>",
        encoding="utf-8",
    )
    return len(lines)


def _line(key: SeriesKey, point: Point, change: LevelChange) -> str:
    machine, case_id, metric = key
    return f"{case_id} {metric}: {change.ratio - 1:+.1%} from {point.commit[:12]} on ({point.started}, {machine})"


def _plot(key: SeriesKey, points: Sequence[Point], changes: Sequence[LevelChange]) -> str:
    machine, case_id, metric = key
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
    body = figure.to_html(full_html=False, include_plotlyjs=False)
    return f"<section><h2>{escape(case_id)}: {escape(metric)} on {escape(machine)}</h2>{body}</section>"
