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
    """A file is not a run: what was expected, what came, and what to do."""


class Log:
    """An append-only log: the run's header on the first line, then one record a line, each on disk when it returns.

    Args:
        path: the file; an old one is replaced, once the new one has all of ``finished``.
        header: the run without records.
        finished: records of the same run that are there already.
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
            StoreError: it cannot be written, because the disk is full for example; nothing of it is left in the file.
        """
        self._write(record.model_dump_json())

    def close(self) -> None:
        """No more records."""
        self._file.close()

    def _write(self, line: str) -> None:
        good = self._file.tell()
        data = line.encode() + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(good)
            self._file.seek(good)
            raise StoreError(
                f"{self.path}: cannot write the log: {error.strerror}; what is in it is complete: make room and go on "
                f"with --resume {self.path}"
            ) from error


def read_part(path: Path) -> Run:
    """The complete lines of a log that was broken off; a last line that was cut off is left out.

    Raises:
        StoreError: as for ``load``; or the file is no log.
    """
    if path.suffix != ".jsonl":
        raise StoreError(f"{path}: expected the log of a run (*{LOG_SUFFIX}), which is beside its JSON")
    text = _text(path)
    return _run(path, _from_log(path, text[: text.rfind("\n") + 1]))


def load(path: Path | str) -> Run:
    """The run in a benchmark JSON (``pytest --benchmark-json``) or in a log (``*.jsonl``).

    Raises:
        StoreError: the file is missing, cut off, of another tool or of another schema version.
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
        raise StoreError(f"{path}: expected JSON text, found other bytes at {error.start}") from error


def _run(path: Path, found: Any) -> Run:
    if not isinstance(found, dict):
        raise StoreError(f"{path}: expected a run as a JSON object, found {type(found).__name__}")
    version = found.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {version!r}; "
            "read it with the harness that wrote it, or run the suites again"
        )
    try:
        return Run.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{path}: not a run: {where}: {first['msg']}") from error


def _from_benchmark(path: Path, text: str) -> Any:
    whole = _parse(path, text, 1)
    if not isinstance(whole, dict) or "harness" not in whole:
        raise StoreError(
            f"{path}: expected a benchmark JSON with a 'harness' block, found none; "
            "write one with: pytest suites/ --benchmark-json=run.json"
        )
    return whole["harness"]


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
            f"{path}: expected JSON, found a fault at line {line + error.lineno - 1}, column {error.colno} "
            f"({error.msg}); is the file cut off? The log beside it (*{LOG_SUFFIX}) has every finished case, and a "
            "last line that is cut off there can be deleted"
        ) from error
