"""What was verified, what failed and why, and which settings a run had."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from harness.core.record import Check, Record, Run, Status
from harness.core.spec import ModelSpec, QualitySpec, TaskSpec
from harness.report.model.amounts import Amount, Sentence, compose, format_number, join
from harness.report.model.facets import Facets, describe_inputs
from harness.report.model.page_parts import Evidence, Section, build_section
from harness.report.model.records_table import STATUS_WORDS, ReportRow
from harness.report.model.tables import Cell, Table, table_with_facets

_MAX_LISTED_VALUES = 12
"""A setting with more distinct numbers is written as a range."""


@dataclass(frozen=True)
class FailureGroup:
    """Cases of one attention that failed with the same status and reasons."""

    status: str
    attention: str
    reasons: tuple[str, ...]
    cases: list[str]

    @property
    def count(self) -> Amount:
        """The number of cases."""
        return Amount(len(self.cases), "count")

    def as_json(self) -> dict[str, Any]:
        """The attention and the number of cases; the ids of the cases are in the records."""
        return {"attention": self.attention, "cases": self.count.as_json()}


def verification_table(run: Run) -> Table:
    """The check of each attention with the largest error relative to the allowed error."""
    worst: dict[str, tuple[float, Check]] = {}
    checks: dict[str, int] = {}
    failed: dict[str, int] = {}
    for record in run.records:
        for check in record.checks:
            name, ratio = record.spec.attention, _ratio_to_allowed(check)
            checks[name] = checks.get(name, 0) + 1
            failed[name] = failed.get(name, 0) + (not check.passed)
            if name not in worst or ratio > worst[name][0]:
                worst[name] = (ratio, check)
    rows: list[list[Cell]] = [
        [
            name,
            check.what,
            Amount(check.error, "number") if check.error is not None else "not finite",
            Amount(check.allowed, "number"),
            Amount(ratio, "number") if isfinite(ratio) else format_number(ratio),
            Amount(checks[name], "count"),
            Amount(failed[name], "count"),
        ]
        for name, (ratio, check) in sorted(worst.items())
    ]
    return Table("", ["Attention", "Worst check", "Error", "Allowed", "Error / allowed", "Checks", "Failed"], rows)


def _ratio_to_allowed(check: Check) -> float:
    if check.error is None:
        return inf
    if check.allowed == 0:
        return inf if check.error > 0 else 0.0
    return check.error / check.allowed


def unverified_section(evidence: Evidence) -> Section:
    """What the records say that no check covers."""
    cells: list[tuple[Facets, list[Cell]]] = []
    for run, label in zip(evidence.runs, evidence.labels, strict=True):
        facets: Facets = (("Run", label),) if len(evidence.runs) > 1 else ()
        cases = Counter((record.spec.attention, what) for record in run.records for what in record.unverified)
        cells += [
            (facets, [attention, what, Amount(count, "count")]) for (attention, what), count in sorted(cases.items())
        ]
    return build_section(
        "unverified", "What was not verified",
        "Parts of cases that no check covers, and why. Everything else was compared with the attention's oracle.",
        [table_with_facets("", ["Attention", "Not verified", "Cases"], cells)],
    )  # fmt: skip


def failure_groups(rows: Sequence[ReportRow]) -> list[FailureGroup]:
    """Every case without a result, grouped by attention, status and reasons; the worst status first."""
    cases: dict[tuple[Status, str, tuple[str, ...]], list[str]] = {}
    for row in rows:
        if not row.is_ok:
            cases.setdefault((row.status, row.base_series, tuple(row.record.reasons)), []).append(row.case_id)
    worst_first = list(STATUS_WORDS)[::-1]
    keys = sorted(cases, key=lambda key: (worst_first.index(key[0]), key[1]))
    return [FailureGroup(STATUS_WORDS[key[0]], key[1], key[2], cases[key]) for key in keys]


def run_settings(run: Run) -> list[tuple[str, Sentence]]:
    """The settings of a run by name, each with all its values."""
    specs = [record.spec for record in run.records]
    timings = [record.timing for record in run.records if record.timing is not None]
    values: dict[str, list[int | str]] = {
        "dtype": [spec.dtype for spec in specs],
        "device": [spec.device for spec in specs],
        "sequence length": [spec.seq_len for spec in specs],
        "batch": [_batch(record) for record in run.records],
        "heads": [spec.heads for spec in specs],
        "seed": [spec.seed for spec in specs],
        "training seeds": [spec.seeds for spec in specs if isinstance(spec, TaskSpec)],
        "threads": [timing.threads for timing in timings if timing.threads is not None],
        "inputs of error measurements": [describe_inputs(spec) for spec in specs if isinstance(spec, QualitySpec)],
        "samples per case": [len(timing.wall_seconds) for timing in timings],
        "warm-up calls": [timing.warmup_calls for timing in timings],
        "rotating sets of inputs": [timing.input_sets for timing in timings],
        "cache flush between samples, bytes": [t.flushed_bytes for t in timings if t.flushed_bytes is not None],
        "memory counted by": [record.memory.source for record in run.records if record.memory],
        "task data": [record.task.data for record in run.records if record.task],
    }
    return [(name, _list_values(own)) for name, own in values.items() if own]


def _batch(record: Record) -> int | str:
    spec = record.spec
    if isinstance(spec, ModelSpec) and spec.largest_batch:
        return "the largest that fits"
    return spec.batch


def _list_values(values: list[int | str]) -> Sentence:
    numbers = [Amount(value, "count") for value in sorted({value for value in values if isinstance(value, int)})]
    if len(numbers) > _MAX_LISTED_VALUES:
        return compose("{} to {} ({} values)", numbers[0], numbers[-1], Amount(len(numbers), "count"))
    words: list[Amount | str] = [*numbers, *sorted({value for value in values if isinstance(value, str)})]
    return join(words)


SECTIONS = {130: unverified_section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
