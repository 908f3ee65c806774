"""What limits the speed? Device time and host time, and each case's fraction of the bound that the measured ceilings of
its device allow."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from harness.core.quantities import number_words, share_words
from harness.core.record import Ceiling, Record, Run, Timing
from harness.report.model.amounts import (
    ABSENT,
    LEVEL_WORDS,
    Amount,
    Sentence,
    compose,
    counted,
    format_byte_rate,
    format_operation_rate,
    join,
)
from harness.report.model.facets import Facets
from harness.report.model.figures import (
    REFERENCE_COLOR,
    Figure,
    Styles,
    Trace,
    escape_text,
    figure,
    hover_text,
    line_trace,
    log_axis,
)
from harness.report.model.page_parts import Evidence, FacetView, Panel, Plot, Section, build_panel, build_section
from harness.report.model.records_table import (
    NO_ATTENTION,
    YOSO_SAMPLING,
    ReportRow,
    by_facets,
    by_series,
    sequence_lengths,
    series_with_batch,
    time_words,
)
from harness.report.model.tables import Cell, Table, table_with_facets
from harness.report.questions.reference_times import is_clear, kernel_tie
from harness.report.questions.setting_errors import SettingErrors, error_cell
from harness.statistics.intervals import Estimate, bootstrap_median

LAUNCH_BOUND = "launch-bound"
_DISTURBED = "disturbed"
_WHOLE_BOUND = Amount(1.0, "fraction", text="100%")
_TOO_LOW = "is too low for the case (caches, or a higher clock)"


@dataclass(frozen=True)
class TimeBound:
    """The least time that a case could take, and the ceiling that limits it."""

    seconds: float
    ceiling: str


def ceiling_rate(ceiling: Ceiling) -> float:
    """Bytes or operations per second, from the median sample."""
    return ceiling.amount / median(ceiling.seconds)


def time_bound(record: Record, ceilings: Sequence[Ceiling]) -> TimeBound | None:
    """The bound of a case; None where its work was not counted or no measured ceiling of its device limits it."""
    rates = {
        ceiling.name: ceiling_rate(ceiling)
        for ceiling in ceilings
        if ceiling.seconds and ceiling.device == record.spec.device
    }
    bounds = [TimeBound(amount / rates[name], name) for name, amount in (record.work or {}).items() if name in rates]
    return max(bounds, key=lambda bound: bound.seconds, default=None)


def launch_limit(timing: Timing) -> str:
    """Whether the device waits for the host, because submitting a call takes longer than running it, in words: empty
    where it does not, or nothing is known."""
    if timing.device_seconds is None or timing.submit_seconds is None:
        return ""
    if timing.disturbed:
        return _DISTURBED
    rng = np.random.default_rng(0)
    device, submission = (bootstrap_median(each, rng) for each in (timing.device_seconds, timing.submit_seconds))
    if not is_clear(submission, device, None):
        return "not clear"
    return LAUNCH_BOUND if submission.value > device.value else ""


def bound_fraction(bound: TimeBound, time: Estimate) -> Amount:
    """The bound divided by the time, with the interval that the time gives it."""
    low, high = (None, None) if time.low is None or time.high is None else (time.low, time.high)
    return Amount(
        bound.seconds / time.value,
        "fraction",
        None if high is None else bound.seconds / high,
        None if low is None else bound.seconds / low,
    )


def device_section(evidence: Evidence) -> Section:
    """Device time, wall time and the host's time."""
    return build_section(
        "device", "Device and host time", device_finding(evidence.rows),
        "Device time is the GPU's own time, with cold caches and rotating inputs; wall time lasts until the end of a "
        "synchronization. Where the host takes longer to submit a call than the device takes to run it, the case is "
        "launch-bound: the device waits for the host. It is not clear where the intervals of the two overlap.",
        device_and_host(evidence.rows),
    )  # fmt: skip


def device_finding(rows: Sequence[ReportRow]) -> Sentence | None:
    """How many cases are launch-bound."""
    limits = [
        launch_limit(timing)
        for row in rows
        if row.kind in ("operation", "model") and (timing := row.record.timing) and timing.device_seconds is not None
    ]
    if not limits:
        return None
    others = [
        compose("; {} {}", Amount(limits.count(limit), "count"), limit)
        for limit in ("not clear", _DISTURBED)
        if limit in limits
    ]
    return compose(
        "{} of {} launch-bound: the device waits for the host{}.",
        Amount(limits.count(LAUNCH_BOUND), "count"), counted(len(limits), "{} case is", "{} cases are"),
        join(others, ""),
    )  # fmt: skip


def device_and_host(rows: Sequence[ReportRow]) -> list[Table]:
    """Whole calls of operations and models with their device time, wall time and submission time."""
    tables = []
    errors = SettingErrors(rows)
    for level in ("operation", "model"):
        cells: list[tuple[Facets, list[Cell]]] = []
        for facets, group in by_facets(rows, level).items():
            for row in sorted(group, key=lambda row: (row.series, row.seq_len)):
                timing = row.record.timing
                if timing is None or timing.device_seconds is None:
                    continue
                device, wall = (
                    Amount(median(samples), "s") for samples in (timing.device_seconds, timing.wall_seconds)
                )
                submission: Cell = ABSENT
                if timing.submit_seconds is not None:
                    submission = Amount(median(timing.submit_seconds), "s")
                verdict, length = launch_limit(timing), Amount(row.seq_len, "tokens")
                cells.append(
                    (
                        facets,
                        [series_with_batch(row), length, device, wall, error_cell(row, errors), submission, verdict],
                    )
                )
        columns = ["Attention", "Length", "Device time", "Wall time", "Error", "Submission by the host", "Limit"]
        tables.append(table_with_facets(level.capitalize(), columns, cells))
    return [table for table in tables if table.rows]


def bound_section(evidence: Evidence) -> Section:
    """The roofline, each case's fraction of its bound, and the measured ceilings."""
    rows, runs = evidence.rows, evidence.runs
    return build_section(
        "bounds", "Roofline", bound_finding(rows, runs),
        "The bound is the least time that the definition needs (inputs read once, outputs written once, every product "
        "computed) at the ceilings measured on this device. The fraction is the bound divided by the time; its "
        f"interval is that of the time. Where a case is faster than its bound, the measured ceiling {_TOO_LOW}, and "
        "the fraction says nothing about it.",
        [bound_fractions(rows, runs), ceiling_table(runs, evidence.labels)],
        roofline_panel(rows, runs, evidence.styles),
    )  # fmt: skip


def bound_finding(rows: Sequence[ReportRow], runs: Sequence[Run]) -> Sentence | None:
    """The attention that comes nearest to its bound at the longest length of the setting with the most results, what is
    tied with it, and YOSO; and what was faster than its bound, which is therefore nearest to no bound."""
    disturbed = False
    for facets, group in by_facets(rows, "operation").items():
        bounded = [(row, row.time, bound) for row in group if row.time is not None and row.base_series != NO_ATTENTION
                   if (bound := time_bound(row.record, runs[row.run].ceilings)) is not None]  # fmt: skip
        disturbed |= any(row.disturbance is not None for row, *_ in bounded)
        fractions = [
            (row, bound_fraction(bound, time), bound) for row, time, bound in bounded if row.disturbance is None
        ]
        if not fractions:
            continue
        longest = max(row.seq_len for row, *_ in fractions)
        at_longest = sorted(
            (each for each in fractions if each[0].seq_len == longest),
            key=lambda each: (-each[1].value, each[0].series),
        )
        where = Amount(longest, "tokens"), dict(facets)["Pass"]
        ranked = [each for each in at_longest if not _is_above_bound(each[1])]
        above = [compose("{} {}", row.series, fraction) for row, fraction, _ in at_longest if _is_above_bound(fraction)]
        too_low = compose("above {} the measured ceiling {}", _WHOLE_BOUND, _TOO_LOW)
        if not ranked:
            return compose("None is below its bound at {} tokens, {} ({}): {}.", *where, join(above), too_low)
        first, tie = ranked[0], kernel_tie(group, dict(facets)["Pass"])
        tied = [row.series for row, fraction, _ in ranked[1:] if not is_clear(first[1], fraction, tie)]
        named = [first, *(each for each in ranked[1:] if each[0].series == YOSO_SAMPLING)]
        parts = [compose("{} at {} of its bound by {}", row.series, fraction, bound.ceiling)
                 for row, fraction, bound in named]  # fmt: skip
        if tied:
            parts[0] = compose("{} (no clear difference from {})", parts[0], ", ".join(tied))
        if above:
            parts.append(compose("left out: {}, because {}", join(above), too_low))
        return compose("Nearest to the bound at {} tokens, {}: {}.", *where, join(parts, "; "))
    measured = sum(bool(ceiling.seconds) for run in runs for ceiling in run.ceilings)
    why = "other processes disturbed the time of every case with a bound" if disturbed else "no timed case has a bound"
    return compose("{} measured, and {}.", counted(measured, "{} ceiling was", "{} ceilings were"), why)


def _is_above_bound(fraction: Amount) -> bool:
    """Whether a case was faster than its bound, which is then no bound: the fraction says nothing about the case."""
    return fraction.value > _WHOLE_BOUND.value


def bound_fractions(rows: Sequence[ReportRow], runs: Sequence[Run]) -> Table:
    """Operations whose bound is known; empty where no run measured a ceiling."""
    cells: list[tuple[Facets, list[Cell]]] = []
    errors = SettingErrors(rows)
    for facets, group in by_facets(rows, "operation").items():
        for row in sorted(group, key=lambda row: (row.series, row.seq_len)):
            bound = time_bound(row.record, runs[row.run].ceilings)
            if bound is None or row.time is None:
                continue
            time, seconds = time_words(row, row.time), Amount(bound.seconds, "s")
            fraction: Cell = _DISTURBED if row.disturbance is not None else _fraction_cell(bound, row.time)
            length = Amount(row.seq_len, "tokens")
            cells.append(
                (facets, [row.series, length, time, error_cell(row, errors), seconds, bound.ceiling, fraction])
            )
    columns = ["Attention", "Length", f"Time [{LEVEL_WORDS}]", "Error", "Bound", "Limited by", "Fraction of bound"]
    return table_with_facets("", columns, cells)


def _fraction_cell(bound: TimeBound, time: Estimate) -> Cell:
    fraction = bound_fraction(bound, time)
    return compose("{} (ceiling too low)", fraction) if _is_above_bound(fraction) else fraction


def ceiling_table(runs: Sequence[Run], run_labels: Sequence[str]) -> Table:
    """Each measured ceiling, or why it is missing."""
    cells: list[tuple[Facets, list[Cell]]] = []
    for run, label in zip(runs, run_labels, strict=True):
        for ceiling in run.ceilings:
            rate: Cell = f"not measured: {ceiling.reason}"
            if ceiling.seconds:
                rate = Amount(ceiling_rate(ceiling), "B/s" if ceiling.unit == "byte" else "op/s")
            facets: Facets = (("Run", label),) if len(runs) > 1 else ()
            cells.append((facets, [ceiling.name, ceiling.device, rate]))
    return table_with_facets("Measured ceilings", ["Ceiling", "Device", "Rate"], cells)


def roofline_panel(rows: Sequence[ReportRow], runs: Sequence[Run], styles: Styles) -> Panel:
    """Operations under the measured ceilings of their device."""
    views = []
    for facets, group in by_facets(rows, "operation").items():
        roofline = roofline_figure(group, runs[group[0].run].ceilings, styles)
        if roofline is not None:
            title = "Operations per second against operations per byte, under the measured ceilings"
            plot = Plot("roofline", title, roofline, _disturbed_remarks(group), "The work of no case was counted.")
            views.append(FacetView(dict(facets), sequence_lengths(group), [plot]))
    return build_panel("roofline", views)


def _disturbed_remarks(rows: Sequence[ReportRow]) -> list[Sentence]:
    disturbed = sum(
        row.time is not None and row.disturbance is not None and counted_work(row.record) is not None for row in rows
    )
    if not disturbed:
        return []
    return [compose("Not drawn, because other processes disturbed the time: {}.", Amount(disturbed, "count"))]


def counted_work(record: Record) -> tuple[float, float] | None:
    """Floating-point operations and bytes through memory that a call must do at least; None where not counted."""
    work = record.work or {}
    operations = sum(amount for name, amount in work.items() if name.startswith(("matmul", "vector")))
    moved = work.get("copy", 0.0)
    return (operations, moved) if operations > 0 and moved > 0 else None


def roofline_figure(rows: Sequence[ReportRow], ceilings: Sequence[Ceiling], styles: Styles) -> Figure | None:
    """Operations per second against operations per byte, of cases with equal facets whose time was not disturbed.

    None where no work of such a case was counted or no ceiling was measured.
    """
    data: list[Trace] = []
    devices = {row.record.spec.device for row in rows}
    dtypes: set[str] = {row.record.spec.dtype for row in rows}
    roofs = [
        ceiling
        for ceiling in ceilings
        if ceiling.seconds and ceiling.device in devices and _limits(ceiling.name, dtypes)
    ]
    intensities: list[float] = []
    for series, cases in by_series(rows).items():
        x, y, texts, lengths = [], [], [], []
        for row in cases:
            work = counted_work(row.record)
            if work is None or row.time is None or row.disturbance is not None:
                continue
            operations, moved = work
            x.append(operations / moved)
            y.append(operations / row.time.value)
            lengths.append(row.seq_len)
            bound = time_bound(row.record, ceilings)
            of_bound = ""
            if bound:
                of_bound = f"<br>{share_words(bound.seconds / row.time.value)} of the bound by {bound.ceiling}"
            words = f"{format_operation_rate(y[-1])} at {number_words(x[-1])} operations per byte{of_bound}"
            texts.append(hover_text(row, words))
        if x:
            data.append(line_trace(series, styles, x, y, texts, lengths))
            intensities += x
    if not data or not roofs:
        return None
    left, right = min(intensities) / 2, max(intensities) * 2
    speeds = [value for trace in data for value in trace["y"]]
    for roof in roofs:
        height = [ceiling_rate(roof) * (x if roof.unit == "byte" else 1) for x in (left, right)]
        speeds += height
        words_of_rate = format_byte_rate if roof.unit == "byte" else format_operation_rate
        data.append(
            {"type": "scatter", "mode": "lines", "x": [left, right], "y": height, "meta": {"series": None},
             "line": {"color": REFERENCE_COLOR, "dash": "dash", "width": 1.5}, "hoverinfo": "text", "name": roof.name,
             "hovertext": [f"{escape_text(roof.name)}: {words_of_rate(ceiling_rate(roof))}"] * 2}
        )  # fmt: skip
    return figure(
        data, xaxis=log_axis("operations per byte", intensities, number_words, 10),
        yaxis=log_axis("operations per second", speeds, format_operation_rate, 10),
    )  # fmt: skip


def _limits(ceiling_name: str, dtypes: set[str]) -> bool:
    """Whether a ceiling can limit computation in these dtypes."""
    return ceiling_name in {"copy", "vector float32", *(f"matmul {dtype}" for dtype in dtypes)}


SECTIONS = {100: device_section, 110: bound_section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
