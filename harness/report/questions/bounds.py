"""The device's time beside the host's, and each case's fraction of the bound that the measured ceilings put on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import pandas as pd

from harness.core.record import Ceiling, Record, Run, Timing
from harness.report.model import units
from harness.report.model.records_table import Facets, at_batch, each, views
from harness.report.model.tables import Cell, Table, with_facets
from harness.report.model.units import Amount


@dataclass(frozen=True)
class Bound:
    """The least seconds that a case could take, and the ceiling that says so."""

    seconds: float
    ceiling: str


def rate(ceiling: Ceiling) -> float:
    """Bytes or operations a second, the median sample's."""
    return ceiling.amount / median(ceiling.seconds)


def bound(record: Record, ceilings: list[Ceiling]) -> Bound | None:
    """The bound of a case; None where its work was not counted or no ceiling of its device limits it."""
    rates = {one.name: rate(one) for one in ceilings if one.seconds and one.device == record.spec.device}
    floors = [Bound(amount / rates[name], name) for name, amount in (record.work or {}).items() if name in rates]
    return max(floors, key=lambda floor: floor.seconds, default=None)


def is_launch_bound(timing: Timing) -> bool:
    """Whether the device waits for the host: submitting a call takes longer than running it."""
    if timing.device_seconds is None or timing.submit_seconds is None:
        return False
    return median(timing.submit_seconds) > median(timing.device_seconds)


def device_and_host(table: pd.DataFrame) -> list[Table]:
    """Whole calls of operations and models with their device's time, their wall's and their host's."""
    found = []
    for kind in ("operation", "model"):
        rows: list[tuple[Facets, list[Cell]]] = []
        for facets, view in views(table, kind).items():
            for row in sorted(each(view), key=lambda row: (row.series, row.seq_len)):
                timing = row.record.timing
                if timing is None or timing.device_seconds is None:
                    continue
                device, wall = (median(samples) for samples in (timing.device_seconds, timing.wall_seconds))
                submit: Cell = units.ABSENT
                if timing.submit_seconds is not None:
                    submit = Amount(median(timing.submit_seconds), "s")
                waits = "launch-bound" if is_launch_bound(timing) else ""
                cells: list[Cell] = [at_batch(row), Amount(row.seq_len, "tokens")]
                rows.append((facets, [*cells, Amount(device, "s"), Amount(wall, "s"), submit, waits]))
        columns = ["Attention", "Length", "Device time", "Wall time", "Host's submission", "Waits"]
        found.append(with_facets(kind.capitalize(), columns, rows))
    return [one for one in found if one.rows]


def fractions(table: pd.DataFrame, runs: Sequence[Run]) -> Table:
    """Operations whose bound is known; empty where no run measured a ceiling."""
    rows: list[tuple[Facets, list[Cell]]] = []
    for facets, view in views(table, "operation").items():
        for row in sorted(each(view), key=lambda row: (row.series, row.seq_len)):
            floor = bound(row.record, runs[row.run].ceilings)
            if floor is None or row.time is None:
                continue
            cells: list[Cell] = [row.series, Amount(row.seq_len, "tokens"), units.estimate(row.time, "s")]
            cells += [Amount(floor.seconds, "s"), floor.ceiling, Amount(floor.seconds / row.time.value, "fraction")]
            rows.append((facets, cells))
    columns = ["Attention", "Length", f"Time [{units.LEVEL_WORDS}]", "Bound", "Limited by", "Fraction of bound"]
    return with_facets("", columns, rows)


def ceilings(runs: Sequence[Run], labels: Sequence[str]) -> Table:
    """Each measured ceiling, or why it is missing."""
    rows: list[tuple[Facets, list[Cell]]] = []
    for run, label in zip(runs, labels, strict=True):
        for one in run.ceilings:
            rate_: Cell = f"not measured: {one.reason}"
            if one.seconds:
                rate_ = Amount(rate(one), "B/s" if one.unit == "byte" else "op/s")
            rows.append(((("Run", label),) if len(runs) > 1 else (), [one.name, one.device, rate_]))
    return with_facets("Measured ceilings", ["Ceiling", "Device", "Rate"], rows)
