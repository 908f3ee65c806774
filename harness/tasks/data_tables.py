"""Reads the tables of real data sets: csv, tsv, parquet, json and jsonl.

Nothing is guessed: text is what the file has, and a value of another kind than its column's is refused with its place.
A reader that infers types from the values would make the text ``012`` the number 12, and a missing value the text
``None``.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_LONGEST_FIELD = 2**27
"""Characters of a field of a csv file; Python's own limit is shorter than a paper."""
_SHOWN = 40
"""Characters of a wrong value that an error shows."""


class Table:
    """The rows of a file, by column. Each method raises ValueError with the place of a value that is of another kind.

    Args:
        name: the task and the file, for errors.
        unit: what the places count: ``line``, ``row`` or ``entry``.
        places: the place of each row, from 1.
        columns: the values by column, as the file has them: text in csv and tsv, None where there is none.
    """

    def __init__(self, name: str, unit: str, places: Sequence[int], columns: dict[str, list[Any]]) -> None:
        self._name, self._unit, self._places, self._columns = name, unit, places, columns

    def __len__(self) -> int:
        return len(self._places)

    def texts(self, column: str) -> list[bytes]:
        """Text, which may be empty, in UTF-8."""
        return [self._text(column, index, value) for index, value in enumerate(self._columns[column])]

    def labels(self, column: str) -> list[int]:
        """Whole numbers, also where they are written as ``1.0``."""
        return [self._number(column, index, value, whole=True) for index, value in enumerate(self._columns[column])]

    def numbers(self, column: str) -> list[float]:
        """Finite numbers."""
        return [self._number(column, index, value, whole=False) for index, value in enumerate(self._columns[column])]

    def _text(self, column: str, index: int, value: object) -> bytes:
        if isinstance(value, str):
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise self._wrong(column, index, "text that is Unicode", value) from None
        raise self._wrong(column, index, "text", value)

    def _number(self, column: str, index: int, value: object, whole: bool) -> Any:
        number = as_number(value)
        if number is None or (whole and not number.is_integer()):
            raise self._wrong(column, index, "a whole number" if whole else "a finite number", value)
        return int(number) if whole else number

    def _wrong(self, column: str, index: int, expected: str, value: object) -> ValueError:
        place = f"{self._name}: {self._unit} {self._places[index]}"
        return ValueError(f"{place}: {column!r} must be {expected}, got {shown(value)}; download the original file")


def as_number(value: object) -> float | None:
    """A number of a file, also as text; None if the value is not one, or not finite."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def shown(value: object) -> str:
    """A value in an error, in one line."""
    text = "no value" if value is None else ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def read(task: str, path: Path, columns: Sequence[str]) -> Table:
    """The given columns of a table.

    Raises:
        ValueError: the file cannot be read, lacks a column, or has no rows or a row with too many or too few values.
    """
    name = f"{task}: {path.name}"
    try:
        if path.suffix == ".parquet":
            unit, rows = "row", _parquet(name, path)
        else:
            text = _decoded(path.read_bytes())
            if path.suffix in (".json", ".jsonl"):
                unit, rows = ("entry", _entries(text)) if text.lstrip().startswith("[") else ("line", _lines(text))
            else:
                unit, rows = "line", _separated(text, "\t" if path.suffix == ".tsv" else ",")
        numbered = list(rows)
    except (_BadTable, OSError) as error:
        raise ValueError(
            f"{name} cannot be read as a table in the format of its suffix: {error}; download it again"
        ) from error
    if not numbered:
        raise ValueError(f"{name} has no rows; download the original file")
    found = list(dict.fromkeys(column for _, row in numbered for column in row))
    missing = [column for column in columns if column not in found]
    if missing:
        raise ValueError(f"{name} has no column {missing}; it has {found}: download the original file")
    values = {column: [row.get(column) for _, row in numbered] for column in columns}
    return Table(name, unit, [place for place, _ in numbered], values)


class _BadTable(Exception):
    """A file is not a table of its format; the message says where and why."""


_Rows = Iterator[tuple[int, dict[str, Any]]]
"""Place and values by column of each row."""


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")  # some programs begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _BadTable(f"line {line} has the byte {data[error.start]:#04x}, which is not UTF-8") from error


def _separated(text: str, separator: str) -> _Rows:
    """Rows of csv, where a field in quotes may have separators and line breaks; or of tsv, where quotes are text."""
    header: list[str] | None = None
    for line, fields in _quoted(text) if separator == "," else _unquoted(text):
        if header is None:
            header = fields
            if len(set(header)) < len(header):
                raise _BadTable(f"two columns have one name: {header}")
        elif len(fields) != len(header):
            raise _BadTable(f"line {line} has {len(fields)} fields, and line 1, the header, has {len(header)}")
        else:
            yield line, dict(zip(header, fields, strict=True))


def _unquoted(text: str) -> Iterator[tuple[int, list[str]]]:
    for line, content in enumerate(text.split("\n"), 1):
        if fields := content.removesuffix("\r"):
            yield line, fields.split("\t")


def _quoted(text: str) -> Iterator[tuple[int, list[str]]]:
    limit = csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise _BadTable(f"line {line}: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _lines(text: str) -> _Rows:
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            yield line, _object(f"line {line}", _parsed(f"line {line}", content))


def _entries(text: str) -> _Rows:
    for number, entry in enumerate(_parsed("the list", text), 1):
        yield number, _object(f"entry {number}", entry)


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _BadTable(f"{where}: {error}") from error


def _object(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _BadTable(f"{where} is no object with the columns as keys")
    return value


def _parquet(name: str, path: Path) -> _Rows:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            f'{name}: pyarrow, which reads parquet, is not installed; run `pip install "yoso-harness[tasks]"`'
        ) from error
    try:
        rows = parquet.ParquetFile(path).read().to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise _BadTable(" ".join(str(error).split())) from error
    yield from enumerate(rows, 1)
