"""What ``harness.compare`` returns: a table in the terminal and in a notebook, a data frame, a report and a file."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.comparison_rows import ComparisonRow, comparison_rows
from harness.core.escaping import one_line
from harness.core.record import Record, Run
from harness.core.setting_error import SettingErrors, explanation
from harness.core.spec import OperationSpec
from harness.report.model.amounts import ABSENT
from harness.report.model.facets import WORDS
from harness.report.model.records_table import STATUS_WORDS
from harness.statistics import disturbed_run
from harness.statistics.intervals import LEVEL

if TYPE_CHECKING:
    from pandas import DataFrame

WIDTH = 80
"""Columns of the table and of its notes."""
GAP = "  "
NAMED_REASONS = 3
"""Reasons of a note; ``explain`` has the others."""


class ComparisonResult:
    """The records of a comparison. ``print`` and a REPL show its table, a notebook shows it as HTML.

    Args:
        run: the run with all records.
        own_definitions: the attentions that were compared with no definition but their own.
        timed_again: the reference, and the name under which it was timed a second time; None: it was not.
        refusals: why functions were not verified at other sizes than those of the comparison, by name.
        left_out: cases that were not measured, because the user interrupted the measurement.
    """

    run: Run
    """The run, as ``harness report`` and ``harness gate`` read it from a file."""

    def __init__(
        self,
        run: Run,
        *,
        own_definitions: frozenset[str] = frozenset(),
        timed_again: tuple[str, str] | None = None,
        refusals: Mapping[str, Sequence[str]] | None = None,
        left_out: int = 0,
    ) -> None:
        self.run = run
        self._own_definitions = own_definitions
        self._timed_again = timed_again
        self._refusals = dict(refusals or {})
        self._left_out = left_out

    @property
    def records(self) -> list[Record]:
        """Every record: of timed cases (``OperationSpec``), and of errors (``QualitySpec``)."""
        return self.run.records

    @cached_property
    def rows(self) -> list[ComparisonRow]:
        """One row per timed case, by pass and length, in the order of the attentions."""
        return comparison_rows(self.run, self._own_definitions, self._timed_again is not None)

    def to_frame(self) -> "DataFrame":
        """One row per timed case as a pandas.DataFrame, in plain numbers.

        Columns: ``attention``; ``n`` in tokens; ``pass``; ``status``; ``seconds`` (median) with ``seconds_low`` and
        ``seconds_high`` (95% interval within this process); ``disturbed``; ``reference`` and ``ratio`` (time relative
        to the reference's, only where the difference is clear); ``error`` (a fraction) with ``error_of`` (the tensor),
        ``error_against`` and ``error_inputs``; ``peak_bytes``; ``reason``. What was not measured is missing.
        """
        import pandas

        return pandas.DataFrame([row.plain() for row in self.rows], columns=[*ComparisonRow.COLUMNS])

    def report(self, path: str | Path) -> Path:
        """Write the whole report as one HTML page that needs no network.

        Args:
            path: the file to write, ``*.html``; missing folders are created.

        Returns:
            The path.

        Raises:
            ValueError: the path does not end with .html, or cannot be written.
        """
        from harness.report.comparison import compare
        from harness.report.formats import html

        path = _path(path, ".html")
        page = compare([self.run], self._notes_of_the_page())
        try:
            return html.write(page, path)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def save(self, path: str | Path) -> Path:
        """Write the run as JSON, which ``harness report``, ``harness gate`` and ``pytest-benchmark compare`` read.

        Args:
            path: the file to write, ``*.json``; missing folders are created.

        Returns:
            The path.

        Raises:
            ValueError: the path does not end with .json, or cannot be written.
        """
        from harness.pytest_plugin import benchmark_json

        path = _path(path, ".json")
        text = benchmark_json.of_run(self.run, "harness.compare")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise _cannot_write(path, error) from error
        return path

    def explain(self) -> str:
        """Why each case has the status that it has, in full, and what else a reader must know."""
        lines = []
        for record in self.records:
            what = f"{one_line(record.spec.attention)}, {record.spec.seq_len:,} tokens, {_words_of_case(record)}"
            lines.append(f"{what}: {STATUS_WORDS[record.status]}")
            lines += [f"    {one_line(reason)}" for reason in record.reasons]
            lines += [f"    also: {one_line(finding)}" for finding in record.findings]
            lines += [f"    not verified: {one_line(sentence)}" for sentence in record.unverified]
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])

    @cached_property
    def notes(self) -> list[str]:
        """What a reader of the table must know, one sentence each; failed cases and their reasons come first."""
        failures = []
        for number, rows in self._numbered().items():
            lengths = " and ".join(f"{n:,}" for n in dict.fromkeys(row.seq_len for row in rows))
            names = ", ".join(dict.fromkeys(row.name for row in rows))
            failures.append(f"[{number}] {names}, {lengths} tokens: {rows[0].status}: {_why(rows[0].record)}")
        timed = [row.record for row in self.rows if row.record.timing is not None]
        errors = SettingErrors(self.records)
        compared = [record for record in timed if record.spec.attention not in self._own_definitions]
        own = [
            f"{name}, {len(sentences)} finding{'s' if len(sentences) > 1 else ''}: {'; '.join(sentences)}"
            for name, sentences in self._findings().items()
        ]
        not_measured = [
            f"the error of {row.name} at {row.seq_len:,} tokens was not measured: {row.why_no_error}"
            for row in self.rows
            if row.why_no_error
        ]
        estimated = {
            row.name: row.against
            for row in self.rows
            if row.record.timing is not None and row.error is not None and not row.error.is_rounding
        }
        sentences = [
            explanation(errors.of(record) for record in compared),
            "; ".join(f"the error of {name} is relative to {against}" for name, against in estimated.items()),
        ]
        about_times = self._notes_of_times()
        return [*failures, *self._notes_of_the_page(), *about_times, *filter(None, sentences), *not_measured, *own]

    def _notes_of_the_page(self) -> list[str]:
        """The notes that the report's page has as well, because it cannot find them in the records."""
        notes = []
        if self._left_out:
            notes.append(f"interrupted: {self._left_out} cases were not measured")
        names = [name for name in dict.fromkeys(row.name for row in self.rows) if name in self._own_definitions]
        if names:
            many = len(names) > 1
            notes.append(
                f"{', '.join(names)} {'are their own definitions' if many else 'is its own definition'} (like=None): "
                f"{'their' if many else 'its'} results were compared with no other, so an error is there only where "
                "another attention is estimated"
            )
        timed = [row.record.timing for row in self.rows if row.record.timing is not None]
        if timed:
            threads = sorted({timing.threads for timing in timed if timing.threads is not None})
            with_threads = f" with {threads[0]} thread{'s' if threads[0] > 1 else ''}" if len(threads) == 1 else ""
            notes.append(
                f"all cases ran one after the other in one process{with_threads}; times are medians with the "
                f"{LEVEL:.0%} interval within it: how much another process would differ was not measured"
            )
        if self._timed_again is not None and any(row.name == self._timed_again[1] for row in self.rows):
            reference, again = self._timed_again
            notes.append(f"{again} is {reference}, timed again as the last of each length")
        measured = {row.name for row in self.rows if row.record.status == "ok"}
        for name, sentences in self._refusals.items():
            if name in measured and sentences:
                sizes = "another size" if len(sentences) == 1 else f"{len(sentences)} other sizes"
                notes.append(f"{name} was not verified at {sizes}, because it cannot run there: {sentences[0]}")
        return notes

    def _notes_of_times(self) -> list[str]:
        """Which times can be compared; the report says this in its own places."""
        if all(row.record.timing is None for row in self.rows):
            return []
        notes = list(dict.fromkeys(str(row.tie.explanation) for row in self.rows if row.tie is not None))
        if self._timed_again is not None and not notes:
            notes.append("other processes disturbed one of these two times at each length, so no ratio is clear")
        disturbance = disturbed_run.judge_run(self.run)
        if disturbance is not None:
            notes.append(disturbance.sentence)
        if any(row.is_disturbed for row in self.rows):
            notes.append("~: other processes disturbed the time, so it is compared with no other")
        return notes

    def _findings(self) -> dict[str, list[str]]:
        """What each attention changed in this process."""
        found: dict[str, list[str]] = {}
        for record in self.records:
            own = found.setdefault(one_line(record.spec.attention), [])
            own += [sentence for sentence in record.findings if sentence not in own]
        return {name: sentences for name, sentences in found.items() if sentences}

    def _numbered(self) -> dict[int, list[ComparisonRow]]:
        """The rows without a time by the number of their note, which those of one reason share."""
        groups: dict[tuple[str, str], list[ComparisonRow]] = {}
        for row in self.rows:
            if row.record.status != "ok":
                groups.setdefault((row.status, _why(row.record)), []).append(row)
        return dict(enumerate(groups.values(), 1))

    def _numbers(self) -> dict[int, int]:
        """The number of the note of a row, by the identity of the row."""
        return {id(row): number for number, rows in self._numbered().items() for row in rows}

    def __str__(self) -> str:
        numbers = self._numbers()
        lines: list[str] = []
        for title, group in self._groups():
            lines += [*([""] if lines else []), *textwrap.wrap(title, WIDTH)]
            lines += _table(_header(group), [_cells(row, numbers.get(id(row))) for row in group])
        for note in self.notes:
            lines += ["", *_wrapped(note)] if note is self.notes[0] else _wrapped(note)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The table and its notes for a notebook."""
        numbers = self._numbers()
        parts = []
        for title, group in self._groups():
            head = "".join(f"<th>{escape(cell)}</th>" for cell in _header(group))
            body = "".join(
                "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(row, numbers.get(id(row)))) + "</tr>"
                for row in group
            )
            caption = f"<caption>{escape(title)}</caption>"
            parts.append(f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return "".join(parts) + (f"<ul>{notes}</ul>" if notes else "")

    def _groups(self) -> list[tuple[str, list[ComparisonRow]]]:
        """The rows of each pass and length, under a title."""
        groups: dict[str, list[ComparisonRow]] = {}
        for row in self.rows:
            spec = row.record.spec
            assert isinstance(spec, OperationSpec)
            padded = f", {spec.padding:.3g} of each sequence padded" if spec.padding else ""
            sizes = f"B={spec.batch} H={spec.heads} d={spec.head_dim}, {spec.dtype} on {spec.device}{padded}"
            groups.setdefault(f"{spec.seq_len:,} tokens, {WORDS[spec.mode]}, {sizes}", []).append(row)
        return list(groups.items())


def _words_of_case(record: Record) -> str:
    return WORDS[record.spec.mode] if isinstance(record.spec, OperationSpec) else "error"


def _why(record: Record) -> str:
    """The reasons of a failed case, that of a known mistake first; ``explain`` has all of them."""
    mistake = next((check.equals for check in record.checks if not check.passed and check.equals), None)
    shown = [one_line(reason) for reason in record.reasons[:NAMED_REASONS]]
    if mistake is not None and f"; it equals {mistake}" in shown[0]:
        shown = [f"it equals {mistake}", *(reason.replace(f"; it equals {mistake}", "") for reason in shown)]
    return "; ".join(shown) + ("; ..." if len(record.reasons) > NAMED_REASONS else "")


def _header(group: Sequence[ComparisonRow]) -> list[str]:
    reference = next((row.reference for row in group if row.reference is not None), None)
    time = f"time [{LEVEL:.0%} interval]"
    return ["attention", time, f"time / {reference}" if reference else "ratio", "error", "memory", "status"]


def _cells(row: ComparisonRow, note: int | None) -> list[str]:
    status = row.status if note is None else f"{row.status} [{note}]"
    return [row.name, row.time_words, row.ratio_words, row.error_words, row.memory_words, status]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Aligned lines. A row without a time has its status in the place of the time, because its other cells are empty.

    Where a line would be longer than ``WIDTH``, long names have a line of their own above it.
    """
    rows = [row if row[1] != ABSENT else [row[0], row[-1]] for row in [header, *rows]]
    columns = list(zip(*(row for row in rows if len(row) == len(header)), strict=True))
    widths = [max(map(len, column)) for column in columns]
    widths[1] = max(len(row[1]) for row in rows)
    room = WIDTH - sum(widths[1:]) - len(GAP) * (len(widths) - 1)
    widths[0] = min(max(len(row[0]) for row in rows), max(room, len(header[0])))
    lines = []
    for name, *cells in rows:
        if len(name) > widths[0] and len(cells) == 1:
            lines.append(f"{name}{GAP}{cells[0]}")
            continue
        if len(name) > widths[0]:
            lines.append(name)
            name = ""
        padded = [cell.ljust(width) for cell, width in zip(cells, widths[1:], strict=False)]
        lines.append(GAP.join([name.ljust(widths[0]), *padded]).rstrip())
    return lines


def _wrapped(note: str) -> list[str]:
    return textwrap.wrap(note, WIDTH, subsequent_indent=GAP, break_on_hyphens=False)


def _path(path: object, ending: str) -> Path:
    """The path of a file that is to be written.

    Raises:
        ValueError: it is no path, or has another ending.
    """
    if not isinstance(path, str | Path):
        raise ValueError(
            f"path must be text or a pathlib.Path that ends with {ending}, got {type(path).__name__} {path!r}"
        )
    if Path(path).suffix != ending:
        raise ValueError(f"path must end with {ending}, got {str(path)!r}")
    return Path(path)


def _cannot_write(path: Path, error: OSError) -> ValueError:
    why = "its folder is a file" if isinstance(error, FileExistsError) else error.strerror
    return ValueError(f"path {str(path)!r} cannot be written: {why}; choose another path")
