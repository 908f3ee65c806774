"""Errors of approximations: beside the times of the same settings, and taken apart into bias and sampling error."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t

from harness.core.record import Record
from harness.report.model.records_table import Facets, each, views
from harness.report.model.tables import Cell, Table, with_facets
from harness.report.model.units import LEVEL_WORDS, Amount
from harness.statistics.intervals import LEVEL

Key = tuple[int, str, str, int, str, str]


@dataclass(frozen=True)
class Joined:
    """The errors that belong to a timed case."""

    errors: list[float]
    reference: str

    @property
    def median(self) -> float:
        """Over the draws."""
        return float(np.median(self.errors))


class Errors:
    """Errors of the output by kind of inputs, attention, length, dtype and device.

    Batch and heads do not enter: each head is alone.

    Attributes:
        inputs: the kinds of inputs that some error was measured on, in words (``harness.report.model.input_kinds``).
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._found: dict[Key, list[Record]] = {}
        for row in each(table[(table["kind"] == "quality") & (table["status"] == "ok")]):
            quality = row.record.quality
            if quality and quality.errors.get("output") and np.isfinite(quality.errors["output"]).all():
                self._found.setdefault(_key(row, dict(row.facets)["Inputs"]), []).append(row.record)
        self.inputs = sorted({inputs for _, inputs, *_ in self._found})

    def of(self, row: object, inputs: str) -> Joined | None:
        """The errors at the row's length and knobs on one kind of inputs; None where they were not measured."""
        record: Record = row.record  # type: ignore[attr-defined]
        for found in self._found.get(_key(row, inputs), []):
            shared = set(found.knobs) & set(record.knobs)
            same_size = getattr(found.spec, "head_dim", None) == getattr(record.spec, "head_dim", None)
            if same_size and all(found.knobs[name] == record.knobs[name] for name in shared) and found.quality:
                return Joined(found.quality.errors["output"], found.quality.reference)
        return None


def _key(row: object, inputs: str) -> Key:
    spec = row.record.spec  # type: ignore[attr-defined]
    return (row.run, inputs, spec.attention, spec.seq_len, spec.dtype, spec.device)  # type: ignore[attr-defined]


def by_budget(rows: pd.DataFrame, what: str) -> dict[str, dict[int, list[float]]]:
    """Errors of ``what`` by budget (number of hashes, features, landmarks), ascending, by series.

    Left out are rows without a budget, and rows with an error that is not finite.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in each(rows):
        budget = budget_of(row.record)
        errors = row.record.quality.errors.get(what) if row.status == "ok" and row.record.quality else None
        if errors and budget is not None and np.isfinite(errors).all():
            found.setdefault(row.series, {})[budget] = errors
    return {series: dict(sorted(line.items())) for series, line in sorted(found.items())}


def budget_of(record: Record) -> int | None:
    """What buys the record's accuracy, as it was used; None where its attention has no such knob."""
    knob = record.quality.budget if record.quality else None
    value = None if knob is None else (record.knobs | dict(record.spec.knobs)).get(knob)
    return value if isinstance(value, int) else None


def bias_and_sampling(table: pd.DataFrame) -> Table:
    """The output's error taken apart, by budget: what all draws share, and how far they are spread."""
    rows: list[tuple[Facets, list[Cell]]] = []
    for facets, view in views(table, "quality").items():
        for series, line in by_budget(view, "output").items():
            biases = _squared_biases(view, series)
            rows += [
                (facets, [series, Amount(m, "count"), *_apart(biases[m], errors), Amount(len(errors), "count")])
                for m, errors in line.items()
                if m in biases
            ]
    columns = ["Attention", "Budget", f"Bias [{LEVEL_WORDS}]", "Sampling error", "Draws"]
    return with_facets("Bias and sampling error of the output", columns, rows)


def _squared_biases(rows: pd.DataFrame, series: str) -> dict[int, list[float]]:
    """Of each draw, by budget; what older records do not have is left out."""
    found = {}
    for row in each(rows[rows["series"] == series]):
        biases = row.record.quality.squared_bias.get("output") if row.status == "ok" and row.record.quality else None
        budget = budget_of(row.record)
        if biases and budget is not None:
            found[budget] = biases
    return found


def _apart(biases: list[float], errors: list[float]) -> tuple[Amount, Amount]:
    """Relative bias with its interval, and the root mean square of what is left of the errors.

    A draw's value takes part in those of all others: the mean's standard error is twice that of independent values,
    which is too wide, never too narrow, where there is no bias.
    """
    draws = len(biases)
    mean = float(np.mean(biases))
    half = 2 * float(t.ppf((1 + LEVEL) / 2, draws - 1)) * float(np.std(biases, ddof=1)) / math.sqrt(draws)
    root = [math.sqrt(max(square, 0.0)) for square in (mean, mean - half, mean + half)]
    spread = math.sqrt(max(float(np.mean(np.square(errors))) - mean, 0.0))
    return Amount(root[0], "fraction", root[1], root[2]), Amount(spread, "fraction")
