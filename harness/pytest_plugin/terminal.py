"""The end of a run in a terminal: a compact table, counts, and where the files are."""

from collections.abc import Iterable
from statistics import median

from harness.core.record import Record, TaskResult, Timing
from harness.core.spec import OperationSpec
from harness.statistics import intervals

MIB = 2**20


def one_line(record: Record) -> str:
    """What a record found, in a few words: ``12.3 ms, 4.0 MiB``, or its status."""
    if record.status != "ok":
        return record.status
    words = []
    if record.timing is not None:
        words.append(f"{_seconds(record.timing) * 1e3:.3g} ms")
    if record.memory is not None:
        words.append(f"{record.memory.peak_bytes / MIB:.3g} MiB")
    if record.quality is not None:
        words.append(f"error {median(record.quality.errors['output']):.3g}")
    if record.task is not None:
        words.append(_score(record.task))
    return ", ".join(words)


def _score(task: TaskResult) -> str:
    found = intervals.seed_mean(task.scores)
    interval = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{task.metric} {found.mean:.3f}{interval}, chance {task.chance:.3g}, majority {task.majority:.3g}"


def tables(records: Iterable[Record]) -> list[str]:
    """Lines of one table a kind of operation case: attentions down, lengths across; median ms / peak MiB."""
    groups: dict[str, dict[tuple[str, int], str]] = {}
    for record in records:
        if isinstance(record.spec, OperationSpec):
            group = groups.setdefault(_title(record.spec), {})
            group[record.spec.attention, record.spec.seq_len] = _cell(record)
    lines = []
    for title, cells in groups.items():
        lines += ["", title, *_grid(cells)]
    return lines


def _title(spec: OperationSpec) -> str:
    shape = f"B={spec.batch} H={spec.heads} d={spec.head_dim}"
    padded = f", {spec.padding:.0%} padded" if spec.padding else ""
    return f"{spec.mode}, {shape}, {spec.dtype} on {spec.device}{padded}: median ms / peak MiB"


def _seconds(timing: Timing) -> float:
    """The device's own time where there is one, as in the report."""
    return median(timing.wall_seconds if timing.device_seconds is None else timing.device_seconds)


def _cell(record: Record) -> str:
    if record.timing is None or record.memory is None:
        return record.status
    return f"{_seconds(record.timing) * 1e3:.3g} / {record.memory.peak_bytes / MIB:.3g}"


def _grid(cells: dict[tuple[str, int], str]) -> list[str]:
    names = list(dict.fromkeys(name for name, _ in cells))
    lengths = sorted({length for _, length in cells})
    # An attention that ran nowhere has one word to say, and that is counted below the tables.
    names = [name for name in names if any("/" in cells.get((name, length), "") for length in lengths)] or names
    rows = [["attention", *(f"n={length}" for length in lengths)]]
    rows += [[name, *(cells.get((name, length), "-") for length in lengths)] for name in names]
    return aligned(rows)


def aligned(rows: list[list[str]]) -> list[str]:
    """A line a row, its words under one another."""
    widths = [max(map(len, words)) for words in zip(*rows, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
