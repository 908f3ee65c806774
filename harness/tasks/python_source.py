"""Real text that is always at hand: the source of Python's own packages, cut by file into training and held-out."""

import hashlib
import platform
import sysconfig
import zlib
from functools import cache
from pathlib import Path

import numpy as np

from harness.tasks.task import Split

PACKAGES = ("asyncio", "email", "encodings", "http", "importlib", "multiprocessing", "unittest", "xml")
"""Packages that every Python from 3.11 on has."""
MIN_BYTES = 500
"""Shorter files are left out."""
NAME = f"Python {platform.python_version()} standard library"
File = tuple[str, bytes]


@cache
def files(package: str, split: Split) -> list[File]:
    """Names and contents of a package's files; a quarter of them, at least one, is held out.

    Raises:
        ValueError: this Python has no source of the package.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found = [(str(path.relative_to(root)), path.read_bytes()) for path in sorted((root / package).rglob("*.py"))]
    found = [(name, text) for name, text in found if len(text) >= MIN_BYTES and "/test/" not in name]
    found.sort(key=lambda file: zlib.crc32(file[0].encode()))
    held_out = max(1, len(found) // 4)
    if len(found) <= held_out:
        raise ValueError(
            f"this Python has no source of its package {package!r} ({len(found)} files); use a Python whose standard "
            "library has its .py files"
        )
    return found[:held_out] if split == "eval" else found[held_out:]


def passage(rng: np.random.Generator, file: File, length: int) -> bytes:
    """``length`` bytes from a random place of the file, or the whole file where it is shorter."""
    text = file[1]
    start = int(rng.integers(0, max(1, len(text) - length + 1)))
    return text[start : start + length]


def pick(rng: np.random.Generator, among: list[File]) -> int:
    """A random file's place in the list; long files are more likely, as their passages are more."""
    sizes = np.array([len(text) for _, text in among], dtype=np.float64)
    return int(rng.choice(len(among), p=sizes / sizes.sum()))


@cache
def sources() -> dict[str, str]:
    """The SHA-256 of all files, in order."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for split in ("train", "eval"):
            for name, text in files(package, split):
                digest.update(name.encode() + b"\0" + text)
    return {NAME: digest.hexdigest()}
