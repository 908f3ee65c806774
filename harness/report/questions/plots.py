"""Plots against length: time, memory, error, attention's share of a model, and two runs against each other."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.report.model import units
from harness.report.model.figures import (
    Figure,
    Styles,
    Trace,
    band,
    figure,
    hover,
    length_axis,
    line,
    log_axis,
    text,
    with_failures,
)
from harness.report.model.records_table import each, memory_of, of_instance
from harness.report.questions.difference import Pair
from harness.report.questions.errors import Errors
from harness.report.questions.rivals import attention_share
from harness.statistics.intervals import Estimate


def time_figure(rows: pd.DataFrame, styles: Styles) -> Figure:
    """Median seconds against length, with intervals; failures in a strip above."""
    data: list[Trace] = []
    timed = rows[rows["time"].notna()]
    for label, its in timed.sort_values("seq_len").groupby("series"):
        cases = each(its)
        words = [
            f"{units.estimate(row.time, 's')}{_share(row)}<br>{row.time.samples} samples, {row.clock} time"
            for row in cases
        ]
        data += _curve(str(label), styles, [row.seq_len for row in cases], [row.time for row in cases],
                       [hover(row, its_words) for row, its_words in zip(cases, words, strict=True)])  # fmt: skip
    values = [row.time.value for row in each(timed)]
    axis = log_axis(f"time{of_instance(rows) or ' a call'}", values, units.seconds, 10)
    return with_failures(data, rows, styles, yaxis=axis)


def memory_figure(rows: pd.DataFrame, styles: Styles) -> Figure:
    """Peak bytes above what was allocated before the call, against length."""
    data: list[Trace] = []
    drawn = rows[rows["peak_bytes"] > 0]  # a measured 0 has no place on a log axis: the page names those cases
    for label, its in drawn.sort_values("seq_len").groupby("series"):
        cases = each(its)
        texts = [
            f"{units.bytes_(row.peak_bytes)}{_share(row)} at the peak"
            f"<br>{units.bytes_(row.input_bytes)} before the call"
            f"<br>counted by {text(memory.source)}"
            for row in cases
            if (memory := memory_of(row.record))
        ]
        lengths = [row.seq_len for row in cases]
        hovers = [hover(row, words) for row, words in zip(cases, texts, strict=True)]
        data.append(line(str(label), styles, lengths, list(its["peak_bytes"]), hovers, lengths))
    axis = log_axis(f"peak memory{of_instance(rows)}", list(drawn["peak_bytes"]), units.bytes_, 2)
    return with_failures(data, rows, styles, yaxis=axis)


def error_figure(rows: pd.DataFrame, styles: Styles, errors: Errors, inputs: str) -> Figure:
    """Median relative error of the output against length, at the settings that were timed, on one kind of inputs.

    The band reaches from the best draw to the worst.
    """
    data: list[Trace] = []
    values: list[float] = []
    measured: list[int] = []
    for label, its in rows[rows["status"] == "ok"].sort_values("seq_len").groupby("series"):
        found = [(row, joined) for row in each(its) if (joined := errors.of(row, inputs)) and joined.median > 0]
        if not found:
            continue
        lengths = [row.seq_len for row, _ in found]
        texts = [
            hover(row, f"error {units.percent(one.median)} against {text(one.reference)}<br>{len(one.errors)} draws")
            for row, one in found
        ]
        low, high = [min(one.errors) for _, one in found], [max(one.errors) for _, one in found]
        data.append(band(str(label), styles, lengths, low, high, lengths))
        data.append(line(str(label), styles, lengths, [one.median for _, one in found], texts, lengths))
        values += low + high
        measured += lengths
    axis = log_axis("relative error", values, units.number, 10)
    return figure(data, xaxis=length_axis(measured), yaxis=axis)


def share_figure(rows: pd.DataFrame, styles: Styles) -> Figure:
    """The share of a model's time that its attention takes, against length."""
    data: list[Trace] = []
    for series, shares in sorted(attention_share(rows).items()):
        lengths = sorted(shares)
        texts = [
            f"<b>{text(series)}</b>, n = {n:,}<br>attention is {units.estimate(shares[n], 'fraction')} of the time"
            for n in lengths
        ]
        data += _curve(series, styles, lengths, [shares[n] for n in lengths], texts)
    axis = {"title": {"text": "attention's share of the time"}, "tickformat": ".0%"}
    return figure(data, xaxis=length_axis(list(rows["seq_len"])), yaxis=axis)


def ratio_figure(pairs: Sequence[Pair], styles: Styles) -> Figure:
    """Time of the later run over the first's, against length; below 1 the later run is faster."""
    by_series: dict[str, list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.after.seq_len):
        if pair.ratio is not None:
            by_series.setdefault(pair.after.series, []).append(pair)
    data: list[Trace] = []
    for series, its in sorted(by_series.items()):
        lengths = [pair.after.seq_len for pair in its]
        ratios = [pair.ratio for pair in its if pair.ratio is not None]
        texts = [
            hover(pair.after, f"{units.estimate(ratio, 'number')} times the first run's time")
            for pair, ratio in zip(its, ratios, strict=True)
        ]
        data += _curve(series, styles, lengths, ratios, texts)
    values = [pair.ratio.value for pair in pairs if pair.ratio is not None]
    axis = log_axis("time, as a multiple of the first run's", values, units.number, 10)
    even = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1,
            "line": {"dash": "dash", "width": 1.5, "color": "#8a8f98"}}  # fmt: skip
    return figure(data, xaxis=length_axis([pair.after.seq_len for pair in pairs]), yaxis=axis, shapes=[even])


def _share(row: Any) -> str:
    """What a value of ``row`` is a part of, where it is no whole call's."""
    return "" if row.per == "call" else f" an instance, in a call of {row.record.batch:,},"


def _curve(
    label: str, styles: Styles, lengths: Sequence[int], values: Sequence[Estimate], hovers: list[str]
) -> list[Trace]:
    """A line, and its band where samples give an interval."""
    drawn = line(label, styles, lengths, [one.value for one in values], hovers, lengths)
    known = [(n, one.low, one.high) for n, one in zip(lengths, values, strict=True)
             if one.low is not None and one.high is not None]  # fmt: skip
    if not known:
        return [drawn]
    x, low, high = (list(column) for column in zip(*known, strict=True))
    return [band(label, styles, x, low, high, x), drawn]
