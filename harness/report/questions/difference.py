"""Two runs beside each other: the same cases before and after a change, or on two machines."""

from dataclasses import dataclass
from math import log
from typing import Any

import pandas as pd

from harness.core.record import Record, Run
from harness.report.model import units
from harness.report.model.records_table import STATUS_WORDS, each, labels, machine
from harness.report.model.sentence import Sentence, say
from harness.report.model.tables import Cell, Table
from harness.report.model.units import Amount
from harness.statistics import intervals

SHOWN = 200
"""Rows of the table at most, the largest differences first; the plot and the CSV have all."""


@dataclass(frozen=True)
class Pair:
    """One case in two runs; ``ratio`` is the later time over the first, None where one of them has no time."""

    before: Any
    after: Any
    ratio: intervals.Estimate | None

    @property
    def clear(self) -> bool:
        """Whether the interval of the ratio leaves out 1."""
        return self.ratio is not None and self.ratio.low is not None and self.ratio.high is not None and not (
            self.ratio.low <= 1 <= self.ratio.high
        )  # fmt: skip


def pairs(table: pd.DataFrame, after: int) -> list[Pair]:
    """The cases that run 0 and run ``after`` share; the device's name does not tell cases apart."""
    first = {_place(row.record): row for row in each(table[table["run"] == 0])}
    found = []
    for row in each(table[table["run"] == after]):
        before = first.get(_place(row.record))
        if before is not None:
            both = before.time is not None and row.time is not None and before.clock == row.clock
            found.append(Pair(before, row, intervals.ratio(row.time, before.time) if both else None))
    return found


def summary(table: pd.DataFrame, runs: list[Run]) -> list[Sentence]:
    """How many cases differ, one sentence a later run, and what their machines say about it."""
    said = []
    for after, label in list(enumerate(labels(runs)))[1:]:
        both = pairs(table, after)
        timed = [pair for pair in both if pair.ratio is not None]
        faster = sum(pair.clear and pair.ratio is not None and pair.ratio.value < 1 for pair in timed)
        slower = sum(pair.clear for pair in timed) - faster
        other = machine(runs[after]) != machine(runs[0])
        said.append(
            say(
                "{} against the first run: of {} cases timed in both, {} are clearly faster and {} clearly slower{}.",
                label, Amount(len(timed), "count"), Amount(faster, "count"), Amount(slower, "count"),
                "; the machines differ, so that a difference is not the code's alone" if other else "",
            )
        )  # fmt: skip
    return said


def differences(table: pd.DataFrame, runs: list[Run]) -> list[Table]:
    """Clear differences of time, and cases that changed their status, one table a later run."""
    found = []
    for after, label in list(enumerate(labels(runs)))[1:]:
        both = pairs(table, after)
        changed = [pair for pair in both if pair.before.status != pair.after.status]
        clear = [(pair, pair.ratio) for pair in both if pair.clear and pair.ratio is not None]
        clear.sort(key=lambda found: -abs(log(found[1].value)))
        rows: list[list[Cell]] = [
            [pair.after.case_id, STATUS_WORDS.get(pair.before.status, "ok"), STATUS_WORDS.get(pair.after.status, "ok"),
             units.ABSENT, units.ABSENT]
            for pair in changed
        ]  # fmt: skip
        for pair, ratio in clear[:SHOWN]:
            times: list[Cell] = [units.estimate(pair.before.time, "s"), units.estimate(pair.after.time, "s")]
            memory = pair.after.peak_bytes / pair.before.peak_bytes if pair.before.peak_bytes else float("nan")
            size: Cell = Amount(memory, "number") if memory == memory else units.ABSENT
            rows.append([pair.after.case_id, *times, units.estimate(ratio, "number"), size])
        columns = [
            "Case",
            "First run",
            "This run",
            f"Time, as a multiple [{units.LEVEL_WORDS}]",
            "Memory, as a multiple",
        ]
        if rows:
            found.append(Table(label, columns, rows))
    return found


def _place(record: Record) -> str:
    """The case without its device: id of the spec, what it is called after."""
    return record.case_id.replace(f"-{record.spec.device}", "")
