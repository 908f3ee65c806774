"""Scores of trained models: means over seeds with their intervals, and changes paired by seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.report.model import units
from harness.report.model.records_table import Facets, each, views
from harness.report.model.tables import Cell, Table, with_facets
from harness.report.model.units import Amount
from harness.statistics import intervals

REFERENCE = "softmax"
"""The attention whose scores the others' are compared with."""
_TWINS = {REFERENCE, "sdpa"}
_DOWN_TO_MINUS_1 = {"matthews", "spearman"}


def scored(rows: pd.DataFrame) -> list[Any]:
    """The rows that have scores, all of them finite numbers."""
    tasks = [row for row in each(rows) if row.status == "ok" and row.record.task and row.record.task.scores]
    return [row for row in tasks if np.isfinite(row.record.task.scores).all()]


def metric(rows: Sequence[Any]) -> str:
    """What the scores of rows that have some are, in words: their metric, or "score" where they have several."""
    names = {row.record.task.metric.replace("_", " ") for row in rows}
    return names.pop() if len(names) == 1 else "score"


def by_task(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each setting of a task, with the task's name; its model is named where tasks have several."""
    found = views(table, "task")
    several = len({dict(facets)["Model"] for facets in found}) > 1
    words = [dict(facets) for facets in found]
    names = [f"{one['Task']} in {one['Model']}" if several else one["Task"] for one in words]
    return list(zip(names, found.values(), strict=True))


def score(values: list[float], metric: str) -> Amount:
    """The mean of one model's scores, one a seed."""
    return _amount(values, "fraction", _least(metric), 1.0)


def change(after: list[float], before: list[float], metric: str) -> Amount | None:
    """The mean change in points, a hundred to a whole score, of scores of the same seeds; None of unequally many."""
    if len(after) != len(before):
        return None
    most = 100 * (1 - _least(metric))
    return _amount([100 * (a - b) for a, b in zip(after, before, strict=True)], "points", -most, most)


def seconds(values: list[float]) -> Amount | None:
    """The median seed's; None where there is none."""
    return Amount(float(np.median(values)), "s") if values else None


def listing(table: pd.DataFrame) -> Table:
    """Every trained model's score, with its change from the model that softmax attention was trained in."""
    found: list[tuple[Facets, list[Cell]]] = []
    for facets, view in views(table, "task").items():
        rows = sorted(scored(view), key=lambda row: -float(np.mean(row.record.task.scores)))
        reference = next((row for row in rows if row.base == REFERENCE), None)
        for row in rows:
            task = row.record.task
            cells = [score(task.scores, task.metric), _against(row, reference), Amount(len(task.scores), "count")]
            cells += [Amount(max(task.chance, task.majority), "fraction"), seconds(task.train_seconds)]
            cells += [Amount(row.peak_bytes, "B") if row.peak_bytes == row.peak_bytes else None]
            found.append((facets, [row.series, *(cell or units.ABSENT for cell in cells)]))
    columns = [
        "Attention", f"Score [{units.LEVEL_WORDS}]", f"Points from softmax [{units.LEVEL_WORDS}]", "Seeds",
        "Baseline", "Training", "Peak memory",
    ]  # fmt: skip
    return with_facets("Trained here", columns, found, implied="Shape")


def noise(table: pd.DataFrame) -> str:
    """What tells a comparison's noise, where one attention was trained in two implementations; empty otherwise."""
    if not {row.base for row in scored(table)} >= _TWINS:
        return ""
    return f"{' and '.join(sorted(_TWINS))} are one attention: the change from one to the other is noise. "


def _against(row: Any, reference: Any) -> Amount | None:
    """Only scores of the same seeds are paired."""
    if reference is None or row is reference or row.record.spec.seed != reference.record.spec.seed:
        return None
    return change(row.record.task.scores, reference.record.task.scores, row.record.task.metric)


def _amount(values: list[float], unit: units.Unit, least: float, most: float) -> Amount:
    """The mean over seeds; Student's interval is cut at what there can be, which few seeds reach far beyond."""
    found = intervals.seed_mean(values)
    if found.low is None or found.high is None:
        return Amount(found.mean, unit)
    return Amount(found.mean, unit, max(found.low, least), min(found.high, most))


def _least(metric: str) -> float:
    return -1.0 if metric in _DOWN_TO_MINUS_1 else 0.0
