"""What a run says in the terminal: one line per case, and at the end its result, compact tables and what to do next."""

import textwrap
from collections.abc import Iterable, Sequence
from statistics import median

import numpy as np

from harness.core.escaping import one_line as on_one_line
from harness.core.quantities import ROUNDING, bytes_words, error_words, seconds_words
from harness.core.record import Record, TaskResult, Timing
from harness.core.setting_error import NOT_MEASURED, SettingErrors, error_phrase, explanation
from harness.core.spec import ModelSpec, OperationSpec
from harness.statistics import intervals
from harness.statistics.rounds import over_processes

UNKNOWN = "unknown"
"""The error of a cell of the tables where it was not measured."""
NOT_MEASURED_IN_MODEL = "error inside the model not measured"
"""The words beside the time of a model, whose attention approximates another."""
DISTURBED_MARK = "~"
"""In front of a time of the tables that other processes disturbed."""
REASON_LENGTH = 300
"""Characters of a reason in the line of a case; the record has all reasons in full."""
NO_CASE = "-"
"""The time of a cell of the tables where an attention has no case."""
COLUMN_GAP, LENGTH_GAP = 2, 4
"""Blanks between two columns, and in front of the columns of the next length."""
_MODES = {"forward": "forward", "forward_backward": "forward + backward"}


def one_line(record: Record, error: str | None = None) -> str:
    """The result of a case in one line, such as ``12.3 ms, error 3.10%, 4.00 MiB``; its status if that is not ok.

    Args:
        record: the case's.
        error: for a timed case, the words for its error, which another case measures; None: they are left out.
    """
    if record.status != "ok":
        reason = on_one_line(record.reasons[0])
        more = "..." if len(reason) > REASON_LENGTH else ""
        return f"{record.status}: {reason[:REASON_LENGTH]}{more}"
    results = []
    if record.timing is not None:
        results.append(f"{seconds_words(_median_seconds(record.timing))}{_disturbed(record.timing)}")
        results += [error] if error else []
    if record.memory is not None:
        results.append(bytes_words(record.memory.peak_bytes))
    if record.quality is not None:
        error_of_output = median(record.quality.errors["output"])
        results.append("only rounding error" if error_of_output < ROUNDING else f"error {error_words(error_of_output)}")
    if record.task is not None:
        results.append(_score(record.task))
    return ", ".join(results)


def error_beside(record: Record, records: Sequence[Record], comes_later: bool) -> str | None:
    """The words for the error at the setting of a timed case, for ``one_line``; None for a case without a time.

    Args:
        record: the case's.
        records: those of the run so far.
        comes_later: whether the run has cases that measure errors of this attention.
    """
    if record.timing is None:
        return None
    found = SettingErrors(records).of(record)
    if found is None and isinstance(record.spec, ModelSpec):
        return NOT_MEASURED_IN_MODEL  # cases measure the error of the attention alone
    return f"{NOT_MEASURED} yet" if found is None and comes_later else error_phrase(found)


def _score(task: TaskResult) -> str:
    mean = intervals.seed_mean(task.scores)
    interval = "" if mean.low is None else f" ({mean.low:.3f} to {mean.high:.3f})"
    return f"{task.metric} {mean.mean:.3f}{interval}, chance {task.chance:.3g}, majority {task.majority:.3g}"


def result_sentences(records: Sequence[Record], named: Sequence[str]) -> list[str]:
    """What the run says about the attention alone: of the attentions that the user named, else of the fastest one.

    Each sentence is about the longest length at which the attention has a time and an error that a case measured, with
    a backward pass where there is one, and names the fastest exact attention there. Without any such error it is about
    the longest length.
    """
    timed = [record for record in records if isinstance(record.spec, OperationSpec) and record.timing is not None]
    errors = SettingErrors(records)

    def importance(record: Record) -> tuple[bool, bool, int]:
        assert isinstance(record.spec, OperationSpec)
        error = errors.of(record)
        return error is not None and error.is_measured, record.spec.mode == "forward_backward", record.spec.seq_len

    sentences = []
    for name in named:
        own = [record for record in timed if record.spec.attention == name]
        if own:
            sentences.append(_result_sentence(max(own, key=importance), timed, errors))
    if not named and timed:
        last = max(map(importance, timed))
        there = [record for record in timed if importance(record) == last]
        undisturbed = [record for record in there if not _is_disturbed(record)]
        fastest = min(undisturbed or there, key=_seconds_of)
        word = "fastest" if undisturbed else "shortest time"
        sentences.append(f"{word}: {_result_sentence(fastest, timed, errors)}")
    return sentences


def _result_sentence(record: Record, timed: Sequence[Record], errors: SettingErrors) -> str:
    spec = record.spec
    assert isinstance(spec, OperationSpec)
    assert record.timing is not None
    error = errors.of(record)
    words = (
        f"{on_one_line(spec.attention)}, {_MODES[spec.mode]} of {spec.seq_len:,} tokens: "
        f"{seconds_words(_seconds_of(record))}{_disturbed(record.timing)}, " + error_phrase(error)
    )
    # Every head, size and type must be the same, so all of the spec but the attention and its own knobs.
    same = spec.model_copy(update={"attention": "", "knobs": {}})
    exact = [
        other
        for other in timed
        if other.exact_softmax and other.spec.model_copy(update={"attention": "", "knobs": {}}) == same
    ]
    if not exact:
        return f"{words}; no exact attention was timed there"
    undisturbed = [other for other in exact if not _is_disturbed(other)]
    if _is_disturbed(record) or not undisturbed:
        return f"{words}; no comparison, because other processes disturbed a time"
    fastest = min(undisturbed, key=_seconds_of)
    if fastest.spec == spec:
        return f"{words}; it is the fastest exact attention there"
    assert fastest.timing is not None
    ratio = _seconds_of(record) / _seconds_of(fastest)
    do_overlap = _do_overlap(record.timing, fastest.timing)
    if do_overlap is None:
        return f"{words}; no comparison, because a time was taken only once"
    compared = f"{1 / ratio:.3g} times faster than" if ratio < 1 else f"{ratio:.3g} times slower than"
    if do_overlap:
        compared = "no clear difference from"
    return (
        f"{words}; {compared} the fastest exact attention there, {on_one_line(fastest.spec.attention)} "
        f"with {seconds_words(_seconds_of(fastest))}{_disturbed(fastest.timing)}"
    )


def _do_overlap(one: Timing, other: Timing) -> bool | None:
    """Whether the intervals of two times overlap; None where one of them was taken only once."""
    rng = np.random.default_rng(0)
    return intervals.overlap(
        *(intervals.bootstrap_median(timing.device_seconds or timing.wall_seconds, rng) for timing in (one, other))
    )


def tables(records: Iterable[Record], width: int = 80, named: Sequence[str] = ()) -> list[str]:
    """The lines of a table per kind of operation case: a row per attention, and three columns per sequence length.

    They have the median time, with a mark where other processes disturbed it, the error at this setting, and the peak
    memory. Lengths that do not fit beside each other have a part of the table below. A line says that the times are of
    one process; where several measured a case, its time is over these, with the interval between them.

    Args:
        records: those of the run.
        width: columns of the terminal.
        named: the attentions that the user named, which come first, in this order.
    """
    records = list(records)
    errors = SettingErrors(records)
    groups: dict[str, dict[tuple[str, int], list[Record]]] = {}
    for record in records:
        if isinstance(record.spec, OperationSpec):
            rounds = groups.setdefault(_title(record.spec), {})
            rounds.setdefault((on_one_line(record.spec.attention), record.spec.seq_len), []).append(record)
    lines = []
    processes: set[int] = set()
    for title, rounds in groups.items():
        times = {place: _time_over_processes(own) for place, own in rounds.items()}
        processes |= {1 if time is None else time.processes for time in times.values()}
        cells = {place: _cell(_shown(own), errors, times[place]) for place, own in rounds.items()}
        lines += ["", title, *_table(cells, width, named)]
    if lines:
        shown = [record for record in records if isinstance(record.spec, OperationSpec) and record.timing is not None]
        texts = " ".join(lines)
        legend = [_scope(processes) if shown else "", explanation(errors.of(record) for record in shown)]
        legend += [f"{UNKNOWN}: {NOT_MEASURED}"] if f" {UNKNOWN}" in texts else []
        legend += [f"{DISTURBED_MARK}: other processes disturbed the time"] if DISTURBED_MARK in texts else []
        lines += ["", *filter(None, legend)]
    return lines


def _shown(rounds: Sequence[Record]) -> Record:
    """The record of one case that the table has: the last whose time was not disturbed, or else the last."""
    return next((record for record in reversed(rounds) if not _is_disturbed(record)), rounds[-1])


def _time_over_processes(rounds: Sequence[Record]) -> intervals.Estimate | None:
    """The time of one case over all processes that measured it; None where it was one."""
    timings = [record.timing for record in rounds if record.timing is not None]
    if len(timings) < 2:
        return None
    rng = np.random.default_rng(0)
    times = [intervals.bootstrap_median(timing.device_seconds or timing.wall_seconds, rng) for timing in timings]
    return next((time for time in over_processes(timings, times, rng) if time.processes > 1), None)


def _scope(processes: set[int]) -> str:
    """What the times of the tables are, by the numbers of processes that they are of."""
    within = "times are medians within one process: how much the next process would differ was not measured"
    several = [str(count) for count in sorted(processes) if count > 1]
    if not several:
        return within
    between = f"times with brackets have the {intervals.LEVEL:.0%} interval between {' or '.join(several)} processes"
    return f"{between}; other {within}" if 1 in processes else between


def _title(spec: OperationSpec) -> str:
    shape = f"B={spec.batch} H={spec.heads} d={spec.head_dim}"
    padded = f", {spec.padding:.0%} padded" if spec.padding else ""
    return f"{_MODES[spec.mode]}, {shape}, {spec.dtype} on {spec.device}{padded}: time, error and peak memory"


def _median_seconds(timing: Timing) -> float:
    """The device's time if it was measured, as in the report; else the wall-clock time."""
    return median(timing.wall_seconds if timing.device_seconds is None else timing.device_seconds)


def _seconds_of(record: Record) -> float:
    assert record.timing is not None
    return _median_seconds(record.timing)


def _disturbed(timing: Timing) -> str:
    return " (disturbed)" if timing.disturbed else ""


def _is_disturbed(record: Record) -> bool:
    return record.timing is not None and bool(record.timing.disturbed)


def _cell(record: Record, errors: SettingErrors, time: intervals.Estimate | None) -> tuple[str, ...]:
    """Time, error and memory of a case; its status and two empty texts where it has no time.

    Args:
        record: the case's.
        errors: of the run.
        time: that over several processes; None: the record's own counts.
    """
    if record.timing is None or record.memory is None:
        return record.status, "", ""
    found = errors.of(record)
    error = UNKNOWN if found is None else found.cell
    mark = DISTURBED_MARK if record.timing.disturbed else ""
    words = mark + seconds_words(_seconds_of(record))
    if time is not None and time.low is not None and time.high is not None:
        words = f"{seconds_words(time.value)} [{seconds_words(time.low)}, {seconds_words(time.high)}]"
    return words, error, bytes_words(record.memory.peak_bytes)


def _table(cells: dict[tuple[str, int], tuple[str, ...]], width: int, named: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(name for name, _ in cells))
    lengths = sorted({length for _, length in cells})
    # Attentions that ran at no length have no row; the counts below the tables have them.
    names = [name for name in names if any(any(cells.get((name, n), ("", ""))[1:]) for n in lengths)] or names
    names.sort(key=lambda name: named.index(name) if name in named else len(named))
    first = ["", "attention", *names]
    titles, none = ["time", "error", "memory"], (NO_CASE, "", "")
    columns = {length: aligned([titles, *([*cells.get((name, length), none)] for name in names)]) for length in lengths}
    blocks: list[list[list[str]]] = []
    used = width + 1  # the first length opens a block
    for length, column in columns.items():
        texts = [f"n={length}", *column]
        needed = max(map(len, texts)) + LENGTH_GAP
        if used + needed > width:
            blocks.append([first])
            used = max(map(len, first))
        blocks[-1].append(texts)
        used += needed
    lines: list[str] = []
    for block in blocks:
        rows = [list(row) for row in zip(*block, strict=True)]
        heads, attentions = rows[:2], rows[2:]
        # An attention that is not measured at every length has no row in a part of the table without its lengths.
        measured = [row for row in attentions if any(cell != NO_CASE for cell in row[1:])]
        lines += [*([""] if lines else []), *aligned([*heads, *measured], LENGTH_GAP)]
    return lines


def wrapped(lines: Iterable[str], width: int) -> list[str]:
    """The lines, with those that are longer than a terminal is wide broken between words."""
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    ]


def aligned(rows: list[list[str]], gap: int = COLUMN_GAP) -> list[str]:
    """One line per row, with the columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    blank = " " * gap
    return [blank.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
