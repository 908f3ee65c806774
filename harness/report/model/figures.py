"""What every plot is made of: lines with bands, log axes, and marks where a case has no result.

A figure is the dict of ``data`` and ``layout`` that plotly.js draws. Every trace names its series in ``meta``, so that
the page can hide it; ``customdata`` holds the sequence length of each of its points, so that the page can leave points
out. Names come from outside: they are escaped, because plotly reads its texts as HTML.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from harness.report.model import units
from harness.report.model.records_table import STATUS_WORDS, each
from harness.report.model.style import Style

Figure = dict[str, Any]
Trace = dict[str, Any]
Styles = Mapping[str, Style]

_MAX_TICKS = 9
_MANTISSAS = {  # by base, and whether all is within a factor of 2
    (10, False): (1, 1.5, 2, 3, 5, 7),
    (10, True): (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    (2, False): (1, 1.25, 1.5, 1.75),
    (2, True): (1, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875),
}
_MAX_LENGTHS = 6
"""Their words are long: more are turned, and the last falls off at a third of the page's width."""
_FAILURE_MARKERS = {"unsupported": "circle-x-open", "incorrect": "square-x-open"}


def line(
    label: str, styles: Styles, x: Sequence[float], y: Sequence[float], hover: list[str], lengths: Sequence[int]
) -> Trace:
    """A series as a line with markers."""
    style = styles[label]
    return {
        "type": "scatter", "mode": "lines+markers", "name": text(label), "meta": {"series": label},
        "x": list(x), "y": list(y), "customdata": list(lengths),
        "line": {"color": style.color, "dash": style.dash, "width": 2.2},
        "marker": {"color": style.color, "symbol": style.marker, "size": 9},
        "hoverinfo": "text", "hovertext": hover,
    }  # fmt: skip


def band(
    label: str, styles: Styles, x: Sequence[float], low: Sequence[float], high: Sequence[float], lengths: Sequence[int]
) -> Trace:
    """The area from ``low`` to ``high`` around a line."""
    return {
        "type": "scatter", "mode": "lines", "meta": {"series": label, "band": True},
        "x": [*x, *x[::-1]], "y": [*high, *low[::-1]], "customdata": [*lengths, *lengths[::-1]],
        "fill": "toself", "fillcolor": styles[label].color, "opacity": 0.2, "line": {"width": 0}, "hoverinfo": "skip",
    }  # fmt: skip


def points(
    label: str, styles: Styles, x: Sequence[float], y: Sequence[Any], hover: list[str], lengths: Sequence[int]
) -> Trace:
    """A series as markers alone."""
    style = styles[label]
    return {
        "type": "scatter", "mode": "markers", "name": text(label), "meta": {"series": label},
        "x": list(x), "y": list(y), "customdata": list(lengths),
        "marker": {"color": style.color, "symbol": style.marker, "size": 12, "opacity": 0.85},
        "hoverinfo": "text", "hovertext": hover,
    }  # fmt: skip


def text(words: str) -> str:
    """Words that plotly shows as they are."""
    return escape(words, quote=False)


def hover(row: Any, words: str) -> str:
    """The text of a case's point: what it is, its value, the attention's knobs and the kernel that ran."""
    knobs = {**row.record.spec.knobs, **row.record.knobs}
    parts = [f"{_SHORT.get(name, name)} = {value}" for name, value in sorted(knobs.items())]
    lines = [f"<b>{text(row.series)}</b>, n = {row.seq_len:,}", words]
    lines += [text(", ".join(parts))] if parts else []
    lines += [f"kernel: {text(row.kernel)}"] if row.kernel else []
    return "<br>".join(lines)


_SHORT = {"num_hash": "m", "hash_code_len": "tau"}


def log_axis(title: str, values: Sequence[float], words: units.Words, base: int) -> dict[str, Any]:
    """A log axis with round ticks at powers of ``base``."""
    positive = [value for value in values if value > 0]
    ticks = _ticks(min(positive), max(positive), base) if positive else []
    texts = [_round(words(tick)) for tick in ticks]
    return {"title": {"text": title}, "type": "log", "tickvals": ticks, "ticktext": texts}


def length_axis(lengths: Sequence[int]) -> dict[str, Any]:
    """The log axis of sequence lengths, a tick at each, or at every second one and so on from the longest down."""
    found = sorted(set(lengths), reverse=True)
    shown = found[:: -(-len(found) // _MAX_LENGTHS)][::-1] if found else []
    return {
        "title": {"text": "sequence length (tokens)"}, "type": "log", "anchor": "y",
        "tickvals": shown, "ticktext": [f"{n:,}" for n in shown],
    }  # fmt: skip


def figure(data: list[Trace], **layout: Any) -> Figure:
    """The traces and their layout."""
    return {"data": data, "layout": {"showlegend": False, "hovermode": "closest", **layout}}


def with_failures(data: list[Trace], rows: pd.DataFrame, styles: Styles, **layout: Any) -> Figure:
    """A figure by length with a strip above it: a mark at the length of each case without a result.

    What is unsupported at every length is left to the words and the table.
    """
    layout["xaxis"] = length_axis(list(rows["seq_len"]))
    failed = rows[rows["status"] != "ok"]
    ran = set(rows.loc[rows["status"] == "ok", "series"])
    failed = failed[(failed["status"] != "unsupported") | failed["series"].isin(ran)]
    if failed.empty:
        return figure(data, **layout)
    labels = sorted(set(failed["series"]))
    for label, its in failed.groupby("series"):
        cases = each(its)
        marks = points(
            str(label), styles, [row.seq_len for row in cases], [labels.index(str(label))] * len(cases),
            [hover(row, f"<b>{STATUS_WORDS[row.status]}</b><br>{_reasons(row)}") for row in cases],
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


def _reasons(row: Any) -> str:
    return "<br>".join(text(_short(reason)) for reason in row.record.reasons)


def _short(reason: str, width: int = 90) -> str:
    one_line = " ".join(reason.split())
    return one_line if len(one_line) <= width else one_line[: width - 1] + "…"


def _round(words: str) -> str:
    """A tick is a round number: "10 ms" and "0.01", not "10.0 ms" and "0.0100"."""
    return re.sub(r"\.(?!\d)", "", re.sub(r"(\.\d*?)0+(?!\d)", r"\1", words))


def _ticks(low: float, high: float, base: int) -> list[float]:
    first, last = int(np.floor(np.log(low) / np.log(base))), int(np.ceil(np.log(high) / np.log(base)))
    step = max(1, -(-(last - first) // _MAX_TICKS))
    powers = [float(base) ** exponent for exponent in range(first // step * step, last + 1, step)]
    if last - first > 2:
        return powers
    return [power * mantissa for power in powers for mantissa in _MANTISSAS[base, high < 2 * low]]
