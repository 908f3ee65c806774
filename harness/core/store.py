"""Runs on disk: the benchmark JSON with its ``harness`` block, and the append-only log of the same records."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.record import SCHEMA_VERSION, Record, Run

LOG_SUFFIX = ".log.jsonl"


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
        except OSError as error:
            self._file.truncate(end_of_last_record)
            self._file.seek(end_of_last_record)
            raise StoreError(
                f"{self.path}: cannot write the log: {error.strerror}; the records in it are complete: free some space "
                f"and continue with --resume {self.path}"
            ) from error


def read_part(path: Path) -> Run:
    """The run in the log of an interrupted run; an incomplete last line is ignored.

    Raises:
        StoreError: as for ``load``; or the file is not a log.
    """
    if path.suffix != ".jsonl":
        raise StoreError(
            f"{path}: expected the log of a run (*{LOG_SUFFIX}); it is in the same folder as the run's JSON"
        )
    text = _text(path)
    return _run(path, _from_log(path, text[: text.rfind("\n") + 1]))


def load(path: Path | str) -> Run:
    """The run in a benchmark JSON (``pytest --benchmark-json``) or in a log (``*.jsonl``).

    Raises:
        StoreError: the file is missing, cut off, not a run, or of another schema version.
    """
    path = Path(path)
    text = _text(path)
    return _run(path, _from_log(path, text) if path.suffix == ".jsonl" else _from_benchmark(path, text))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise StoreError(f"{path}: cannot read it: {error.strerror}") from error
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


def _from_benchmark(path: Path, text: str) -> Any:
    content = _parse(path, text, 1)
    if not isinstance(content, dict) or "harness" not in content:
        raise StoreError(
            f"{path}: expected a benchmark JSON with a 'harness' block, found none; "
            "write one with: pytest suites/ --benchmark-json=run.json"
        )
    return content["harness"]


def _from_log(path: Path, text: str) -> Any:
    lines = text.splitlines()
    if not lines:
        raise StoreError(f"{path}: expected a run's header on line 1, found an empty file")
    header, *records = [_parse(path, line, number) for number, line in enumerate(lines, 1)]
    return header | {"records": records} if isinstance(header, dict) else header


def _parse(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise StoreError(
            f"{path}: expected JSON, found a syntax error at line {line + error.lineno - 1}, column {error.colno} "
            f"({error.msg}); the file may be cut off. The log in the same folder (*{LOG_SUFFIX}) has every finished "
            "case; delete its last line if that is cut off"
        ) from error
