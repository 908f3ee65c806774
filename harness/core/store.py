"""Runs on disk: the benchmark JSON with its ``harness`` block, and the append-only log of the same records."""

import errno
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from harness.core import other_versions, stored_values
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

    While it is open no other run can write a log at its path: the second run would replace the file of the first.

    Args:
        path: the file; an existing one is replaced after all of ``finished`` is written to the new one.
        header: the run, or a function that returns it and is called when the path is known to be free, because it may
            measure the machine, which would disturb another run; the run's records are not written.
        finished: records that an interrupted part of the same run already has.

    Raises:
        StoreError: another run writes a log at this path, or the file cannot be written.
    """

    def __init__(self, path: Path, header: Run | Callable[[], Run], finished: Iterable[Record] = ()) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            old = _locked(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot write the log: {error.strerror}; choose another path") from error
        with old:
            self._header = (header() if callable(header) else header).model_dump_json(exclude={"records"})
            try:
                self._file = self._replaced(finished)
            except BaseException:
                if not path.stat().st_size:  # there was no log before
                    path.unlink()
                raise

    def append(self, record: Record) -> None:
        """Write one record and wait until it is on disk.

        Raises:
            StoreError: the record cannot be written, for example because the disk is full; no part of it stays in the
                file.
        """
        self._write(self._file, record.model_dump_json())

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace all records by these.

        Raises:
            StoreError: they cannot be written; the file has all that it had before, and more can be appended to it.
        """
        old = self._file
        self._file = self._replaced(records)
        _close(old)

    def close(self) -> None:
        """Close the file, so that another run may replace it."""
        _close(self._file)

    def _replaced(self, records: Iterable[Record]) -> IO[bytes]:
        """The open and locked file that has the place of the log now; a fault leaves the old one there."""
        new = self.path.with_name(self.path.name + ".new")  # no other run has this name, because the log is locked
        try:
            file = new.open("wb", buffering=0)
        except OSError as error:
            raise StoreError(f"{new}: cannot write the log: {error.strerror}") from error
        try:
            _lock(file)
            self._write(file, self._header)
            for record in records:
                self._write(file, record.model_dump_json())
            new.replace(self.path)
        except BaseException:
            _close(file)
            new.unlink(missing_ok=True)
            raise
        return file

    def _write(self, file: IO[bytes], line: str) -> None:
        end_of_last_record = file.tell()
        data = line.encode() + b"\n"
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except BaseException as error:  # also an interruption: no part of a record stays in the file
            file.truncate(end_of_last_record)
            file.seek(end_of_last_record)
            if not isinstance(error, OSError):
                raise
            raise StoreError(
                f"{self.path}: cannot write the log: {error.strerror}; the records in it are complete: free some space "
                f"and continue with --resume {self.path}"
            ) from error


def _close(file: IO[bytes]) -> None:
    if not file.closed:
        with suppress(OSError):  # a process that was forked from this one and still runs would keep the lock
            fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


def _locked(path: Path) -> IO[bytes]:
    """The file at this path, new and empty if there is none, locked by this process.

    Raises:
        StoreError: another process has locked it.
    """
    while True:
        file = path.open("ab")
        try:
            _lock(file)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BlockingIOError as error:
            file.close()
            raise StoreError(
                f"{path}: another run is writing this log; wait until it ends, or give this run another --out, "
                "--benchmark-json or --harness-log"
            ) from error
        file.close()  # the other run put another file at the path before this one had the lock


def _lock(file: IO[bytes]) -> None:
    """Lock a file until it is closed; a file system that has no locks is used without them."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
            raise


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

    A line of a log that is not a record, for example because it is cut off, is skipped. Fields that only a newer
    version of the harness knows are left out.

    Args:
        path: the file.
        notify: is called with the numbers of the skipped lines, and with the names of fields that were left out.

    Raises:
        StoreError: the file is missing, not a run, or of another schema version; a benchmark JSON is cut off; or the
            first line of a log, its header, is not readable; or a value is one that no run can have, see
            ``harness.core.stored_values``.
    """
    path = Path(path)
    data = _bytes(path)
    if path.suffix == ".jsonl":
        return _from_log(path, data, notify)
    return _run(path, _from_benchmark(path, data), notify)


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


def _run(path: Path, content: Any, notify: Notify) -> Run:
    if not isinstance(content, dict):
        raise StoreError(f"{path}: expected a run as a JSON object, found {type(content).__name__}")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {clean_text(ascii(version))[:ERROR_LENGTH]}; "
            "read it with the version of the harness that wrote it, or run the suites again"
        )
    fault = stored_values.first_fault(content)
    if fault is not None:
        raise StoreError(f"{path}: not a run: {fault}")
    try:
        run, unknown = other_versions.known_part(Run, content)
    except ValidationError as error:
        raise StoreError(f"{path}: not a run: {stored_values.first_type_fault(error)}") from error
    _notify_unknown(path, unknown, notify)
    return run


def _notify_unknown(path: Path, names: Iterable[str], notify: Notify) -> None:
    known = list(dict.fromkeys(clean_text(name)[:ERROR_LENGTH] for name in names))
    if known:
        more = [f"and {len(known) - NAMED_LINES} more"] if len(known) > NAMED_LINES else []
        notify(
            f"{path}: left out fields that this version of the harness does not know: "
            + ", ".join([*known[:NAMED_LINES], *more])
        )


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
    run = _run(path, content | {"records": []} if isinstance(content, dict) else content, notify)
    skipped: list[str] = []
    unknown: list[str] = []
    for number, line in enumerate(lines, 2):
        if line.strip():
            try:
                record, names = _record(line)
            except (ValueError, RecursionError) as error:  # also pydantic's and json's errors, and bytes not in UTF-8
                skipped.append(f"line {number} ({_reason(error)})")
            else:
                run.records.append(record)
                unknown += names
    if skipped:
        more = [f"and {len(skipped) - NAMED_LINES} more"] if len(skipped) > NAMED_LINES else []
        named = "; ".join([*skipped[:NAMED_LINES], *more])
        notify(f"{path}: skipped lines without a readable record ({len(skipped)}): {named}")
    _notify_unknown(path, unknown, notify)
    return run


def _record(line: bytes) -> tuple[Record, list[str]]:
    content = json.loads(line.decode())
    fault = stored_values.first_fault(content)
    if fault is not None:
        raise ValueError(fault)
    return other_versions.known_part(Record, content)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return stored_values.first_type_fault(error)
    message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return clean_text(message[:ERROR_LENGTH])


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise StoreError(
            f"{path}: expected JSON, found a syntax error at line {error.lineno}, column {error.colno} "
            f"({error.msg}); the file may be cut off. The log in the same folder (*{LOG_SUFFIX}) has every finished "
            "case"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets nested too deep
        raise StoreError(f"{path}: expected the JSON of a run, but it cannot be parsed: {_reason(error)}") from error
