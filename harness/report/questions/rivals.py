"""Whole models: encoders of equal size beside one another, and the part of a model's time that is its attention's."""

import pandas as pd

from harness.report.model import units
from harness.report.model.records_table import STATUS_WORDS, Facets, each, times_by_length, views
from harness.report.model.tables import Cell, Table, with_facets
from harness.report.model.units import Amount
from harness.statistics import intervals

FLOOR = "none"
"""The attention that mixes no tokens: a model with it takes the time of everything but attention."""


def rivals(table: pd.DataFrame) -> Table:
    """Bare encoders of equal size: every family and attention, with its time as a multiple of BERT's."""
    rows: list[tuple[Facets, list[Cell]]] = []
    for facets, view in views(table, "model").items():
        if dict(facets)["Model"] != "encoder" or not view["base"].str.contains("·", regex=False).any():
            continue
        bert = {row.seq_len: row.time for row in each(view) if row.base.startswith("bert ·") and row.time is not None}
        for row in sorted(each(view), key=lambda row: (row.seq_len, row.series)):
            count = row.record.parameters
            parameters: Cell = Amount(count, "count") if count else units.ABSENT
            memory: Cell = Amount(row.peak_bytes, "B") if row.peak_bytes == row.peak_bytes else units.ABSENT
            time: Cell = STATUS_WORDS.get(row.status, "not timed")
            multiple: Cell = units.ABSENT
            if row.time is not None:
                time = units.estimate(row.time, "s")
                multiple = _multiple(row.time, bert.get(row.seq_len))
            rows.append((facets, [Amount(row.seq_len, "tokens"), row.series, time, multiple, memory, parameters]))
    columns = ["Length", "Model", f"Time [{units.LEVEL_WORDS}]", "Multiple of BERT's time", "Peak memory", "Parameters"]
    return with_facets("", columns, rows)


def attention_share(view: pd.DataFrame) -> dict[str, dict[int, intervals.Estimate]]:
    """The share of each model's time that its attention has, by series and length: what is not taken with ``none``.

    Empty where the view has no model with ``none``. Models of another family are another model and have no share.
    """
    floor = {row.seq_len: row.time for row in each(view) if row.base == FLOOR and row.time is not None}
    own = view[~view["base"].str.contains("·", regex=False) & (view["base"] != FLOOR)]
    shares: dict[str, dict[int, intervals.Estimate]] = {}
    for series, line in times_by_length(own).items():
        for length, time in line.items():
            if length in floor:
                rest = intervals.ratio(floor[length], time)
                low, high = (None, None) if rest.low is None or rest.high is None else (1 - rest.high, 1 - rest.low)
                share = intervals.Estimate(1 - rest.value, low, high, rest.samples, 1 - rest.draws)
                shares.setdefault(series, {})[length] = share
    return shares


def shares(table: pd.DataFrame) -> Table:
    """Attention's share of the model's time, one row a series and length."""
    rows: list[tuple[Facets, list[Cell]]] = []
    for facets, view in views(table, "model").items():
        for series, line in sorted(attention_share(view).items()):
            for length, share in sorted(line.items()):
                rows.append((facets, [series, Amount(length, "tokens"), units.estimate(share, "fraction")]))
    return with_facets("", ["Attention", "Length", f"Share of the model's time [{units.LEVEL_WORDS}]"], rows)


def _multiple(time: intervals.Estimate, base: intervals.Estimate | None) -> Cell:
    if base is None:
        return "BERT has no time"
    if time is base:
        return Amount(1, "count")
    return units.estimate(intervals.ratio(time, base), "number")
