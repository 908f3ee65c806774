"""Error against the budget of an approximation: its number of hashes, features or landmarks."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.report.model import units
from harness.report.model.figures import Figure, Styles, Trace, band, figure, line, log_axis, text
from harness.report.model.sentence import Sentence, say
from harness.report.model.units import Amount
from harness.report.questions.errors import by_budget

_ROOM = 1.15
"""Between the outermost errors and the ends of their axis, as a factor."""


def budget_figure(rows: pd.DataFrame, styles: Styles, what: str, reach: Sequence[float]) -> Figure:
    """Median relative error of ``what`` against the budget, with a band from the best draw to the worst.

    ``reach`` are errors that the axis must reach besides: figures that stand beside one another have one scale.
    """
    found = by_budget(rows, what)
    length = {row_series: int(n) for row_series, n in zip(rows["series"], rows["seq_len"], strict=True)}
    data: list[Trace] = []
    for label, its in found.items():
        counts = list(its)
        low, high = [min(errors) for errors in its.values()], [max(errors) for errors in its.values()]
        texts = [
            f"<b>{text(label)}</b><br>budget {m}: {units.number(float(np.median(errors)))}"
            f"<br>from {units.number(min(errors))} to {units.number(max(errors))} over {len(errors)} draws"
            for m, errors in its.items()
        ]
        lengths = [length[label]] * len(counts)
        medians = [float(np.median(errors)) for errors in its.values()]
        data.append(band(label, styles, counts, low, high, lengths))
        data.append(line(label, styles, counts, medians, texts, lengths))
    values = [*drawn_errors(rows, what), *reach]
    ticks = sorted({m for its in found.values() for m in its})
    axis = {
        "title": {"text": "budget: hashes, features or landmarks"}, "type": "log", "tickvals": ticks,
        "ticktext": [f"{m:,}" for m in ticks],
    }  # fmt: skip
    errors = log_axis("relative error", values, units.number, 10)
    if values and min(values) > 0:
        errors["range"] = [math.log10(min(values) / _ROOM), math.log10(max(values) * _ROOM)]
    return figure(data, xaxis=axis, yaxis=errors)


def drawn_errors(rows: pd.DataFrame, what: str) -> list[float]:
    """Every error of ``what`` that has a place in a figure."""
    return [error for its in by_budget(rows, what).values() for errors in its.values() for error in errors]


def error_words(errors: list[float]) -> Sentence:
    """Why a quality row is no point of the figure, with its median error where there is one."""
    if not np.isfinite(errors).all():
        return Sentence("an error that is not finite")
    return say("it has no budget; {}", Amount(float(np.median(errors)), "number"))
