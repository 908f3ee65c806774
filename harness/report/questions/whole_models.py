"""How fast are whole models? Encoders of equal size side by side, and the share of a model's time that its attention
takes."""

from collections.abc import Sequence

from harness.report.model.amounts import ABSENT, LEVEL_WORDS, Amount
from harness.report.model.facets import Facets
from harness.report.model.figures import Figure, Styles, Trace, escape_text, estimate_traces, figure, length_axis
from harness.report.model.page_parts import Evidence, Plot, Section, build_section
from harness.report.model.records_table import STATUS_WORDS, ReportRow, by_facets, time_words, times_by_length
from harness.report.model.tables import Cell, Table, table_with_facets
from harness.statistics import intervals

NO_ATTENTION = "none"
"""The attention that mixes no tokens: a model with it takes the time of everything but attention."""


def model_section(evidence: Evidence) -> Section:
    """Models of equal size, compared with BERT."""
    return build_section(
        "rivals", "Models of equal size",
        "The bare encoder of each model, with the same layers, width, heads and vocabulary. Square brackets hold the "
        f"{LEVEL_WORDS} bootstrap interval.",
        [model_table(evidence.rows)],
    )  # fmt: skip


def model_table(rows: Sequence[ReportRow]) -> Table:
    """Bare encoders of equal size: every family and attention, with its time as a multiple of BERT's time."""
    cells: list[tuple[Facets, list[Cell]]] = []
    for facets, group in by_facets(rows, "model").items():
        if dict(facets)["Model"] != "encoder" or not any("·" in row.base_series for row in group):
            continue
        bert = {row.seq_len: row.time for row in group if row.base_series.startswith("bert ·") and row.time is not None}
        for row in sorted(group, key=lambda row: (row.seq_len, row.series)):
            count = row.record.parameters
            parameters: Cell = Amount(count, "count") if count else ABSENT
            memory: Cell = Amount(row.peak_bytes, "B") if row.peak_bytes is not None else ABSENT
            time: Cell = "not timed" if row.is_ok else STATUS_WORDS[row.status]
            multiple: Cell = ABSENT
            if row.time is not None:
                time = time_words(row, row.time)
                multiple = _multiple(row.time, bert.get(row.seq_len))
            cells.append((facets, [Amount(row.seq_len, "tokens"), row.series, time, multiple, memory, parameters]))
    columns = ["Length", "Model", f"Time [{LEVEL_WORDS}]", "Multiple of BERT's time", "Peak memory", "Parameters"]
    return table_with_facets("", columns, cells)


def _multiple(time: intervals.Estimate, base: intervals.Estimate | None) -> Cell:
    if base is None:
        return "BERT has no time"
    if time is base:
        return Amount(1, "count")
    return Amount.of_estimate(intervals.ratio(time, base), "number")


def share_section(evidence: Evidence) -> Section:
    """The share of a model's time that its attention takes."""
    return build_section(
        "share", "Attention's share of a model's time",
        "The part of the time that disappears when the attention is replaced by “none”, which mixes no tokens. It "
        "limits how much a faster attention can speed up the model.",
        [share_table(evidence.rows)],
    )  # fmt: skip


def attention_shares(rows: Sequence[ReportRow]) -> dict[str, dict[int, intervals.Estimate]]:
    """The share of each model's time that its attention takes, by series and length: 1 minus the time with ``none``
    over the time with the attention.

    Empty where no model ran with ``none``. A model of another family is a different model and has no share.
    """
    without_attention = {row.seq_len: row.time for row in rows if row.base_series == NO_ATTENTION and row.time}
    own_family = [row for row in rows if "·" not in row.base_series and row.base_series != NO_ATTENTION]
    shares: dict[str, dict[int, intervals.Estimate]] = {}
    for series, times in times_by_length(own_family).items():
        for length, time in times.items():
            if length in without_attention:
                rest = intervals.ratio(without_attention[length], time)
                low, high = (None, None) if rest.low is None or rest.high is None else (1 - rest.high, 1 - rest.low)
                share = intervals.Estimate(1 - rest.value, low, high, rest.samples, 1 - rest.draws)
                shares.setdefault(series, {})[length] = share
    return shares


def share_table(rows: Sequence[ReportRow]) -> Table:
    """Attention's share of the model's time, one row per series and length."""
    cells: list[tuple[Facets, list[Cell]]] = []
    for facets, group in by_facets(rows, "model").items():
        for series, shares in sorted(attention_shares(group).items()):
            for length, share in sorted(shares.items()):
                cells.append((facets, [series, Amount(length, "tokens"), Amount.of_estimate(share, "fraction")]))
    return table_with_facets("", ["Attention", "Length", f"Share of the model's time [{LEVEL_WORDS}]"], cells)


def share_plot(rows: Sequence[ReportRow], styles: Styles) -> Plot:
    """Attention's share of the model's time against length."""
    return Plot(
        "share", "Attention's share of the model's time", share_figure(rows, styles), [],
        "The share needs the time of a model without attention: no model ran with the attention “none”.",
    )  # fmt: skip


def share_figure(rows: Sequence[ReportRow], styles: Styles) -> Figure:
    """Attention's share of the model's time against length, with intervals."""
    data: list[Trace] = []
    for series, shares in sorted(attention_shares(rows).items()):
        lengths = sorted(shares)
        texts = [
            f"<b>{escape_text(series)}</b>, n = {length:,}"
            f"<br>attention takes {Amount.of_estimate(shares[length], 'fraction')} of the time"
            for length in lengths
        ]
        data += estimate_traces(series, styles, lengths, [shares[length] for length in lengths], texts)
    axis = {"title": {"text": "attention's share of the time"}, "tickformat": ".0%"}
    return figure(data, xaxis=length_axis([row.seq_len for row in rows]), yaxis=axis)


SECTIONS = {70: model_section, 80: share_section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
