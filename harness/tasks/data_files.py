"""Files of real data sets in the user's data folder, with their checksums."""

import hashlib
import os
from functools import cache
from pathlib import Path

DATA_DIR = "HARNESS_DATA_DIR"
"""The environment variable that names the folder; the suites' ``--data-dir`` sets it, also for other processes."""


def find(task: str, *names: str, how: str) -> Path:
    """The first of these files that is in the data folder.

    Args:
        task: whose data it is, for the error.
        names: paths below the data folder.
        how: where the data comes from, for the error.

    Raises:
        ValueError: no folder was given, or none of the files is there.
    """
    wanted = " or ".join(names)
    given = os.environ.get(DATA_DIR)
    if not given:
        raise ValueError(f"{task}: no data folder was given; put {wanted} into one ({how}) and name it by --data-dir")
    for name in names:
        if (Path(given) / name).is_file():
            return Path(given) / name
    raise ValueError(f"{task}: the data folder (--data-dir) has no {wanted}; get it: {how}")


def verify(task: str, path: Path, algorithm: str, expected: str) -> None:
    """Compare a file's checksum with the published one.

    Raises:
        ValueError: they differ.
    """
    found = checksum(path, algorithm)
    if found != expected:
        raise ValueError(
            f"{task}: {path.name} has the {algorithm} checksum {found}, expected {expected}; it is damaged or another "
            "version: download it again"
        )


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """Of the file's bytes, in hexadecimal."""
    stat = path.stat()
    return _checksum(path, algorithm, stat.st_size, stat.st_mtime_ns)


@cache
def _checksum(path: Path, algorithm: str, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
