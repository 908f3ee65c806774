"""Every case as one row of plain numbers in base units: what the CSV holds."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.core.spec import QualitySpec
from harness.report.model.records_table import each

Row = dict[str, str | int | float | bool | None]


def rows(table: pd.DataFrame, labels: Sequence[str]) -> list[Row]:
    """One row a record, failures included; what was not measured is None. Times are seconds, sizes bytes.

    Seconds and peak are those of what ``per`` names, a call or an instance (a call's over its batch).
    """
    return [_row(row, labels[row.run]) for row in each(table)]


def write_csv(found: Sequence[Row], path: Path) -> None:
    """A line a case under a line of names; what was not measured is an empty cell, numbers keep every digit."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]) if found else ["case"])
        writer.writeheader()
        writer.writerows(found)


def _row(row: Any, label: str) -> Row:
    record, time = row.record, row.time
    quality, task = record.quality, record.task
    facets = {name.lower(): value for name, value in row.facets if name not in {"Run", "Type", "Device", "Length"}}
    found: Row = {
        "run": label,
        "case": row.case_id,
        "level": row.kind,
        "attention": record.spec.attention,
        "series": row.series,
        "length": row.seq_len,
        "dtype": record.spec.dtype,
        "device": record.spec.device,
        "setting": "; ".join(facets.values()),
        "inputs": record.spec.inputs if isinstance(record.spec, QualitySpec) else None,
        "num_hash": record.knobs.get("num_hash"),
        "hash_code_len": record.knobs.get("hash_code_len"),
        "batch": record.spec.batch if row.per == "call" else record.batch,
        "per": row.per,
        "kernel": record.kernel,
        "status": record.status,
        "reasons": "; ".join(record.reasons),
        "seconds": time.value if time is not None else None,
        "seconds_low": time.low if time is not None else None,
        "seconds_high": time.high if time is not None else None,
        "samples": time.samples if time is not None else None,
        "clock": row.clock if time is not None else None,
        "peak_bytes": _finite(row.peak_bytes),
        "input_bytes": _finite(row.input_bytes),
        "parameters": record.parameters,
    }
    errors = quality.errors if quality else {}
    for what in ("output", "grad_q", "grad_k", "grad_v"):
        found[f"error_{what}"] = _finite(np.median(errors[what])) if errors.get(what) else None
    found["draws"] = len(errors["output"]) if errors.get("output") else None
    found["error_against"] = quality.reference if quality else None
    found["accuracy"] = float(np.mean(task.scores)) if task and task.scores else None
    found["seeds"] = len(task.scores) if task and task.scores else None
    found["training_seconds"] = float(np.median(task.train_seconds)) if task and task.train_seconds else None
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
