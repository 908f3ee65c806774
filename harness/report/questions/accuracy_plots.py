"""Plots of trained models: every seed's score beside the baselines, and scores against length, time and hashes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.report.model import units
from harness.report.model.figures import Figure, Styles, Trace, band, figure, length_axis, line, log_axis, points, text
from harness.report.questions.scores import metric, scored


def seeds_figure(rows: pd.DataFrame, styles: Styles) -> Figure:
    """Held-out score of every seed, one row a series, with lines at chance and at the majority class."""
    data: list[Trace] = []
    found = sorted(scored(rows), key=lambda row: float(np.mean(row.record.task.scores)))
    for row in found:
        scores, seed, mean = row.record.task.scores, row.record.spec.seed, float(np.mean(row.record.task.scores))
        name = text(row.series)
        dots = [f"<b>{name}</b><br>seed {seed + i}: {units.percent(score)}" for i, score in enumerate(scores)]
        bar_words = f"<b>{name}</b><br>mean of {len(scores)} seeds: {units.percent(mean)}"
        lengths = [row.seq_len] * len(scores)
        data.append(points(row.series, styles, scores, [name] * len(scores), dots, lengths))
        bar = points(row.series, styles, [mean], [name], [bar_words], lengths[:1])
        bar["marker"] |= {"symbol": "line-ns-open", "size": 26, "line": {"width": 3}}
        data.append(bar)
    shapes, notes = baselines(found)
    return figure(
        data, xaxis=score_axis(found),
        yaxis={"type": "category"}, height=160 + 44 * len(found), margin={"t": 48, "l": 10}, shapes=shapes,
        annotations=notes,
    )  # fmt: skip


def score_by_length(rows: pd.DataFrame, styles: Styles) -> Figure:
    """Mean score against length, with a band from the worst seed to the best."""
    data: list[Trace] = []
    for label, its in _by_series(rows).items():
        lengths, by_seed = [row.seq_len for row in its], [row.record.task.scores for row in its]
        data.append(band(label, styles, lengths, list(map(min, by_seed)), list(map(max, by_seed)), lengths))
        data.append(line(label, styles, lengths, [_mean(row) for row in its], [_words(row) for row in its], lengths))
    return figure(data, xaxis=length_axis(list(rows["seq_len"])), yaxis=score_axis(scored(rows)))


def training_time(rows: pd.DataFrame, styles: Styles) -> Figure:
    """Median seconds of a training against length."""
    data: list[Trace] = []
    values: list[float] = []
    for label, scored_ in _by_series(rows).items():
        its = [row for row in scored_ if row.record.task.train_seconds]
        lengths = [row.seq_len for row in its]
        seconds = [float(np.median(row.record.task.train_seconds)) for row in its]
        values += seconds
        data.append(line(label, styles, lengths, seconds, [_words(row) for row in its], lengths))
    axis = log_axis("time of a training", values, units.seconds, 10)
    return figure(data, xaxis=length_axis(list(rows["seq_len"])), yaxis=axis)


def score_by_hashes(rows: pd.DataFrame, styles: Styles) -> Figure:
    """Mean score against the number of hashes, for attentions that have one."""
    data: list[Trace] = []
    ticks: set[int] = set()
    for label, its in _by_series(rows).items():
        counted = [row for row in its if isinstance(row.record.knobs.get("num_hash"), int)]
        if counted:
            counts = [row.record.knobs["num_hash"] for row in counted]
            ticks |= set(counts)
            words = [_words(row) for row in counted]
            lengths = [row.seq_len for row in counted]
            drawn = line(label, styles, counts, [_mean(row) for row in counted], words, lengths)
            data.append(drawn | {"mode": "markers"})
    shown = sorted(ticks)
    axis = {
        "title": {"text": "number of hashes m"},
        "type": "log",
        "tickvals": shown,
        "ticktext": [f"{m:,}" for m in shown],
    }
    return figure(data, xaxis=axis, yaxis=score_axis(scored(rows)))


def _by_series(rows: pd.DataFrame) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in sorted(scored(rows), key=lambda row: row.seq_len):
        found.setdefault(row.series, []).append(row)
    return dict(sorted(found.items()))


def _mean(row: Any) -> float:
    return float(np.mean(row.record.task.scores))


def _words(row: Any) -> str:
    task = row.record.task
    scores = ", ".join(units.percent(score) for score in task.scores)
    time = units.seconds(float(np.median(task.train_seconds))) if task.train_seconds else "not known"
    return (
        f"<b>{text(row.series)}</b>, n = {row.seq_len:,}<br>mean {units.percent(_mean(row))}"
        f" over {len(task.scores)} seeds<br>seeds: {scores}<br>a training took {time}"
    )


def score_axis(rows: Sequence[Any]) -> dict[str, Any]:
    """The axis of the scores of ``rows``, from 0 on."""
    return {"title": {"text": f"held-out {text(metric(rows))}"}, "tickformat": ".0%", "rangemode": "tozero"}


def baselines(rows: Sequence[Any], level: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Shapes and annotations at chance and at the majority class: upright lines, or ``level`` ones."""
    lines: dict[float, set[str]] = {}
    for row in rows:
        lines.setdefault(row.record.task.chance, set()).add("chance")
        lines.setdefault(row.record.task.majority, set()).add("majority")
    score, along = ("y", "x") if level else ("x", "y")
    shapes, notes = [], []
    for nth, (value, words) in enumerate(sorted(lines.items())):
        shapes.append(
            {"type": "line", f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{score}0": value,
             f"{score}1": value, "line": {"dash": "dash", "width": 1.5, "color": "#8a8f98"}}
        )  # fmt: skip
        note = {"showarrow": False, "text": f"{' and '.join(sorted(words))} {units.percent(value)}"}
        # two that are close would hide each other: the higher one stands apart
        if level:
            note |= {"x": 1, "y": value, "xref": "paper", "xanchor": "right", "yanchor": "bottom" if nth else "top"}
        else:
            note |= {
                "x": value,
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "xanchor": "left",
                "yshift": 14 * (nth % 2),
            }
        notes.append(note)
    return shapes, notes
