"""From which length is it faster than the reference? One line of time and memory over the length for each series."""

from collections.abc import Mapping, Sequence

from harness.report.model.amounts import Amount, format_length
from harness.report.model.facets import Facets
from harness.report.model.page_data import LinePoint, SeriesLine, Tie
from harness.report.model.records_table import ReportRow, by_series, times_by_length, undisturbed_first
from harness.report.questions.clear_order import (
    Times,
    clear_crossover,
    clear_lengths,
    order_word,
    partly_clear_words,
)
from harness.report.questions.reference_times import NO_ATTENTION, REFERENCES, is_same_kernel
from harness.report.questions.speed import crossover_length
from harness.statistics import growth

NO_CLEAR_ORDER = "no clear order"


def series_lines(facets: Facets, rows: Sequence[ReportRow], tie: Tie | None) -> list[SeriesLine]:
    """The lines of the series with a time, of rows with equal facets; the first of equal cases counts."""
    timed = by_series(row for row in rows if row.time is not None and row.base_series != NO_ATTENTION)
    times = times_by_length(rows)
    reference = _reference_series(timed)
    words = dict(facets)
    pass_ = words.pop("Pass")
    lines = []
    for series, cases in timed.items():
        comparison, crossing = "no exact attention was timed to compare with", None
        if reference is not None:
            comparison, crossing = _compared(series, reference, timed, times, tie)
        by_length: dict[int, ReportRow] = {}
        for row in undisturbed_first(cases):
            by_length.setdefault(row.seq_len, row)
        points = tuple(_point(by_length[length]) for length in sorted(by_length))
        lines.append(SeriesLine(words, pass_, series, cases[0].record.spec.attention, points, comparison, crossing))
    return lines


def _reference_series(timed: Mapping[str, Sequence[ReportRow]]) -> str | None:
    """The series that the others are compared with: of the exact ones, that of the page, or the one with most times."""
    exact = [series for series, cases in timed.items() if cases[0].exact]
    for name in REFERENCES:
        for series in exact:
            if timed[series][0].base_series == name:
                return series
    return max(exact, key=lambda series: len(timed[series]), default=None)


def _point(row: ReportRow) -> LinePoint:
    assert row.time is not None
    memory = None if row.peak_bytes is None else Amount(row.peak_bytes, "B")
    time = Amount.of_estimate(row.time, "s")
    return LinePoint(row.seq_len, format_length(row.seq_len), time, memory, row.disturbance is not None)


def _compared(
    series: str,
    reference: str,
    timed: Mapping[str, Sequence[ReportRow]],
    times: Mapping[str, Times],
    tie: Tie | None,
) -> tuple[str, Amount | None]:
    """The comparison of a series with the reference over all lengths in words, and the length where they cross."""
    if series == reference:
        return "the others are compared with it", None
    if is_same_kernel(timed[series][0], timed[reference][0]):
        return f"same kernel as {reference}", None
    own, others = times.get(series, {}), times.get(reference, {})
    if not set(own) & set(others):
        is_disturbed = any(row.disturbance for name in (series, reference) for row in timed[name])
        return f"no {'undisturbed ' if is_disturbed else ''}length in common with {reference}", None
    clear = clear_lengths(own, others, tie)
    if not clear:
        return f"no clear difference to {reference}", None
    crossover = clear_crossover(own, others, tie)
    if isinstance(crossover, growth.NoAnswer):
        (length,) = clear
        return f"{order_word(clear[length])} at {format_length(length)} tokens", None
    if crossover is None:
        return NO_CLEAR_ORDER, None
    if not crossover.crossings:
        always = f"always {order_word(next(iter(clear.values())))}"
        return partly_clear_words(crossover, clear) or always, None
    where = crossover_length(crossover)
    if isinstance(where, Amount):
        return f"{crossover.verdict} {where.words} tokens", where
    return f"{crossover.verdict} somewhere {where} tokens", None
