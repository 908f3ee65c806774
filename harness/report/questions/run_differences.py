"""What changed between runs? The same cases before and after a change, or on two machines."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from harness.core.quantities import number_words
from harness.core.record import Record
from harness.report.model.amounts import ABSENT, LEVEL_WORDS, Amount, Sentence, compose, join
from harness.report.model.facets import Facets
from harness.report.model.figures import (
    REFERENCE_COLOR,
    Figure,
    Styles,
    Trace,
    estimate_traces,
    figure,
    hover_text,
    length_axis,
    log_axis,
)
from harness.report.model.page_parts import Evidence, FacetView, Panel, Plot, Section, build_panel, build_section
from harness.report.model.records_table import STATUS_WORDS, ReportRow, machine_name, time_words
from harness.report.model.tables import Cell, Table
from harness.report.questions.setting_errors import SettingErrors, error_cell
from harness.statistics import intervals

MAX_TABLE_ROWS = 200
"""The table lists at most this many differences, the largest first; the plot and the CSV file have all."""


@dataclass(frozen=True)
class CasePair:
    """One case in two runs. ``ratio`` is the later time over the first, None where either run has no time, a time was
    disturbed, or the clocks differ."""

    before: ReportRow
    after: ReportRow
    ratio: intervals.Estimate | None

    @property
    def is_significant(self) -> bool:
        """Whether the interval of the ratio excludes 1."""
        ratio = self.ratio
        return (
            ratio is not None and ratio.low is not None and ratio.high is not None and not ratio.low <= 1 <= ratio.high
        )


def case_pairs(rows: Sequence[ReportRow], later: int) -> list[CasePair]:
    """The cases that run 0 and run ``later`` have in common, ignoring the name of the device."""
    first = {_case_without_device(row.record): row for row in rows if row.run == 0}
    pairs = []
    for row in rows:
        before = first.get(_case_without_device(row.record)) if row.run == later else None
        if before is not None:
            ratio = None
            is_disturbed = before.disturbance is not None or row.disturbance is not None
            if before.time is not None and row.time is not None and before.clock == row.clock and not is_disturbed:
                ratio = intervals.ratio(row.time, before.time)
            pairs.append(CasePair(before, row, ratio))
    return pairs


def _case_without_device(record: Record) -> str:
    return record.case_id.replace(f"-{record.spec.device}", "")


def sentences(evidence: Evidence) -> list[Sentence]:
    """How many cases differ from the first run, and whether the machines differ: one sentence per later run."""
    summaries = []
    for later, label in _later_runs(evidence):
        timed = [(pair, pair.ratio) for pair in case_pairs(evidence.rows, later) if pair.ratio is not None]
        significant = [ratio for pair, ratio in timed if pair.is_significant]
        faster = sum(ratio.value < 1 for ratio in significant)
        other_machine = machine_name(evidence.runs[later]) != machine_name(evidence.runs[0])
        summaries.append(
            compose(
                "{} compared with the first run: of {} cases timed in both, {} are significantly faster and {} "
                "significantly slower{}.",
                label, Amount(len(timed), "count"), Amount(faster, "count"), Amount(len(significant) - faster, "count"),
                "; the machines differ, so a difference is not due to the code alone" if other_machine else "",
            )
        )  # fmt: skip
    return summaries


def section(evidence: Evidence) -> Section:
    """The significant differences from the first run, and the ratio of times."""
    return build_section(
        "differences", "Runs compared", join(sentences(evidence), " "),
        f"Times of the same cases as a multiple of the first run's time. The tables list ratios whose {LEVEL_WORDS} "
        "interval excludes 1; without any change about one case in twenty would be listed by chance.",
        difference_tables(evidence), difference_panel(evidence),
    )  # fmt: skip


def difference_tables(evidence: Evidence) -> list[Table]:
    """Significant differences in time and cases whose status changed, one table per later run."""
    tables = []
    errors = SettingErrors(evidence.rows)
    for later, label in _later_runs(evidence):
        pairs = case_pairs(evidence.rows, later)
        significant = [(pair, pair.ratio) for pair in pairs if pair.is_significant and pair.ratio is not None]
        significant.sort(key=lambda item: -abs(log(item[1].value)))
        rows: list[list[Cell]] = [
            [
                pair.after.case_id,
                STATUS_WORDS[pair.before.status],
                STATUS_WORDS[pair.after.status],
                ABSENT,
                error_cell(pair.after, errors),
                ABSENT,
            ]
            for pair in pairs
            if pair.before.status != pair.after.status
        ]
        for pair, ratio in significant[:MAX_TABLE_ROWS]:
            before, after = (time_words(row, row.time) if row.time is not None else ABSENT
                             for row in (pair.before, pair.after))  # fmt: skip
            memory: Cell = ABSENT
            if pair.before.peak_bytes and pair.after.peak_bytes is not None:
                memory = Amount(pair.after.peak_bytes / pair.before.peak_bytes, "number")
            multiple, error = Amount.of_estimate(ratio, "number"), error_cell(pair.after, errors)
            rows.append([pair.after.case_id, before, after, multiple, error, memory])
        columns = [
            "Case",
            "First run",
            "This run",
            f"Time, as a multiple [{LEVEL_WORDS}]",
            "Error in this run",
            "Memory, as a multiple",
        ]
        tables.append(Table(label, columns, rows))
    return tables


def difference_panel(evidence: Evidence) -> Panel:
    """The time of each later run as a multiple of the first run's time."""
    views = []
    for later, label in _later_runs(evidence):
        by_setting: dict[Facets, list[CasePair]] = {}
        for pair in case_pairs(evidence.rows, later):
            facets = tuple(facet for facet in pair.after.facets if facet[0] not in {"Run", "Device"})
            by_setting.setdefault((("Level", pair.after.kind), *facets), []).append(pair)
        for facets, pairs in by_setting.items():
            if any(pair.ratio is not None for pair in pairs):
                title = f"{label}: time as a multiple of the first run's"
                ratios = ratio_figure(pairs, evidence.styles)
                plot = Plot("ratio", title, ratios, [], "No case was timed in both runs.")
                lengths = sorted({pair.after.seq_len for pair in pairs})
                views.append(FacetView({"Compared": label, **dict(facets)}, lengths, [plot]))
    return build_panel("difference", views)


def ratio_figure(pairs: Sequence[CasePair], styles: Styles) -> Figure:
    """The time of the later run over the time of the first, against length; below 1 the later run is faster."""
    by_series: dict[str, list[tuple[ReportRow, intervals.Estimate]]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.after.seq_len):
        if pair.ratio is not None:
            by_series.setdefault(pair.after.series, []).append((pair.after, pair.ratio))
    data: list[Trace] = []
    for series, cases in sorted(by_series.items()):
        texts = [
            hover_text(row, f"{Amount.of_estimate(ratio, 'number')} times the first run's time") for row, ratio in cases
        ]
        lengths, ratios = [row.seq_len for row, _ in cases], [ratio for _, ratio in cases]
        data += estimate_traces(series, styles, lengths, ratios, texts)
    values = [pair.ratio.value for pair in pairs if pair.ratio is not None]
    axis = log_axis("time, as a multiple of the first run's", values, number_words, 10)
    even = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1,
            "line": {"dash": "dash", "width": 1.5, "color": REFERENCE_COLOR}}  # fmt: skip
    return figure(data, xaxis=length_axis([pair.after.seq_len for pair in pairs]), yaxis=axis, shapes=[even])


def _later_runs(evidence: Evidence) -> list[tuple[int, str]]:
    return list(enumerate(evidence.labels))[1:]


SECTIONS = {10: section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
