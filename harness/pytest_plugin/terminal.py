"""The summary of a run in the terminal: compact tables, and one line per case."""

from collections.abc import Iterable
from statistics import median

from harness.core.record import Record, TaskResult, Timing
from harness.core.spec import OperationSpec
from harness.statistics import intervals

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
    MiB.
    """
    groups: dict[str, dict[tuple[str, int], str]] = {}
    for record in records:
        if isinstance(record.spec, OperationSpec):
            cells = groups.setdefault(_title(record.spec), {})
            cells[record.spec.attention, record.spec.seq_len] = _cell(record)
    lines = []
    for title, cells in groups.items():
        lines += ["", title, *_table(cells)]
    return lines


def _title(spec: OperationSpec) -> str:
    shape = f"B={spec.batch} H={spec.heads} d={spec.head_dim}"
    padded = f", {spec.padding:.0%} padded" if spec.padding else ""
    return f"{spec.mode}, {shape}, {spec.dtype} on {spec.device}{padded}: median ms / peak MiB"


def _median_seconds(timing: Timing) -> float:
    """The device's time if it was measured, as in the report; else the wall-clock time."""
    return median(timing.wall_seconds if timing.device_seconds is None else timing.device_seconds)


def _disturbed(timing: Timing) -> str:
    return " (disturbed)" if timing.disturbed else ""


def _cell(record: Record) -> str:
    if record.timing is None or record.memory is None:
        return record.status
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
