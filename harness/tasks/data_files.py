"""Real data sets as files in the user's data folder: where they are, and their checksums."""

import hashlib
import os
from functools import cache
from pathlib import Path

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
