"""What every plot is made of: lines with bands, log axes, and marks for cases without a result.

A figure is the dict of ``data`` and ``layout`` that plotly.js draws. Every trace names its series in ``meta``, so that
the page can hide it; ``customdata`` holds the sequence length of each point, so that the page can filter by length.
Names come from the user's records and are escaped, because plotly interprets its texts as HTML.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from typing import Any

import numpy as np

from harness.core.escaping import isolated
from harness.report.model import amounts
from harness.report.model.records_table import STATUS_WORDS, ReportRow
from harness.report.model.style import Style
from harness.statistics.intervals import Estimate

Figure = dict[str, Any]
Trace = dict[str, Any]
Styles = Mapping[str, Style]

REFERENCE_COLOR = "#8a8f98"
"""The colour of lines that belong to no series: baselines, ceilings and Pareto fronts."""

_MAX_TICKS = 9
_MANTISSAS = {  # by base, and whether all values are within a factor of 2
    (10, False): (1, 1.5, 2, 3, 5, 7),
    (10, True): (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    (2, False): (1, 1.25, 1.5, 1.75),
    (2, True): (1, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875),
}
_MAX_LENGTH_TICKS = 6
"""With more labels of this width, plotly rotates them and cuts off the last one on a plot of a third of the page."""
_FAILURE_MARKERS = {"unsupported": "circle-x-open", "incorrect": "square-x-open"}
_SHORT_KNOBS = {"num_hash": "m", "hash_code_len": "tau"}


def line_trace(
    series: str, styles: Styles, x: Sequence[float], y: Sequence[float], hover: list[str], lengths: Sequence[int]
) -> Trace:
    """A series as a line with markers."""
    style = styles[series]
    return {
        "type": "scatter", "mode": "lines+markers", "name": escape_text(series), "meta": {"series": series},
        "x": list(x), "y": list(y), "customdata": list(lengths),
        "line": {"color": style.color, "dash": style.dash, "width": 2.2},
        "marker": {"color": style.color, "symbol": style.marker, "size": 9},
        "hoverinfo": "text", "hovertext": hover,
    }  # fmt: skip


def band_trace(
    series: str, styles: Styles, x: Sequence[float], low: Sequence[float], high: Sequence[float], lengths: Sequence[int]
) -> Trace:
    """The area from ``low`` to ``high`` around a line."""
    return {
        "type": "scatter", "mode": "lines", "meta": {"series": series, "band": True},
        "x": [*x, *x[::-1]], "y": [*high, *low[::-1]], "customdata": [*lengths, *lengths[::-1]],
        "fill": "toself", "fillcolor": styles[series].color, "opacity": 0.2, "line": {"width": 0}, "hoverinfo": "skip",
    }  # fmt: skip


def marker_trace(
    series: str, styles: Styles, x: Sequence[float], y: Sequence[Any], hover: list[str], lengths: Sequence[int]
) -> Trace:
    """A series as markers without a line."""
    style = styles[series]
    return {
        "type": "scatter", "mode": "markers", "name": escape_text(series), "meta": {"series": series},
        "x": list(x), "y": list(y), "customdata": list(lengths),
        "marker": {"color": style.color, "symbol": style.marker, "size": 12, "opacity": 0.85},
        "hoverinfo": "text", "hovertext": hover,
    }  # fmt: skip


def estimate_traces(
    series: str, styles: Styles, lengths: Sequence[int], estimates: Sequence[Estimate], hover: list[str]
) -> list[Trace]:
    """A line of estimates against length, with a band behind it where there are intervals."""
    line = line_trace(series, styles, lengths, [estimate.value for estimate in estimates], hover, lengths)
    bounds = [
        (length, estimate.low, estimate.high)
        for length, estimate in zip(lengths, estimates, strict=True)
        if estimate.low is not None and estimate.high is not None
    ]
    if not bounds:
        return [line]
    x, low, high = (list(column) for column in zip(*bounds, strict=True))
    return [band_trace(series, styles, x, low, high, x), line]


def escape_text(words: str) -> str:
    """Words escaped so that plotly shows them as they are; a name from right to left leaves what is around it alone."""
    return escape(isolated(words), quote=False)


def hover_text(row: ReportRow, words: str) -> str:
    """The hover text of a case: its series and length, ``words``, the attention's knobs and the kernel that ran."""
    knobs = {**row.record.spec.knobs, **row.record.knobs}
    parts = [f"{_SHORT_KNOBS.get(name, name)} = {value}" for name, value in sorted(knobs.items())]
    lines = [f"<b>{escape_text(row.series)}</b>, n = {row.seq_len:,}", words]
    lines += [escape_text(", ".join(parts))] if parts else []
    lines += [f"kernel: {escape_text(row.record.kernel)}"] if row.record.kernel else []
    return "<br>".join(lines)


def log_axis(title: str, values: Sequence[float], words: amounts.Formatter, base: int) -> dict[str, Any]:
    """A log axis with round ticks at powers of ``base``."""
    positive = [value for value in values if value > 0]
    ticks = _ticks(min(positive), max(positive), base) if positive else []
    texts = [_without_trailing_zeros(words(tick)) for tick in ticks]
    axis = {"title": {"text": title}, "type": "log", "tickvals": ticks, "ticktext": texts}
    if positive and sum(min(positive) <= tick <= max(positive) for tick in ticks) < 2:
        # an axis needs two ticks to be read: it reaches to those around the values
        low = max((tick for tick in ticks if tick <= min(positive)), default=ticks[0])
        high = min((tick for tick in ticks if tick >= max(positive)), default=ticks[-1])
        axis["range"] = [log10(low) - 0.01, log10(high) + 0.01]
    return axis


def length_axis(lengths: Sequence[int]) -> dict[str, Any]:
    """The log axis of sequence lengths: a tick at each length, or at every second, third, ... from the longest down."""
    distinct = sorted(set(lengths), reverse=True)
    ticks = distinct[:: -(-len(distinct) // _MAX_LENGTH_TICKS)][::-1] if distinct else []
    return {
        "title": {"text": "sequence length (tokens)"}, "type": "log", "anchor": "y",
        "tickvals": ticks, "ticktext": [f"{n:,}" for n in ticks],
    }  # fmt: skip


def figure(data: list[Trace], **layout: Any) -> Figure:
    """The traces and their layout."""
    return {"data": data, "layout": {"showlegend": False, "hovermode": "closest", **layout}}


def figure_with_failures(data: list[Trace], rows: Sequence[ReportRow], styles: Styles, **layout: Any) -> Figure:
    """A figure against length, with a strip above it that marks the length of each case without a result.

    An attention that is unsupported at every length is left out here; remarks and tables name it.
    """
    layout["xaxis"] = length_axis([row.seq_len for row in rows])
    with_result = {row.series for row in rows if row.is_ok}
    failed = [row for row in rows if not row.is_ok and (row.status != "unsupported" or row.series in with_result)]
    if not failed:
        return figure(data, **layout)
    labels = sorted({row.series for row in failed})
    for height, series in enumerate(labels):
        cases = [row for row in failed if row.series == series]
        marks = marker_trace(
            series, styles, [row.seq_len for row in cases], [height] * len(cases),
            [hover_text(row, f"<b>{STATUS_WORDS[row.status]}</b><br>{_reasons(row)}") for row in cases],
            [row.seq_len for row in cases],
        )  # fmt: skip
        marks["yaxis"] = "y2"
        marks["marker"] |= {"size": 10, "symbol": [_FAILURE_MARKERS.get(row.status, "x") for row in cases]}
        data = [*data, marks]
    bottom = 1 - min(0.3, 0.05 + 0.045 * len(labels))
    layout["yaxis"] = {**layout["yaxis"], "domain": [0, bottom - 0.02]}
    layout["yaxis2"] = {
        "domain": [bottom, 1], "range": [-0.7, len(labels) - 0.3], "showgrid": False, "zeroline": False,
        "tickvals": [(len(labels) - 1) / 2], "ticktext": ["did not run"], "fixedrange": True, "anchor": "x",
    }  # fmt: skip
    return figure(data, **layout)


def _reasons(row: ReportRow) -> str:
    return "<br>".join(escape_text(_shortened(reason)) for reason in row.record.reasons)


def _shortened(reason: str, width: int = 90) -> str:
    one_line = " ".join(reason.split())
    return one_line if len(one_line) <= width else one_line[: width - 1] + "…"


def _without_trailing_zeros(words: str) -> str:
    """A tick is a round number: "10 ms" and "0.01", not "10.0 ms" and "0.0100"."""
    return re.sub(r"\.(?!\d)", "", re.sub(r"(\.\d*?)0+(?!\d)", r"\1", words))


def _ticks(low: float, high: float, base: int) -> list[float]:
    first, last = int(np.floor(np.log(low) / np.log(base))), int(np.ceil(np.log(high) / np.log(base)))
    step = max(1, -(-(last - first) // _MAX_TICKS))
    powers = [float(base) ** exponent for exponent in range(first // step * step, last + 1, step)]
    if last - first > 2:
        return powers
    return [power * mantissa for power in powers for mantissa in _MANTISSAS[base, high < 2 * low]]
