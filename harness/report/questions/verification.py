"""What was verified, what failed and why, and which settings a run had."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

from harness.core.quantities import number_words
from harness.core.record import Check, Record, Run, Status
from harness.core.spec import ModelSpec, QualitySpec, TaskSpec
from harness.report.model.amounts import Amount, Sentence, SentencePart, compose, counted, join
from harness.report.model.facets import Facets, describe_inputs
from harness.report.model.page_parts import Evidence, Section, build_section
from harness.report.model.records_table import STATUS_WORDS, ReportRow
from harness.report.model.tables import Cell, Table, table_with_facets

_PREFIX = re.compile(r"^\S+: ")
_MAX_LISTED_VALUES = 12
"""A setting with more distinct numbers is written as a range."""


@dataclass(frozen=True)
class Failure:
    """One reason why cases have no result. A case with several reasons is in several failures."""

    status: Status
    reason: str
    attentions: list[str]
    cases: list[str]


def failures(rows: Sequence[ReportRow]) -> list[Failure]:
    """Why cases have no result, one entry per reason: the worst status first, then the most frequent reason.

    Reasons that differ only in what stands before their first colon, such as the names of a library's operators, are
    one reason without it.
    """
    whole: dict[tuple[Status, str], dict[str, list[ReportRow]]] = {}
    for row in rows:
        if not row.is_ok:
            for reason in dict.fromkeys(row.record.reasons):
                whole.setdefault((row.status, _PREFIX.sub("", reason)), {}).setdefault(reason, []).append(row)
    found = []
    for (status, stripped), by_reason in whole.items():
        reason = next(iter(by_reason)) if len(by_reason) == 1 else stripped
        having = [row for group in by_reason.values() for row in group]
        attentions = sorted({row.base_series for row in having})
        found.append(Failure(status, reason, attentions, list(dict.fromkeys(row.case_id for row in having))))
    worst_first = list(STATUS_WORDS)[::-1]
    return sorted(found, key=lambda each: (worst_first.index(each.status), -len(each.cases), each.reason))


def failures_section(evidence: Evidence) -> Section:
    """Every reason why cases have no result."""
    rows: list[list[Cell]] = [
        [
            STATUS_WORDS[failure.status],
            failure.reason,
            ", ".join(failure.attentions),
            Amount(len(failure.cases), "count"),
            failure.cases[0],
        ]
        for failure in failures(evidence.rows)
    ]
    return build_section(
        "failures", "What did not run", _failures_finding(evidence.rows),
        "Every reason why cases have no result. A case with several reasons is in several rows; the CSV file and the "
        "JSON have every case.",
        [Table("", ["Outcome", "Reason", "Attentions", "Cases", "For example"], rows)],
    )  # fmt: skip


def _failures_finding(rows: Sequence[ReportRow]) -> Sentence:
    by_status = Counter(row.status for row in rows if not row.is_ok)
    if not by_status:
        return counted(len(rows), "The {} case gave a result.", "All {} cases gave a result.")
    counts = [compose("{} {}", Amount(by_status[each], "count"), STATUS_WORDS[each])
              for each in list(STATUS_WORDS)[::-1] if by_status[each]]  # fmt: skip
    reasons = Amount(len(failures(rows)), "count")
    total = counted(len(rows), "{} case", "{} cases")
    return compose("Of {} {}; distinct reasons: {}.", total, join(counts), reasons)


def verification_section(evidence: Evidence) -> Section:
    """The worst check of every attention, one table per run."""
    several = len(evidence.runs) > 1
    return build_section(
        "verification", "Verification", _verification_finding(evidence.runs),
        "Each case is compared with a float64 oracle before it is timed. A check whose name begins with “timed call” "
        "is of a call that was timed. Each row is the attention's worst check over all its cases: where error / "
        "allowed is above 1, the check failed and the case has no time.",
        [
            replace(verification_table(run), title=label if several else "")
            for run, label in zip(evidence.runs, evidence.labels, strict=True)
        ],
    )  # fmt: skip


def _verification_finding(runs: Sequence[Run]) -> Sentence:
    checks = [check for run in runs for record in run.records for check in record.checks]
    failed = sum(not check.passed for check in checks)
    if failed:
        total = counted(len(checks), "{} check", "{} checks")
        return compose("{} of {} failed.", Amount(failed, "count"), total)
    return counted(len(checks), "The {} check passed.", "All {} checks passed.")


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
            Amount(ratio, "number") if isfinite(ratio) else number_words(ratio),
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
        "unverified", "Not verified", _unverified_finding(evidence.runs),
        "Parts of cases that no check covers, and why. Everything else was compared with the attention's oracle.",
        [table_with_facets("", ["Attention", "Not verified", "Cases"], cells)],
    )  # fmt: skip


def _unverified_finding(runs: Sequence[Run]) -> Sentence:
    cases = [record for run in runs for record in run.records if record.unverified]
    attentions = {record.spec.attention for record in cases}
    count = Amount(len(cases), "count")
    return compose("Cases with parts that no check covers: {}, of {}.", count, ", ".join(sorted(attentions)))


def settings_finding(run: Run) -> Sentence:
    """Machine, cores, version of torch and commit of one run."""
    machine = run.machine
    name = str(machine.get("cuda_device") or machine.get("cpu") or "machine not named")
    cores, torch = machine.get("cores"), machine.get("torch")
    parts: list[SentencePart] = [name]
    if isinstance(cores, int) and not machine.get("cuda_device"):
        parts.append(counted(cores, "{} core", "{} cores"))
    parts += [f"torch {torch}"] if torch else []
    parts.append(f"commit {run.commit[:10]}" if run.commit else "commit not known")
    return compose("{}.", join(parts))


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


SECTIONS = {130: failures_section, 140: verification_section, 150: unverified_section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
