"""What changed between runs? The same cases before and after a change, or on two machines."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from harness.core.quantities import number_words
from harness.core.record import Record
from harness.report.model.amounts import ABSENT, LEVEL_WORDS, Amount, Sentence, compose, counted, join
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
from harness.report.model.page_data import Tie
from harness.report.model.page_parts import Evidence, FacetView, Panel, Plot, Section, build_panel, build_section
from harness.report.model.records_table import (
    STATUS_WORDS,
    ReportRow,
    by_facets,
    machine_name,
    time_words,
    undisturbed_first,
)
from harness.report.model.tables import Cell, Table
from harness.report.questions.reference_times import is_clear, kernel_tie
from harness.report.questions.setting_errors import SettingErrors, error_cell
from harness.statistics import intervals

MAX_TABLE_ROWS = 200
"""The table lists at most this many differences, the largest first; the plot and the CSV file have all."""


@dataclass(frozen=True)
class CasePair:
    """One case in two runs.

    Attributes:
        ratio: the later time over the first; None where either run has no time, a time was disturbed, or the clocks
            differ.
        tie: the difference below which two times are tied, the larger of the two runs'.
    """

    before: ReportRow
    after: ReportRow
    ratio: intervals.Estimate | None
    tie: Tie | None = None

    @property
    def is_timed(self) -> bool:
        """Whether both runs have a time."""
        return self.before.time is not None and self.after.time is not None

    @property
    def is_disturbed(self) -> bool:
        """Whether other processes disturbed one of the times."""
        return self.before.disturbance is not None or self.after.disturbance is not None

    @property
    def is_clear(self) -> bool:
        """Whether the two times can be compared and differ clearly."""
        if self.ratio is None or self.before.time is None or self.after.time is None:
            return False
        return is_clear(self.after.time, self.before.time, self.tie)


def case_pairs(rows: Sequence[ReportRow], later: int) -> list[CasePair]:
    """The cases that run 0 and run ``later`` have in common, ignoring the name of the device. Of several records of
    one case the first undisturbed one counts."""
    first, second = (_by_case([row for row in rows if row.run == run]) for run in (0, later))
    ties = _ties([row for row in rows if row.run in (0, later)])
    pairs = []
    for case, row in second.items():
        before = first.get(case)
        if before is not None:
            ratio = None
            is_disturbed = before.disturbance is not None or row.disturbance is not None
            if before.time is not None and row.time is not None and before.clock == row.clock and not is_disturbed:
                ratio = intervals.ratio(row.time, before.time)
            found = [tie for each in (before, row) if (tie := ties.get(each.facets)) is not None]
            pairs.append(CasePair(before, row, ratio, max(found, key=lambda tie: tie.factor.value, default=None)))
    return pairs


def _by_case(rows: Sequence[ReportRow]) -> dict[str, ReportRow]:
    """One row of each case, in the order of the rows."""
    chosen: dict[str, ReportRow] = {}
    for row in undisturbed_first(rows):
        chosen.setdefault(_case_without_device(row.record), row)
    found: dict[str, ReportRow] = {}
    for row in rows:
        case = _case_without_device(row.record)
        found.setdefault(case, chosen.get(case, row))
    return found


def _ties(rows: Sequence[ReportRow]) -> dict[Facets, Tie | None]:
    return {
        facets: kernel_tie(group, dict(facets)["Pass"])
        for level in ("operation", "model")
        for facets, group in by_facets(rows, level).items()
    }


def _case_without_device(record: Record) -> str:
    return record.case_id.replace(f"-{record.spec.device}", "")


def sentences(evidence: Evidence) -> list[Sentence]:
    """How many cases differ from the first run, and whether the machines differ: one sentence per later run."""
    summaries = []
    for later, label in _later_runs(evidence):
        timed = [pair for pair in case_pairs(evidence.rows, later) if pair.is_timed]
        other_machine = machine_name(evidence.runs[later]) != machine_name(evidence.runs[0])
        words = "; the machines differ, so a difference is not due to the code alone" if other_machine else ""
        differing = _counted(timed) if timed else Sentence("no case was timed in both")
        summaries.append(compose("{} compared with the first run: {}{}.", label, differing, words))
    return summaries


def _counted(timed: Sequence[CasePair]) -> Sentence:
    """How many of the cases with two times are faster and slower, and how many cannot be compared."""
    compared = [pair.ratio.value for pair in timed if pair.ratio is not None and pair.is_clear]
    faster = sum(ratio < 1 for ratio in compared)
    disturbed = sum(pair.is_disturbed for pair in timed)
    other_clock = sum(pair.ratio is None and not pair.is_disturbed for pair in timed)
    once = sum(pair.ratio is not None and pair.ratio.low is None for pair in timed)
    reasons = (
        (disturbed, "{} is", "{} are", "not compared, because other processes disturbed a time"),
        (other_clock, "{} is", "{} are", "not compared, because one run has device time and the other wall time"),
        (once, "{} has", "{} have", "no verdict, because a time was taken only once"),
    )
    parts = [compose("{} {}", counted(count, one, many), words) for count, one, many, words in reasons if count]
    if len(timed) > disturbed + other_clock + once:
        counts = counted(faster, "{} is", "{} are"), Amount(len(compared) - faster, "count")
        parts.insert(0, compose("{} clearly faster and {} clearly slower", *counts))
    cases = counted(len(timed), "{} case", "{} cases")
    return compose("of {} timed in both, {}", cases, join(parts, "; "))


def section(evidence: Evidence) -> Section:
    """The clear differences from the first run, and the ratio of times."""
    return build_section(
        "differences", "Runs compared", join(sentences(evidence), " "),
        f"Times of the same cases as a multiple of the first run's time. The tables list cases whose two {LEVEL_WORDS} "
        "intervals do not overlap. An interval within one process does not know what differs between two processes; "
        "where one kernel was timed under two names, smaller differences than between these are not listed either.",
        difference_tables(evidence), difference_panel(evidence),
    )  # fmt: skip


def difference_tables(evidence: Evidence) -> list[Table]:
    """Clear differences in time and cases whose status changed, one table per later run."""
    tables = []
    errors = SettingErrors(evidence.rows)
    for later, label in _later_runs(evidence):
        pairs = case_pairs(evidence.rows, later)
        clear = [(pair, pair.ratio) for pair in pairs if pair.is_clear and pair.ratio is not None]
        clear.sort(key=lambda item: -abs(log(item[1].value)))
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
        for pair, ratio in clear[:MAX_TABLE_ROWS]:
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
                plot = Plot("ratio", title, ratios, _left_out(pairs), "No case was timed in both runs.")
                lengths = sorted({pair.after.seq_len for pair in pairs})
                views.append(FacetView({"Compared": label, **dict(facets)}, lengths, [plot]))
    return build_panel("difference", views)


def _left_out(pairs: Sequence[CasePair]) -> list[Sentence]:
    disturbed = sum(pair.is_timed and pair.is_disturbed for pair in pairs)
    words = "Not drawn, because other processes disturbed a time: {}."
    return [compose(words, Amount(disturbed, "count"))] if disturbed else []


def ratio_figure(pairs: Sequence[CasePair], styles: Styles) -> Figure:
    """The time of the later run over the time of the first, against length; below 1 the later run is faster."""
    by_series: dict[str, list[tuple[CasePair, intervals.Estimate]]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.after.seq_len):
        if pair.ratio is not None:
            by_series.setdefault(pair.after.series, []).append((pair, pair.ratio))
    data: list[Trace] = []
    for series, cases in sorted(by_series.items()):
        texts = [
            hover_text(
                pair.after,
                f"{Amount.of_estimate(ratio, 'number')} times the first run's time"
                + ("" if pair.is_clear else "<br>no clear difference"),
            )
            for pair, ratio in cases
        ]
        lengths, ratios = [pair.after.seq_len for pair, _ in cases], [ratio for _, ratio in cases]
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
