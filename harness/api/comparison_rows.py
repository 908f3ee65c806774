"""The rows of a comparison's table: of each timed case its time, its ratio to the reference, its error, its memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from harness.core.escaping import one_line
from harness.core.matched_errors import reference_of
from harness.core.quantities import bytes_words, number_words
from harness.core.record import Record, Run
from harness.core.setting_error import SettingError, SettingErrors
from harness.core.spec import OperationSpec
from harness.report.model.amounts import ABSENT, Amount
from harness.report.model.page_data import Tie
from harness.report.model.records_table import STATUS_WORDS, ReportRow, report_rows
from harness.report.questions.reference_times import REFERENCES, RelativeTime, kernel_tie, reference_row, relative_time

_ORDER_WORDS = {"tied": "not clear", "unclear": "not clear", "same kernel": "same kernel", "no reference": ABSENT}
"""The cell of a ratio that is not shown."""
OWN_DEFINITION = "not compared"
"""The error of a function that nothing but itself defines."""
NOT_MEASURED = "not measured"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ComparisonRow:
    """One timed case.

    Attributes:
        report: the row of the report for it.
        reference: the attention that its time is compared with; None: no exact attention was timed there.
        relative: its time relative to that.
        tie: how far two times of one kernel differ in this pass; None: it was not measured.
        error: at its setting; None: there is none.
        against: what the error is relative to; None without an error.
        is_own_definition: nothing but the function itself says what is right.
        why_no_error: the reason why the case of its error failed; empty where it did not.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "attention", "n", "pass", "status", "seconds", "seconds_low", "seconds_high", "disturbed", "reference", "ratio",
        "error", "error_of", "error_against", "error_inputs", "peak_bytes", "reason",
    )  # fmt: skip

    report: ReportRow
    reference: str | None
    relative: RelativeTime
    tie: Tie | None
    error: SettingError | None
    against: str | None
    is_own_definition: bool
    why_no_error: str

    @property
    def record(self) -> Record:
        """The record of the case."""
        return self.report.record

    @property
    def name(self) -> str:
        """The attention, on one line."""
        return one_line(self.record.spec.attention)

    @property
    def seq_len(self) -> int:
        """The length in tokens."""
        return self.record.spec.seq_len

    @property
    def status(self) -> str:
        """The outcome in words."""
        return STATUS_WORDS[self.record.status]

    @property
    def is_disturbed(self) -> bool:
        """Whether other processes disturbed its time."""
        return self.report.disturbance is not None

    @property
    def time_words(self) -> str:
        """The median time with its interval, in one unit."""
        if self.report.time is None:
            return ABSENT
        time = Amount.of_estimate(self.report.time, "s")
        mark = "~" if self.is_disturbed else ""
        return " ".join(filter(None, [mark + time.words, time.interval]))

    @property
    def ratio_words(self) -> str:
        """The ratio to the reference's time where the difference is clear."""
        if self.report.time is None:
            return ABSENT
        if self.relative.order == "reference":
            return "1"
        if self.relative.ratio is not None:
            return number_words(self.relative.ratio.value)
        return _ORDER_WORDS.get(self.relative.order, ABSENT)

    @property
    def error_words(self) -> str:
        """The error at this setting."""
        if self.report.time is None:
            return ABSENT
        if self.error is not None:
            return str(self.error.cell)
        return OWN_DEFINITION if self.is_own_definition and not self.why_no_error else NOT_MEASURED

    @property
    def memory_words(self) -> str:
        """The peak memory of a call."""
        return ABSENT if self.report.peak_bytes is None else bytes_words(self.report.peak_bytes)

    def plain(self) -> Mapping[str, object]:
        """The values by column, in base units; None where a value was not measured."""
        spec, time = self.record.spec, self.report.time
        error = None if time is None else self.error  # no error without the time that it belongs to
        assert isinstance(spec, OperationSpec)
        shown = self.relative.ratio if self.relative.order != "reference" else Amount(1.0, "number")
        values = (
            spec.attention, spec.seq_len, spec.mode, self.record.status,
            None if time is None else time.value, None if time is None else time.low,
            None if time is None else time.high, None if time is None else self.is_disturbed,
            self.reference, None if shown is None or time is None else shown.value,
            None if error is None else error.value, None if error is None else error.tensor,
            None if error is None else self.against, None if error is None else error.inputs, self.report.peak_bytes,
            "; ".join(self.record.reasons) or None,
        )  # fmt: skip
        return dict(zip(self.COLUMNS, values, strict=True))


def comparison_rows(run: Run, own_definitions: frozenset[str], timed_again: bool) -> list[ComparisonRow]:
    """The rows of the timed cases of a run, by pass and length, in the order of the records within these.

    Args:
        run: the run of a comparison.
        own_definitions: the attentions whose verification says nothing about their error.
        timed_again: whether the reference was timed a second time. Where other processes disturbed that, no difference
            is clear.
    """
    errors = SettingErrors(run.records)
    failed = {
        (record.spec.attention, record.spec.seq_len): f"{STATUS_WORDS[record.status]}: {record.reasons[0]}"
        for record in run.records
        if record.spec.kind == "quality" and record.status != "ok"
    }
    references = {
        record.spec.attention: reference_of(record.quality) for record in run.records if record.quality is not None
    }
    groups: dict[str, list[ReportRow]] = {}
    for row in report_rows(run):
        if isinstance(row.record.spec, OperationSpec):
            groups.setdefault(row.record.spec.mode, []).append(row)
    rows = []
    for mode, group in groups.items():
        tie = kernel_tie(group, mode)
        for length in sorted({row.seq_len for row in group}):
            there = [row for row in group if row.seq_len == length]
            reference = reference_row([row for row in there if row.record.spec.attention in REFERENCES])
            for row in there:
                attention, error = row.record.spec.attention, errors.of(row.record)
                rows.append(
                    ComparisonRow(
                        report=row,
                        reference=None if reference is None else reference.record.spec.attention,
                        relative=_relative(row, reference, tie, there, timed_again),
                        tie=tie,
                        error=error,
                        against=None if error is None else _against(row.record, error, references),
                        is_own_definition=attention in own_definitions,
                        why_no_error=""
                        if error is not None or row.time is None
                        else failed.get((attention, length), ""),
                    )
                )
    return rows


def _relative(
    row: ReportRow, reference: ReportRow | None, tie: Tie | None, there: list[ReportRow], timed_again: bool
) -> RelativeTime:
    relative = relative_time(row, reference, tie, there)
    if timed_again and tie is None and relative.order in ("faster", "slower"):
        return RelativeTime("unclear", "the second time of the reference was disturbed by other processes", None)
    return relative


def _against(record: Record, error: SettingError, references: Mapping[str, str]) -> str:
    """What the error of a timed case is relative to: the attention that it estimates, or its definition."""
    if record.is_exact_softmax:
        return "softmax"
    return "its own definition" if error.own_definition else references.get(record.spec.attention, UNKNOWN)
