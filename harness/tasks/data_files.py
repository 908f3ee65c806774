"""Real data sets as files in the user's data folder: where they are, their checksums, and reading tables.

Tables are read by the ``datasets`` library: csv, tsv, parquet, json and jsonl.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DATA_DIR = "HARNESS_DATA_DIR"
"""The environment variable that names the folder. The suites' ``--data-dir`` sets it, also for other processes."""
TABLE_SUFFIXES = ("parquet", "tsv", "csv", "json", "jsonl")


def find(task: str, *names: str, source: str) -> Path:
    """The first of these files that is in the data folder.

    Args:
        task: the task whose data it is, for the error message.
        names: paths relative to the data folder.
        source: where to download the data, for the error message.

    Raises:
        ValueError: no data folder is set, or it contains none of the files.
    """
    wanted = " or ".join(names)
    folder = os.environ.get(DATA_DIR)
    if not folder:
        raise ValueError(
            f"{task}: no data folder was given; put {wanted} (from {source}) into a folder and pass it as --data-dir"
        )
    for name in names:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise ValueError(f"{task}: the data folder (--data-dir) does not contain {wanted}; download it from {source}")


def find_table(task: str, stem: str, source: str) -> Path:
    """As ``find``, for the table ``stem`` with any of ``TABLE_SUFFIXES``."""
    return find(task, *(f"{stem}.{suffix}" for suffix in TABLE_SUFFIXES), source=source)


def verify(task: str, path: Path, algorithm: str, expected: str) -> None:
    """Compare a file's checksum with the published one.

    Raises:
        ValueError: they differ.
    """
    actual = checksum(path, algorithm)
    if actual != expected:
        raise ValueError(
            f"{task}: {path.name} has the {algorithm} checksum {actual}, expected {expected}; it is damaged or another "
            "version: download it again"
        )


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of the file's bytes, in hexadecimal."""
    stat = path.stat()
    return _checksum(path, algorithm, stat.st_size, stat.st_mtime_ns)


@cache
def _checksum(path: Path, algorithm: str, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


Cell = str | int | float | None
"""What a column of a data set can hold."""


def read_table(task: str, path: Path, columns: Sequence[str]) -> dict[str, list[Cell]]:
    """The given columns of a table.

    Raises:
        ValueError: the ``datasets`` library is missing, the file cannot be read, or it lacks a column.
    """
    if find_spec("datasets") is None:
        raise ValueError(
            f"{task}: the datasets library, which reads {path.name}, is not installed; run "
            '`pip install "yoso-harness[tasks]"`'
        )
    formats: dict[str, tuple[str, dict[str, Any]]] = {
        "parquet": ("parquet", {}),
        "tsv": ("csv", {"sep": "\t", "quoting": 3, "keep_default_na": False}),
        "csv": ("csv", {"keep_default_na": False}),
        "json": ("json", {}),
        "jsonl": ("json", {}),
    }
    loader, options = formats[path.suffix.removeprefix(".")]
    table = _load_table(task, path, loader, options)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{task}: {path.name} has no column {missing}; it has {table.column_names}: download the original file"
        )
    return {name: list(table[name]) for name in columns}


def _load_table(task: str, path: Path, loader: str, options: dict[str, Any]) -> Any:
    import datasets
    from pyarrow import ArrowInvalid

    bars_enabled = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory(prefix="harness-datasets-") as cache_folder:
            return datasets.load_dataset(
                loader, data_files=str(path), split="train", cache_dir=cache_folder, keep_in_memory=True, **options
            )
    except (datasets.exceptions.DatasetGenerationError, ArrowInvalid) as error:
        reason = error.__cause__ or error
        raise ValueError(
            f"{task}: {path.name} cannot be read as a table in the format of its suffix: {reason}; download it again"
        ) from error
    finally:
        if bars_enabled:
            datasets.enable_progress_bars()
