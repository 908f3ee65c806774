"""The summary of a run in the terminal: compact tables, and one line per case."""

from collections.abc import Iterable
from statistics import median

import numpy as np

from harness.core.record import Record, TaskResult, Timing
from harness.core.spec import OperationSpec
from harness.statistics import intervals
from harness.statistics.rounds import over_processes

MIB = 2**20


def one_line(record: Record) -> str:
    """The result of a case in one line, such as ``12.3 ms, 4.0 MiB``; its status if that is not ok."""
    if record.status != "ok":
        return record.status
    results = []
    if record.timing is not None:
        results.append(f"{_median_seconds(record.timing) * 1e3:.3g} ms{_disturbed(record.timing)}")
    if record.memory is not None:
        results.append(f"{record.memory.peak_bytes / MIB:.3g} MiB")
    if record.quality is not None:
        results.append(f"error {median(record.quality.errors['output']):.3g}")
    if record.task is not None:
        results.append(_score(record.task))
    return ", ".join(results)


def _score(task: TaskResult) -> str:
    mean = intervals.seed_mean(task.scores)
    interval = "" if mean.low is None else f" ({mean.low:.3f} to {mean.high:.3f})"
    return f"{task.metric} {mean.mean:.3f}{interval}, chance {task.chance:.3g}, majority {task.majority:.3g}"


def tables(records: Iterable[Record]) -> list[str]:
    """The lines of one table per kind of operation case: one row per attention, one column per sequence length.

    A cell has the median time in milliseconds, with a word where other processes disturbed it, and the peak memory in
    MiB. The title says that the time is of one process. Where several measured the case, the cell has the time over
    these with the interval between them.
    """
    groups: dict[str, dict[tuple[str, int], list[Record]]] = {}
    for record in records:
        if isinstance(record.spec, OperationSpec):
            cells = groups.setdefault(_title(record.spec), {})
            cells.setdefault((record.spec.attention, record.spec.seq_len), []).append(record)
    lines = []
    for title, cells in groups.items():
        times = {place: _time_of_rounds(rounds) for place, rounds in cells.items()}
        processes = sorted({1 if time is None else time.processes for time in times.values()})
        words = {place: _cell(rounds[-1], times[place]) for place, rounds in cells.items()}
        lines += ["", f"{title}: {_scope(processes)} / peak MiB", *_table(words)]
    return lines


def _time_of_rounds(rounds: list[Record]) -> intervals.Estimate | None:
    """The time over all processes that measured one case; None where it was one."""
    timings = [record.timing for record in rounds if record.timing is not None]
    if len(timings) < 2:
        return None
    rng = np.random.default_rng(0)
    times = [intervals.bootstrap_median(timing.device_seconds or timing.wall_seconds, rng) for timing in timings]
    joined = over_processes(timings, times, rng)
    return next((time for time in joined if time.processes > 1), None)


def _scope(processes: list[int]) -> str:
    """What the times of a table are, by the numbers of processes that they are of."""
    several = [str(count) for count in processes if count > 1]
    if not several:
        return "median ms within one process"
    between = f"ms with the {intervals.LEVEL:.0%} interval between {' or '.join(several)} processes"
    return f"{between}, or median ms within one" if 1 in processes else between


def _title(spec: OperationSpec) -> str:
    shape = f"B={spec.batch} H={spec.heads} d={spec.head_dim}"
    padded = f", {spec.padding:.0%} padded" if spec.padding else ""
    return f"{spec.mode}, {shape}, {spec.dtype} on {spec.device}{padded}"


def _median_seconds(timing: Timing) -> float:
    """The device's time if it was measured, as in the report; else the wall-clock time."""
    return median(timing.wall_seconds if timing.device_seconds is None else timing.device_seconds)


def _disturbed(timing: Timing) -> str:
    return " (disturbed)" if timing.disturbed else ""


def _cell(record: Record, time: intervals.Estimate | None) -> str:
    if record.timing is None or record.memory is None:
        return record.status
    if time is not None:
        bounds = (f"{seconds * 1e3:.3g}" for seconds in (time.low, time.high) if seconds is not None)
        return f"{time.value * 1e3:.3g} [{', '.join(bounds)}] / {record.memory.peak_bytes / MIB:.3g}"
    milliseconds = f"{_median_seconds(record.timing) * 1e3:.3g}{_disturbed(record.timing)}"
    return f"{milliseconds} / {record.memory.peak_bytes / MIB:.3g}"


def _table(cells: dict[tuple[str, int], str]) -> list[str]:
    names = list(dict.fromkeys(name for name, _ in cells))
    lengths = sorted({length for _, length in cells})
    # Attentions that ran at no length have no row; the counts below the tables have them.
    names = [name for name in names if any("/" in cells.get((name, length), "") for length in lengths)] or names
    rows = [["attention", *(f"n={length}" for length in lengths)]]
    rows += [[name, *(cells.get((name, length), "-") for length in lengths)] for name in names]
    return aligned(rows)


def aligned(rows: list[list[str]]) -> list[str]:
    """One line per row, with the columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
