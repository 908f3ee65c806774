"""Runs on disk: the benchmark JSON with its ``harness`` block, and the append-only log of the same records."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.record import SCHEMA_VERSION, Record, Run
from harness.core.record_text import clean_text

LOG_SUFFIX = ".log.jsonl"
Notify = Callable[[str], None]
"""Receives a one-line notice about lines of a log that were skipped."""
ERROR_LENGTH = 120
"""Characters of the error that such a notice has for each line."""
NAMED_LINES = 5
"""Lines that such a notice names; the others are counted."""


class StoreError(ValueError):
    """A file cannot be read as a run, or a log cannot be written; the message says what to do."""


class Log:
    """An append-only log: the run's header on the first line, then one record per line, each flushed to disk.

    Args:
        path: the file; an existing one is replaced after all of ``finished`` is written to the new one.
        header: the run; its records are not written.
        finished: records that an interrupted part of the same run already has.
    """

    def __init__(self, path: Path, header: Run, finished: Iterable[Record] = ()) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        self._file = new.open("wb", buffering=0)
        try:
            self._write(header.model_dump_json(exclude={"records"}))
            for record in finished:
                self.append(record)
            new.replace(path)
        except BaseException:
            self.close()
            raise

    def append(self, record: Record) -> None:
        """Write one record and wait until it is on disk.

        Raises:
            StoreError: the record cannot be written, for example because the disk is full; no part of it stays in the
                file.
        """
        self._write(record.model_dump_json())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: str) -> None:
        end_of_last_record = self._file.tell()
        data = line.encode() + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except BaseException as error:  # also an interruption: no part of a record stays in the file
            self._file.truncate(end_of_last_record)
            self._file.seek(end_of_last_record)
            if not isinstance(error, OSError):
                raise
            raise StoreError(
                f"{self.path}: cannot write the log: {error.strerror}; the records in it are complete: free some space "
                f"and continue with --resume {self.path}"
            ) from error


def to_stderr(notice: str) -> None:
    """Print a notice to standard error."""
    print(notice, file=sys.stderr)


def read_part(path: Path, notify: Notify = to_stderr) -> Run:
    """The run in the log of an interrupted run; an incomplete last line is ignored, and other lines as in ``load``.

    Raises:
        StoreError: as for ``load``; or the file is not a log.
    """
    if path.suffix != ".jsonl":
        raise StoreError(
            f"{path}: expected the log of a run (*{LOG_SUFFIX}); it is in the same folder as the run's JSON"
        )
    data = _bytes(path)
    return _from_log(path, data[: data.rfind(b"\n") + 1], notify)


def load(path: Path | str, notify: Notify = to_stderr) -> Run:
    """The run in a benchmark JSON (``pytest --benchmark-json``) or in a log (``*.jsonl``).

    A line of a log that is not a record, for example because it is cut off, is skipped.

    Args:
        path: the file.
        notify: is called with the numbers of the skipped lines, if there are any.

    Raises:
        StoreError: the file is missing, not a run, or of another schema version; a benchmark JSON is cut off; or the
            first line of a log, its header, is not readable.
    """
    path = Path(path)
    data = _bytes(path)
    return _from_log(path, data, notify) if path.suffix == ".jsonl" else _run(path, _from_benchmark(path, data))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot read it: {error.strerror}") from error


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: expected JSON text, found other bytes than UTF-8 at offset {error.start}") from error


def _run(path: Path, content: Any) -> Run:
    if not isinstance(content, dict):
        raise StoreError(f"{path}: expected a run as a JSON object, found {type(content).__name__}")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {version!r}; "
            "read it with the version of the harness that wrote it, or run the suites again"
        )
    try:
        return Run.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{path}: not a run: {where}: {first['msg']}") from error


def _from_benchmark(path: Path, data: bytes) -> Any:
    content = _parse(path, _text(path, data))
    if not isinstance(content, dict) or "harness" not in content:
        raise StoreError(
            f"{path}: expected a benchmark JSON with a 'harness' block, found none; "
            "write one with: pytest suites/ --benchmark-json=run.json"
        )
    return content["harness"]


def _from_log(path: Path, data: bytes, notify: Notify) -> Run:
    header, *lines = data.split(b"\n")  # not splitlines: a text in a record may have other line separators
    if not header:
        raise StoreError(f"{path}: expected a run's header on line 1, found an empty file")
    content = _parse(path, _text(path, header))
    run = _run(path, content | {"records": []} if isinstance(content, dict) else content)
    skipped = []
    for number, line in enumerate(lines, 2):
        if line.strip():
            try:
                run.records.append(Record.model_validate(json.loads(line.decode())))
            except (ValueError, RecursionError) as error:  # also pydantic's and json's errors, and bytes not in UTF-8
                message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                skipped.append(f"line {number} ({clean_text(message[:ERROR_LENGTH])})")
    if skipped:
        more = [f"and {len(skipped) - NAMED_LINES} more"] if len(skipped) > NAMED_LINES else []
        named = "; ".join([*skipped[:NAMED_LINES], *more])
        notify(f"{path}: skipped lines without a readable record ({len(skipped)}): {named}")
    return run


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise StoreError(
            f"{path}: expected JSON, found a syntax error at line {error.lineno}, column {error.colno} "
            f"({error.msg}); the file may be cut off. The log in the same folder (*{LOG_SUFFIX}) has every finished "
            "case"
        ) from error
