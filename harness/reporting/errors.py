"""Errors of approximations: beside the times of the same settings, and taken apart into bias and sampling error."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from harness import stats
from harness.record import Record
from harness.reporting.frame import Facets, each, views
from harness.reporting.tables import Cell, Table, with_facets
from harness.reporting.units import ABSENT, LEVEL_WORDS, Amount

FITTED = 3
"""Numbers of hashes that a fit takes: the largest ones, because the error of few hashes is not yet ~ 1 / sqrt(m)."""
_RESAMPLES = 200
Key = tuple[int, str, int, str, str]


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
    """Errors of the output by attention, length, dtype and device.

    Batch and heads do not enter: each head is alone.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._found: dict[Key, list[Record]] = {}
        for row in each(table[(table["kind"] == "quality") & (table["status"] == "ok")]):
            quality = row.record.quality
            if quality and quality.errors.get("output") and np.isfinite(quality.errors["output"]).all():
                self._found.setdefault(_key(row), []).append(row.record)

    def of(self, row: object) -> Joined | None:
        """The errors at the row's length and knobs; None where they were not measured."""
        record: Record = row.record  # type: ignore[attr-defined]
        for found in self._found.get(_key(row), []):
            shared = set(found.knobs) & set(record.knobs)
            same_size = getattr(found.spec, "head_dim", None) == getattr(record.spec, "head_dim", None)
            if same_size and all(found.knobs[name] == record.knobs[name] for name in shared) and found.quality:
                return Joined(found.quality.errors["output"], found.quality.reference)
        return None


def _key(row: object) -> Key:
    spec = row.record.spec  # type: ignore[attr-defined]
    return (row.run, spec.attention, spec.seq_len, spec.dtype, spec.device)  # type: ignore[attr-defined]


def hashed(rows: pd.DataFrame, what: str) -> dict[str, dict[int, list[float]]]:
    """Errors of ``what`` by number of hashes, ascending, by series.

    Left out are rows without hashes, and rows with an error that is not finite.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in each(rows):
        count = row.record.knobs.get("num_hash", row.record.spec.knobs.get("num_hash"))
        errors = row.record.quality.errors.get(what) if row.status == "ok" and row.record.quality else None
        if errors and isinstance(count, int) and np.isfinite(errors).all():
            found.setdefault(row.series, {})[count] = errors
    return {series: dict(sorted(line.items())) for series, line in sorted(found.items())}


def bias_and_sampling(table: pd.DataFrame) -> Table:
    """Mean square error fitted as ``bias^2 + variance / m`` over the largest numbers of hashes, by series."""
    rows: list[tuple[Facets, list[Cell]]] = []
    for facets, view in views(table, "quality").items():
        for series, line in hashed(view, "output").items():
            counts = sorted(line)[-FITTED:]
            if len(counts) < FITTED:
                reason = f"not enough numbers of hashes: {len(counts)}, {FITTED} are needed"
                rows.append((facets, [series, ABSENT, ABSENT, reason]))
                continue
            bias, sampling = _fit(line, counts)
            span = ", ".join(f"{count:,}" for count in counts)
            rows.append((facets, [series, bias, sampling, span]))
    columns = [
        "Attention", f"Bias [{LEVEL_WORDS}]", f"Sampling error at the most hashes [{LEVEL_WORDS}]", "Fitted over",
    ]  # fmt: skip
    return with_facets("Bias and sampling error of the output", columns, rows)


def _fit(line: dict[int, list[float]], counts: list[int]) -> tuple[Amount, Amount]:
    """Relative errors: what no number of hashes takes away, and what the largest number leaves of the rest."""
    rng = np.random.default_rng(0)
    squares = [np.square(line[count]) for count in counts]
    found = _solve(counts, [float(one.mean()) for one in squares])
    picks = [_solve(counts, [float(rng.choice(one, one.size).mean()) for one in squares]) for _ in range(_RESAMPLES)]
    single = any(one.size < 2 for one in squares)
    low, high = np.quantile(picks, [(1 - stats.LEVEL) / 2, (1 + stats.LEVEL) / 2], axis=0)
    bounds = [(None, None)] * 2 if single else [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    bias, sampling = (Amount(value, "fraction", *bound) for value, bound in zip(found, bounds, strict=True))
    return bias, sampling


def _solve(counts: list[int], means: list[float]) -> tuple[float, float]:
    weights = np.array([1 / max(mean, 1e-300) for mean in means])
    design = np.stack([weights, weights / np.array(counts)], axis=1)
    (bias, variance), _ = nnls(design, weights * np.array(means))
    return float(np.sqrt(bias)), float(np.sqrt(variance / counts[-1]))
