"""Figures from the table of ``frame.py``: plotly, log axes, one trace a series, failures marked at their place.

A figure is the dict of ``data`` and ``layout`` that plotly.js draws. Every trace names its series in ``meta``, so that
the page can hide it. Names come from outside: they are escaped, because plotly reads its texts as HTML.
"""

import re
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from harness.reporting import units
from harness.reporting.frame import each
from harness.reporting.style import Style
from harness.stats import Estimate

Figure = dict[str, Any]
Styles = Mapping[str, Style]

STATUS_WORDS = {
    "unsupported": "unsupported",
    "incorrect": "incorrect",
    "oom": "out of memory",
    "timeout": "timed out",
    "crashed": "crashed",
    "diverged": "diverged",
}
_MAX_TICKS = 9
_FAILURE_MARKERS = {"unsupported": "circle-x-open", "incorrect": "square-x-open"}


def time_figure(rows: pd.DataFrame, styles: Styles) -> Figure:
    """Median seconds a call against length, with intervals; failures in a strip above."""
    figure = go.Figure()
    timed = rows[rows["time"].notna()]
    for label, line in timed.sort_values("seq_len").groupby("series"):
        times: list[Estimate] = list(line["time"])
        figure.add_trace(
            _line(
                str(label), styles, line["seq_len"], [t.value for t in times], [_time_hover(row) for row in each(line)]
            )
        )
        figure.data[-1].error_y = {
            "type": "data",
            "symmetric": False,
            "array": [t.high - t.value if t.high is not None else 0 for t in times],
            "arrayminus": [t.value - t.low if t.low is not None else 0 for t in times],
            "thickness": 1.2,
            "width": 3,
        }
    values = [t.value for t in timed["time"]]
    _log_y(figure, "time a call", values, units.seconds, 10)
    return _finish(figure, rows, styles)


def memory_figure(rows: pd.DataFrame, styles: Styles) -> Figure:
    """Peak bytes above what was allocated before the call, against length."""
    figure = go.Figure()
    drawn = rows[rows["peak_bytes"] > 0]  # a measured 0 has no place on a log axis: the page names those cases
    for label, line in drawn.sort_values("seq_len").groupby("series"):
        hover = [_memory_hover(row) for row in each(line)]
        figure.add_trace(_line(str(label), styles, line["seq_len"], list(line["peak_bytes"]), hover))
    _log_y(figure, "peak memory", list(drawn["peak_bytes"]), units.bytes_, 2)
    return _finish(figure, rows, styles)


def error_figure(rows: pd.DataFrame, styles: Styles, what: str) -> Figure:
    """Median relative error of ``what`` against the number of hashes, with a band from the best draw to the worst."""
    figure = go.Figure()
    points = hashed(rows, what)
    for label, line in points.items():
        x, style = list(line), styles[label]
        low, high = [min(errors) for errors in line.values()], [max(errors) for errors in line.values()]
        figure.add_trace(
            go.Scatter(
                x=x + x[::-1], y=high + low[::-1], fill="toself", fillcolor=style.color, opacity=0.18,
                line={"width": 0}, mode="lines", hoverinfo="skip", meta={"series": label},
            )
        )  # fmt: skip
        hover = [
            f"<b>{escape(label, quote=False)}</b><br>{m} hashes: {units.number(float(np.median(errors)))}"
            f"<br>from {units.number(min(errors))} to {units.number(max(errors))} over {len(errors)} draws"
            for m, errors in line.items()
        ]
        figure.add_trace(_line(label, styles, x, [float(np.median(errors)) for errors in line.values()], hover))
    _log_y(
        figure, "relative error", [e for line in points.values() for es in line.values() for e in es], units.number, 10
    )
    ticks = sorted({m for line in points.values() for m in line})
    figure.update_xaxes(title="number of hashes", type="log", tickvals=ticks, ticktext=[f"{m:,}" for m in ticks])
    return _as_dict(figure)


def hashed(rows: pd.DataFrame, what: str) -> dict[str, dict[int, list[float]]]:
    """Errors of ``what`` by number of hashes, ascending, by series.

    Left out are rows without hashes, and rows with an error that is not finite.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in each(rows):
        count = row.record.knobs.get("num_hash", row.record.spec.knobs.get("num_hash"))
        errors = row.record.quality.errors.get(what) if row.status == "ok" and row.record.quality else None
        if errors and isinstance(count, int) and np.isfinite(errors).all():
            found.setdefault(row.series, {})[count] = errors
    return {series: dict(sorted(line.items())) for series, line in sorted(found.items())}


def accuracy_figure(rows: pd.DataFrame, styles: Styles) -> Figure:
    """Held-out score of every seed, one row a series, with lines at chance and at the majority class."""
    figure = go.Figure()
    scored = [row for row in each(rows) if row.status == "ok" and row.record.task]
    for row in sorted(scored, key=lambda row: float(np.mean(row.record.task.scores))):
        style, scores, seed = styles[row.series], row.record.task.scores, row.record.spec.seed
        name, mean = escape(row.series, quote=False), float(np.mean(scores))
        dots_hover = [f"<b>{name}</b><br>seed {seed + i}: {units.percent(score)}" for i, score in enumerate(scores)]
        dots = {"symbol": style.marker, "size": 11, "color": style.color, "opacity": 0.75}
        bar = {"symbol": "line-ns-open", "size": 26, "color": style.color, "line": {"width": 3}}
        bar_hover = f"<b>{name}</b><br>mean of {len(scores)} seeds: {units.percent(mean)}"
        for x, marker, hover in ((scores, dots, dots_hover), ([mean], bar, [bar_hover])):
            figure.add_trace(
                go.Scatter(
                    x=x, y=[name] * len(x), mode="markers", meta={"series": row.series}, marker=marker,
                    hoverinfo="text", hovertext=hover,
                )
            )  # fmt: skip
    lines: dict[float, set[str]] = {}
    for row in scored:
        lines.setdefault(row.record.task.chance, set()).add("chance")
        lines.setdefault(row.record.task.majority, set()).add("majority")
    for height, (value, words) in enumerate(sorted(lines.items())):
        figure.add_vline(x=value, line={"dash": "dash", "width": 1.5, "color": "#8a8f98"})
        figure.add_annotation(
            x=value, y=1, yref="paper", yanchor="bottom", xanchor="left", showarrow=False, yshift=14 * (height % 2),
            text=f"{' and '.join(sorted(words))} {units.percent(value)}",
        )  # fmt: skip
    figure.update_xaxes(title="held-out accuracy", tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(type="category")
    figure.update_layout(height=160 + 44 * len(scored), margin={"t": 48, "l": 10})
    return _as_dict(figure)


def _line(label: str, styles: Styles, x: Any, y: list[float], hover: list[str]) -> go.Scatter:
    style = styles[label]
    return go.Scatter(
        x=list(x), y=y, mode="lines+markers", name=escape(label, quote=False), meta={"series": label},
        line={"color": style.color, "dash": style.dash, "width": 2.2},
        marker={"color": style.color, "symbol": style.marker, "size": 9},
        hoverinfo="text", hovertext=hover,
    )  # fmt: skip


def _time_hover(row: Any) -> str:
    time = row.time
    interval = (
        f"<br>{units.LEVEL_WORDS} interval {units.seconds(time.low)} to {units.seconds(time.high)}" if time.low else ""
    )
    return _hover(row, f"{units.seconds(time.value)}{interval}<br>{time.samples} samples, {row.clock} time")


def _memory_hover(row: Any) -> str:
    memory = row.record.memory
    words = f"{units.bytes_(memory.peak_bytes)} at the peak<br>{units.bytes_(memory.input_bytes)} before the call"
    return _hover(row, f"{words}<br>counted by {escape(memory.source, quote=False)}")


def _hover(row: Any, words: str) -> str:
    kernel = f"<br>kernel: {escape(row.kernel, quote=False)}" if row.kernel else ""
    return f"<b>{escape(row.series, quote=False)}</b>, length {row.seq_len:,}<br>{words}{kernel}"


def _finish(figure: go.Figure, rows: pd.DataFrame, styles: Styles) -> Figure:
    _failure_strip(figure, rows, styles)
    lengths = sorted(set(rows["seq_len"]))
    shown = lengths[:: -(-len(lengths) // _MAX_TICKS)] if lengths else []
    figure.update_xaxes(
        title="sequence length (tokens)", type="log", tickvals=shown, ticktext=[f"{n:,}" for n in shown], anchor="y"
    )
    return _as_dict(figure)


def _failure_strip(figure: go.Figure, rows: pd.DataFrame, styles: Styles) -> None:
    """Marks above the plot at the length of each failure; what is unsupported at every length is left to the table."""
    failed = rows[rows["status"] != "ok"]
    ran = set(rows.loc[rows["status"] == "ok", "series"])
    failed = failed[(failed["status"] != "unsupported") | failed["series"].isin(ran)]
    if failed.empty:
        return
    labels = sorted(set(failed["series"]))
    for row in each(failed):
        style = styles[row.series]
        reasons = "<br>".join(escape(_short(reason), quote=False) for reason in row.record.reasons)
        figure.add_trace(
            go.Scatter(
                x=[row.seq_len], y=[labels.index(row.series)], yaxis="y2", mode="markers", meta={"series": row.series},
                marker={"symbol": _FAILURE_MARKERS.get(row.status, "x"), "size": 10, "color": style.color},
                hoverinfo="text", hovertext=_hover(row, f"<b>{STATUS_WORDS[row.status]}</b><br>{reasons}"),
            )
        )  # fmt: skip
    bottom = 1 - min(0.3, 0.05 + 0.045 * len(labels))
    figure.update_layout(
        yaxis={"domain": [0, bottom - 0.02]},
        yaxis2={
            "domain": [bottom, 1], "range": [-0.7, len(labels) - 0.3], "showgrid": False, "zeroline": False,
            "tickvals": [(len(labels) - 1) / 2], "ticktext": ["did not run"], "fixedrange": True, "anchor": "x",
        },
    )  # fmt: skip


def _short(reason: str, width: int = 90) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _log_y(figure: go.Figure, title: str, values: list[float], words: units.Words, base: int) -> None:
    positive = [value for value in values if value > 0]
    ticks = _ticks(min(positive), max(positive), base) if positive else []
    # a tick is a round number: "10 ms", not "10.0 ms"
    texts = [re.sub(r"\.0+\b", "", words(tick)) for tick in ticks]
    figure.update_yaxes(title=title, type="log", tickvals=ticks, ticktext=texts)


def _ticks(low: float, high: float, base: int) -> list[float]:
    first, last = int(np.floor(np.log(low) / np.log(base))), int(np.ceil(np.log(high) / np.log(base)))
    step = max(1, -(-(last - first) // _MAX_TICKS))
    powers = [float(base) ** exponent for exponent in range(first // step * step, last + 1, step)]
    if base == 10 and last - first <= 2:
        return [power * mantissa for power in powers for mantissa in (1, 1.5, 2, 3, 5, 7)]
    return powers


def _as_dict(figure: go.Figure) -> Figure:
    figure.update_layout(template=None, showlegend=False, hovermode="closest")
    found: Figure = figure.to_plotly_json()
    found["layout"].pop("template", None)
    return found


def error_words(errors: list[float]) -> str:
    """Why a quality row is no point of the figure, with its median error where there is one."""
    if not np.isfinite(errors).all():
        return "an error that is not finite"
    return f"it has no number of hashes; {units.number(float(np.median(errors)))}"
