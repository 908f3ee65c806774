"""The device's time beside the host's, and each case's fraction of the bound that the measured ceilings put on it."""

from dataclasses import dataclass
from statistics import median

import pandas as pd

from harness.record import Ceiling, Record, Run, Timing
from harness.reporting import units
from harness.reporting.frame import each, views
from harness.reporting.tables import Table, with_facets


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
    """Operations and models with their device's time, their wall's and their host's."""
    found = []
    for kind in ("operation", "model"):
        rows = []
        for facets, view in views(table, kind).items():
            for row in sorted(each(view), key=lambda row: (row.series, row.seq_len)):
                timing = row.record.timing
                if timing is None or timing.device_seconds is None:
                    continue
                device, wall = (median(samples) for samples in (timing.device_seconds, timing.wall_seconds))
                submit = units.ABSENT if timing.submit_seconds is None else units.seconds(median(timing.submit_seconds))
                waits = "launch-bound" if is_launch_bound(timing) else ""
                cells = [units.seconds(device), units.seconds(wall), submit, waits]
                rows.append((facets, [row.series, units.length(row.seq_len), *cells, _memory(row.record)]))
        columns = [
            "Attention",
            "Length",
            "Device time",
            "Wall time",
            "Host's submission",
            "",
            "Peak allocated, reserved",
        ]
        found.append(with_facets(kind.capitalize(), columns, rows, frozenset({*columns[1:5], columns[6]})))
    return [one for one in found if one.rows]


def fractions(table: pd.DataFrame, run: Run) -> Table:
    """Operations whose bound is known; empty where the run measured no ceiling."""
    rows = []
    for facets, view in views(table, "operation").items():
        for row in sorted(each(view), key=lambda row: (row.series, row.seq_len)):
            floor = bound(row.record, run.ceilings)
            if floor is None or row.time is None:
                continue
            cells = [units.seconds(row.time.value), units.seconds(floor.seconds), floor.ceiling]
            rows.append(
                (facets, [row.series, units.length(row.seq_len), *cells, units.percent(floor.seconds / row.time.value)])
            )
    columns = ["Attention", "Length", "Time", "Bound", "Limited by", "Fraction of bound"]
    return with_facets("", columns, rows, frozenset({*columns[1:4], columns[5]}))


def ceilings(run: Run) -> list[tuple[str, str]]:
    """Each measured ceiling by name, or why it is missing."""
    return [(f"{one.name}, {one.device}", _rate_words(one)) for one in run.ceilings]


def _rate_words(ceiling: Ceiling) -> str:
    if not ceiling.seconds:
        return f"not measured: {ceiling.reason}"
    size, unit = {"byte": (1e9, "GB/s"), "operation": (1e12, "TFLOP/s")}[ceiling.unit]
    return f"{units.number(rate(ceiling) / size)} {unit}"


def _memory(record: Record) -> str:
    if record.memory is None:
        return units.ABSENT
    reserved = record.memory.reserved_bytes
    parts = [units.bytes_(record.memory.peak_bytes), *([] if reserved is None else [units.bytes_(reserved)])]
    return ", ".join(parts)
