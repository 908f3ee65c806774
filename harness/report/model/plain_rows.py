"""Every case as one row of plain numbers in base units, for the CSV file and the page's JSON."""

from collections.abc import Sequence

import numpy as np

from harness.core.spec import QualitySpec
from harness.report.model.records_table import ReportRow

PlainRow = dict[str, str | int | float | bool | None]
"""Values by column; None where a value was not measured."""


def plain_rows(rows: Sequence[ReportRow], run_labels: Sequence[str]) -> list[PlainRow]:
    """One row per record, failures included. Times are in seconds, sizes in bytes.

    ``seconds`` and ``peak_bytes`` are per call or per instance, as the column ``per`` says (per instance: the value of
    the call divided by its batch).
    """
    return [_plain_row(row, run_labels[row.run]) for row in rows]


def _plain_row(row: ReportRow, run_label: str) -> PlainRow:
    record, time = row.record, row.time
    quality, task = record.quality, record.task
    setting = [value for name, value in row.facets if name not in {"Run", "Type", "Device", "Length"}]
    plain: PlainRow = {
        "run": run_label,
        "case": row.case_id,
        "level": row.kind,
        "attention": record.spec.attention,
        "series": row.series,
        "length": row.seq_len,
        "dtype": record.spec.dtype,
        "device": record.spec.device,
        "setting": "; ".join(setting),
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
        "clock": row.clock,
        "peak_bytes": row.peak_bytes,
        "input_bytes": row.input_bytes,
        "parameters": record.parameters,
    }
    errors = quality.errors if quality else {}
    for name in ("output", "grad_q", "grad_k", "grad_v"):
        plain[f"error_{name}"] = float(np.median(errors[name])) if errors.get(name) else None
    plain["draws"] = len(errors["output"]) if errors.get("output") else None
    plain["error_against"] = quality.reference if quality else None
    plain["accuracy"] = float(np.mean(task.scores)) if task and task.scores else None
    plain["seeds"] = len(task.scores) if task and task.scores else None
    plain["training_seconds"] = float(np.median(task.train_seconds)) if task and task.train_seconds else None
    return plain
