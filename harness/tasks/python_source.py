"""Real text that is always available: the source of Python's own packages, divided by file into train and held-out."""

import hashlib
import platform
import sysconfig
import zlib
from functools import cache
from pathlib import Path

import numpy as np

from harness.tasks.task import Split

PACKAGES = ("asyncio", "email", "encodings", "http", "importlib", "multiprocessing", "unittest", "xml")
"""Packages of every Python since 3.11."""
MIN_BYTES = 500
"""Shorter files are left out."""
NAME = f"Python {platform.python_version()} standard library"
SourceFile = tuple[str, bytes]
"""Name and content."""


@cache
def files(package: str, split: Split) -> list[SourceFile]:
    """Names and contents of a package's files. A quarter of the files, at least one, is held out.

    Raises:
        ValueError: this Python does not contain the source of the package.
    """
    root = Path(sysconfig.get_path("stdlib"))
    contents = [(str(path.relative_to(root)), path.read_bytes()) for path in sorted((root / package).rglob("*.py"))]
    contents = [(name, text) for name, text in contents if len(text) >= MIN_BYTES and "/test/" not in name]
    contents.sort(key=lambda file: zlib.crc32(file[0].encode()))
    held_out = max(1, len(contents) // 4)
    if len(contents) <= held_out:
        raise ValueError(
            f"this Python has no source of its package {package!r} ({len(contents)} files); use a Python whose "
            "standard library has its .py files"
        )
    return contents[:held_out] if split == "eval" else contents[held_out:]


def passage(rng: np.random.Generator, file: SourceFile, length: int) -> bytes:
    """``length`` bytes from a random place of the file, or the whole file if it is shorter."""
    text = file[1]
    start = int(rng.integers(0, max(1, len(text) - length + 1)))
    return text[start : start + length]


def pick(rng: np.random.Generator, among: list[SourceFile]) -> int:
    """A random index into the list. The probability is proportional to the file's size, so passages are uniform."""
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
