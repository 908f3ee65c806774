"""The test files in parts for several machines, as ``pytest tests --part 2/4`` runs them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def files_of_part(part: str, files: Iterable[Path], seconds: Mapping[str, float]) -> set[Path]:
    """The test files of one of N parts that take about equally long; every file is in exactly one of them.

    Args:
        part: for example ``2/4``, the second of four.
        files: all test files.
        seconds: recorded durations by test id.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise pytest.UsageError(f"--part must be I/N with 1 <= I <= N, for example 2/4, got {part!r}")
    number, count = int(match[1]), int(match[2])
    took = dict.fromkeys(files, 0.0)
    for test, duration in seconds.items():
        path = ROOT / test.partition("::")[0]
        if path in took:
            took[path] += duration
    parts: list[set[Path]] = [set() for _ in range(count)]
    totals = [0.0] * count
    for path in sorted(took, key=lambda path: (-took[path], path)):  # the longest first, to the part that has least
        least = min(range(count), key=lambda index: (totals[index], len(parts[index]), index))
        parts[least].add(path)
        totals[least] += took[path]
    return parts[number - 1]
