"""Trend plots: one offline HTML page, a plot a case and metric, steps marked."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from harness.gate.history.trend import Point, Step, steps
from harness.gate.judge.gated_metrics import METRICS

STYLE = "body{font:15px system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}h2{font-size:1rem}li{margin:.2rem 0}"


def write(series: Mapping[tuple[str, str, str], Sequence[Point]], path: Path) -> int:
    """Write the page, series with steps first.

    Returns:
        How many steps are marked.
    """
    found = [(key, points, steps(points)) for key, points in series.items()]
    found.sort(key=lambda one: (-len(one[2]), one[0]))
    marked = [(key, step) for key, _, its in found for step in its]
    items = "".join(f"<li>{escape(words(key, step))}</li>" for key, step in marked) or "<li>none</li>"
    plots = "".join(_plot(key, points, its) for key, points, its in found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>History</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script><h1>History</h1><p>{len(found)} series. Changes of level:</p>"
        f"<ul>{items}</ul>{plots}</html>",
        encoding="utf-8",
    )
    return len(marked)


def words(key: tuple[str, str, str], step: Step) -> str:
    """A step in one line."""
    machine, case_id, metric = key
    return f"{case_id} {metric}: {step.ratio - 1:+.1%} from {step.at.commit[:12]} on ({step.at.started}, {machine})"


def _plot(key: tuple[str, str, str], points: Sequence[Point], its: Sequence[Step]) -> str:
    machine, case_id, metric = key
    figure = go.Figure(
        go.Scatter(
            x=list(range(len(points))),
            y=[point.value for point in points],
            mode="lines+markers",
            text=[f"{point.commit[:12]}<br>{escape(point.started)}" for point in points],
        )
    )
    for step in its:
        figure.add_vline(x=points.index(step.at) - 0.5, line_dash="dot", annotation_text=f"{step.ratio - 1:+.1%}")
    figure.update_layout(
        height=260, margin={"l": 60, "r": 20, "t": 20, "b": 40}, template="plotly_white",
        xaxis_title="run", yaxis_title=METRICS[metric].unit,
    )  # fmt: skip
    body = figure.to_html(full_html=False, include_plotlyjs=False)
    return f"<section><h2>{escape(case_id)}: {escape(metric)} on {escape(machine)}</h2>{body}</section>"
