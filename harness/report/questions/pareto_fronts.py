"""Pareto fronts: the attentions that no other beats in both of two costs at once, at one length."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.report.model import units
from harness.report.model.figures import Figure, Styles, Trace, figure, log_axis, points, text
from harness.report.model.records_table import each, of_instance
from harness.report.questions import scores
from harness.report.questions.errors import Errors


class Choice(NamedTuple):
    """One attention at one length: two costs, both better when lower, and ``y`` as it is drawn."""

    series: str
    seq_len: int
    x: float
    y: float
    words: str


class Front(NamedTuple):
    """The choices at every length, and what the axes are. ``x`` is a time or bytes; lower is better.

    ``y_better`` is ``lower`` or ``higher``.
    """

    choices: list[Choice]
    y_title: str
    y_words: units.Words
    y_better: str
    x_title: str = "time"
    x_words: units.Words = units.seconds

    def longest(self) -> int | None:
        """The longest length with two choices or more; with one where there is none such."""
        lengths = [choice.seq_len for choice in self.choices]
        several = [length for length in lengths if lengths.count(length) > 1]
        return max(several or lengths, default=None)


def error_front(rows: pd.DataFrame, errors: Errors, inputs: str) -> Front:
    """Time and error on one kind of inputs; without choices where no error was measured."""
    found = []
    for row in each(rows):
        joined = errors.of(row, inputs) if row.time is not None else None
        if joined is not None and joined.median > 0:
            words = f"{units.seconds(row.time.value)}, error {units.percent(joined.median)} against {joined.reference}"
            found.append(Choice(row.series, row.seq_len, row.time.value, joined.median, words))
    return Front(found, "relative error", units.number, "lower")


def memory_front(rows: pd.DataFrame) -> Front:
    """Time and peak memory."""
    found = [
        Choice(row.series, row.seq_len, row.time.value, row.peak_bytes,
               f"{units.seconds(row.time.value)}, {units.bytes_(row.peak_bytes)}")
        for row in each(rows)
        if row.time is not None and row.peak_bytes > 0
    ]  # fmt: skip
    its = of_instance(rows)
    return Front(found, f"peak memory{its}", units.bytes_, "lower", f"time{its}")


def task_time_front(rows: pd.DataFrame) -> Front:
    """Training time and mean score."""
    timed = [row for row in scores.scored(rows) if row.record.task.train_seconds]
    costs = [float(np.median(row.record.task.train_seconds)) for row in timed]
    return _task_front(timed, costs, "time of a training", units.seconds)


def task_memory_front(rows: pd.DataFrame) -> Front:
    """Peak memory of one forward and backward pass of a batch, and mean score."""
    measured = [row for row in scores.scored(rows) if row.peak_bytes > 0]
    return _task_front(measured, [row.peak_bytes for row in measured], "peak memory of a training pass", units.bytes_)


def _task_front(rows: Sequence[Any], costs: Sequence[float], title: str, words: units.Words) -> Front:
    score = scores.metric(rows) if rows else "score"
    found = []
    for row, cost in zip(rows, costs, strict=True):
        mean = float(np.mean(row.record.task.scores))
        told = f"{title} {words(cost)}, mean {score} {units.percent(mean)}"
        found.append(Choice(row.series, row.seq_len, cost, mean, told))
    return Front(found, f"held-out {score}", units.percent, "higher", title, words)


def unbeaten(choices: Sequence[Choice], better: str) -> list[Choice]:
    """The choices on the front, by ``x``."""
    sign = 1 if better == "lower" else -1
    found: list[Choice] = []
    for choice in sorted(choices, key=lambda one: (one.x, sign * one.y)):
        if not found or sign * choice.y < sign * found[-1].y:
            found.append(choice)
    return found


def front_figure(front: Front, styles: Styles) -> Figure:
    """Every choice of every length; the page shows one length and draws the front through what it shows.

    ``layout.meta`` tells it which: ``front`` is what is better in y, ``length`` the length at first.
    """
    by_series: dict[str, list[Choice]] = {}
    for choice in front.choices:
        by_series.setdefault(choice.series, []).append(choice)
    data = [
        points(
            series, styles, [one.x for one in its], [one.y for one in its],
            [f"<b>{text(series)}</b>, n = {one.seq_len:,}<br>{text(one.words)}" for one in its],
            [one.seq_len for one in its],
        )
        for series, its in sorted(by_series.items())
    ]  # fmt: skip
    y_axis = {"title": {"text": front.y_title}, "tickformat": ".0%"}
    if front.y_better == "lower":
        y_axis = log_axis(front.y_title, [one.y for one in front.choices], front.y_words, _base(front.y_words))
    x_axis = log_axis(front.x_title, [one.x for one in front.choices], front.x_words, _base(front.x_words))
    meta = {"front": front.y_better, "length": front.longest()}
    return figure(data, xaxis=x_axis, yaxis=y_axis, meta=meta)


def _base(words: units.Words) -> int:
    return 2 if words is units.bytes_ else 10


def still(data: list[Trace], length: int, better: str) -> list[Trace]:
    """The traces of ``front_figure`` at one length, with the front drawn through them, for a picture."""
    found: list[Trace] = []
    for trace in data:
        kept = [i for i, n in enumerate(trace["customdata"]) if n == length]
        if kept:
            points_ = {name: [trace[name][i] for i in kept] for name in ("x", "y", "customdata", "hovertext")}
            found.append(trace | points_)
    choices = [Choice("", length, x, y, "") for one in found for x, y in zip(one["x"], one["y"], strict=True)]
    best = unbeaten(choices, better)
    line = {
        "type": "scatter", "mode": "lines", "meta": {"series": None}, "x": [one.x for one in best],
        "y": [one.y for one in best], "line": {"color": "#8a8f98", "dash": "dot", "width": 1.5},
    }  # fmt: skip
    return [line, *found]
