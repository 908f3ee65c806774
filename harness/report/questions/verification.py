"""What was verified, what did not run and why, and the settings that a run held."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import pandas as pd

from harness.core.record import Check, Record, Run
from harness.core.spec import ModelSpec, QualitySpec, TaskSpec
from harness.report.model import input_kinds, units
from harness.report.model.records_table import STATUS_WORDS, each
from harness.report.model.sentence import Sentence, join, say
from harness.report.model.tables import Cell, Table
from harness.report.model.units import Amount


@dataclass(frozen=True)
class Failure:
    """Cases of one attention that failed alike."""

    status: str
    attention: str
    reasons: tuple[str, ...]
    cases: list[str]

    @property
    def count(self) -> Amount:
        """How many cases."""
        return Amount(len(self.cases), "count")

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; the cases' names are in the records."""
        return {"attention": self.attention, "cases": self.count.plain()}


def verification(run: Run) -> Table:
    """The worst error of each attention, as a share of what was allowed."""
    worst: dict[str, tuple[float, Check]] = {}
    counts: dict[str, list[int]] = {}
    for record in run.records:
        for check in record.checks:
            share = _share(check)
            name = record.spec.attention
            count = counts.setdefault(name, [0, 0])
            count[0] += 1
            count[1] += not check.passed
            if name not in worst or share > worst[name][0]:
                worst[name] = (share, check)
    rows: list[list[Cell]] = [
        [
            name,
            check.what,
            Amount(check.error, "number") if check.error is not None and isfinite(check.error) else "not finite",
            Amount(check.allowed, "number") if isfinite(check.allowed) else "no limit",
            Amount(share, "number") if isfinite(share) else units.number(share),
            Amount(counts[name][0], "count"),
            Amount(counts[name][1], "count"),
        ]
        for name, (share, check) in sorted(worst.items())
    ]
    return Table("", ["Attention", "Worst check", "Error", "Allowed", "Error / allowed", "Checks", "Failed"], rows)


def failures(table: pd.DataFrame) -> list[Failure]:
    """Every record that is not ok, grouped by attention, status and reasons; the worst first."""
    found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for row in each(table[table["status"] != "ok"]):
        found.setdefault((row.status, row.base, tuple(row.record.reasons)), []).append(row.case_id)
    order = list(STATUS_WORDS)[::-1]
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1]))
    return [Failure(STATUS_WORDS[key[0]], key[1], key[2], found[key]) for key in keys]


def settings(run: Run) -> list[tuple[str, Sentence]]:
    """What was held or varied over the run, by name."""
    specs = [record.spec for record in run.records]
    timings = [record.timing for record in run.records if record.timing is not None]
    found: dict[str, list[int | str]] = {
        "dtype": [spec.dtype for spec in specs],
        "device": [spec.device for spec in specs],
        "sequence length": [spec.seq_len for spec in specs],
        "batch": [_batch(record) for record in run.records],
        "heads": [spec.heads for spec in specs],
        "seed": [spec.seed for spec in specs],
        "training seeds": [spec.seeds for spec in specs if isinstance(spec, TaskSpec)],
        "threads": [timing.threads for timing in timings if timing.threads is not None],
        "inputs of errors": [input_kinds.words(spec) for spec in specs if isinstance(spec, QualitySpec)],
        "samples a case": [len(timing.wall_seconds) for timing in timings],
        "warm-up calls": [timing.warmup_calls for timing in timings],
        "input sets in turn": [timing.input_sets for timing in timings],
        "cache flush between samples, bytes": [t.flushed_bytes for t in timings if t.flushed_bytes is not None],
        "memory counted by": [record.memory.source for record in run.records if record.memory],
        "task data": [record.task.data for record in run.records if record.task],
    }
    return [(name, _values(values)) for name, values in found.items() if values]


def _batch(record: Record) -> int | str:
    spec = record.spec
    if isinstance(spec, ModelSpec) and spec.largest_batch:
        return "the largest that fits"
    return spec.batch


def _values(values: list[int | str]) -> Sentence:
    numbers = [Amount(value, "count") for value in sorted({value for value in values if isinstance(value, int)})]
    if len(numbers) > 12:
        return say("{} to {} ({} values)", numbers[0], numbers[-1], Amount(len(numbers), "count"))
    words: list[Amount | str] = [*numbers, *sorted({value for value in values if isinstance(value, str)})]
    return join(words)


def _share(check: Check) -> float:
    if check.error is None:
        return inf
    if check.allowed == 0:
        return inf if check.error > 0 else 0.0
    return check.error / check.allowed
