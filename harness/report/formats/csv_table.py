"""Rows of plain values as a CSV file."""

import csv
from collections.abc import Sequence
from pathlib import Path

from harness.core import escaping
from harness.report.model.plain_rows import PlainRow


def write(rows: Sequence[PlainRow], path: Path) -> None:
    """Write one line per row below a line of column names. None becomes an empty cell, and numbers keep every digit.
    Text is written so that no spreadsheet calculates it.

    Raises:
        OSError: ``path`` cannot be written.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["case"])
        writer.writeheader()
        writer.writerows({name: escaping.csv_cell(value) for name, value in row.items()} for row in rows)
