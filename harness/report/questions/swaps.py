"""Trained models with another attention in the place of the one they were trained in: what it does to their score."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.core.record import Swapped, TaskResult
from harness.report.model import units
from harness.report.model.case_rows import Row
from harness.report.model.figures import Figure, Styles, Trace, band, figure, line, text
from harness.report.model.records_table import Facets, views
from harness.report.model.tables import Cell, Table, with_facets
from harness.report.model.units import Amount
from harness.report.questions import accuracy_plots, scores


class Place(NamedTuple):
    """One attention in the place of another; ``num_hash`` is None where it has no hashes, ``change`` without a score.

    ``series`` is the attention, with the knobs but ``num_hash`` that tell two swaps of one model apart. ``change`` is
    in points, a hundred to a whole score, paired by seed.
    """

    series: str
    num_hash: int | None
    score: Amount | None
    change: Amount | None
    seconds: Amount | None
    swapped: Swapped


def swapped(rows: pd.DataFrame) -> list[Any]:
    """The rows of trained models that were evaluated with another attention, too."""
    return [row for row in scores.scored(rows) if row.record.task.evaluated_with]


def places(row: Any) -> list[Place]:
    """The swaps of a row of ``swapped``, in the order of its record."""
    task: TaskResult = row.record.task
    return [_place(one, label, task) for one, label in zip(task.evaluated_with, _labels(task), strict=True)]


def looks(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The (label, base) pairs that ``style.assign`` needs beside the table's own."""
    return [(one.series, one.swapped.attention) for row in swapped(table) for one in places(row)]


def over_hashes(row: Any) -> dict[str, list[Place]]:
    """The swaps with hashes and a score, by series, fewest hashes first."""
    found: dict[str, list[Place]] = {}
    for one in sorted((one for one in places(row) if one.score and one.num_hash), key=lambda one: one.num_hash or 0):
        found.setdefault(one.series, []).append(one)
    return found


def hashes_figure(row: Any, styles: Styles) -> Figure:
    """Mean score against the number of hashes, and level the model's own; bands from the worst seed to the best."""
    task: TaskResult = row.record.task
    lines = over_hashes(row)
    counts = sorted({one.num_hash for its in lines.values() for one in its if one.num_hash})
    ends = [counts[0] / 1.3, counts[-1] * 1.3] if counts else []
    own = scores.score(task.scores, task.metric)
    words = f"<b>{text(row.series)}</b>, as it was trained<br>{own} over {len(task.scores)} seeds"
    level = line(row.series, styles, ends, [own.value] * len(ends), [words] * len(ends), [row.seq_len] * len(ends))
    worst, best = [min(task.scores)] * len(ends), [max(task.scores)] * len(ends)
    data: list[Trace] = [
        band(row.series, styles, ends, worst, best, [row.seq_len] * len(ends)), level | {"mode": "lines"},
    ]  # fmt: skip
    for series, its in lines.items():
        x, lengths = [one.num_hash or 0 for one in its], [row.seq_len] * len(its)
        by_seed = [one.swapped.scores for one in its]
        data.append(band(series, styles, x, list(map(min, by_seed)), list(map(max, by_seed)), lengths))
        y = [one.score.value for one in its if one.score]
        data.append(line(series, styles, x, y, [_words(row, one) for one in its], lengths))
    shapes, notes = accuracy_plots.baselines([row], level=True)
    ticks = {"tickvals": counts, "ticktext": [f"{m:,}" for m in counts]}
    return figure(
        data if counts else [], xaxis={"title": {"text": "number of hashes m"}, "type": "log", **ticks},
        yaxis=accuracy_plots.score_axis([row]), shapes=shapes, annotations=notes,
    )  # fmt: skip


def listing(table: pd.DataFrame) -> Table:
    """Every trained model as it is, and with each other attention in its place; what could not run has its reason."""
    found: list[tuple[Facets, list[Cell]]] = []
    refused = any(one.swapped.reason for row in swapped(table) for one in places(row))
    for facets, view in views(table, "task").items():
        for row in swapped(view):
            task: TaskResult = row.record.task
            score = scores.score(task.scores, task.metric)
            own: list[Cell] = [row.series, f"{row.series}, as trained", units.ABSENT, score]
            own += [units.ABSENT, Amount(len(task.scores), "count"), scores.seconds(task.eval_seconds) or units.ABSENT]
            found.append((facets, [*own, *([""] if refused else [])]))
            for one in places(row):
                hashes = Amount(one.num_hash, "count") if one.num_hash else None
                cells = [hashes, one.score, one.change, Amount(len(one.swapped.scores), "count"), one.seconds]
                shown: list[Cell] = [row.series, one.series, *(cell or units.ABSENT for cell in cells)]
                found.append((facets, [*shown, *([one.swapped.reason or ""] if refused else [])]))
    columns = [
        "Trained in", "Evaluated with", "Hashes", f"Score [{units.LEVEL_WORDS}]",
        f"Change in points [{units.LEVEL_WORDS}]", "Seeds", "Evaluation",
    ]  # fmt: skip
    return with_facets("", [*columns, *(["Why there is no score"] if refused else [])], found, implied="Shape")


def rows(table: pd.DataFrame, labels: Sequence[str]) -> list[Row]:
    """One row a swap as plain numbers in base units, for the CSV; what there is not is None."""
    found: list[Row] = []
    for row in swapped(table):
        for one in places(row):
            plain: Row = {
                "run": labels[row.run],
                "case": row.case_id,
                "trained_in": row.series,
                "evaluated_with": one.series,
                "num_hash": one.num_hash,
                "metric": row.record.task.metric,
                "seeds": len(one.swapped.scores),
                "reason": one.swapped.reason,
            }
            for name, amount in (("score", one.score), ("change_points", one.change), ("seconds", one.seconds)):
                plain[name] = amount.value if amount else None
                if name != "seconds":
                    plain |= {f"{name}_low": amount.low if amount else None,
                              f"{name}_high": amount.high if amount else None}  # fmt: skip
            found.append(plain)
    return found


def _labels(task: TaskResult) -> list[str]:
    """Of each swap: its attention, with the knobs that differ between its swaps of equally many hashes."""
    seen: dict[tuple[str, object, str], set[object]] = {}
    for one in task.evaluated_with:
        for name, value in one.knobs.items():
            seen.setdefault((one.attention, one.knobs.get("num_hash"), name), set()).add(value)
    differing = {(attention, name) for (attention, _, name), values in seen.items() if len(values) > 1}
    knobs = [
        ", ".join(f"{name}={value}" for name, value in sorted(one.knobs.items()) if (one.attention, name) in differing)
        for one in task.evaluated_with
    ]
    return [
        f"{one.attention} ({words})" if words else one.attention
        for one, words in zip(task.evaluated_with, knobs, strict=True)
    ]


def _place(one: Swapped, label: str, task: TaskResult) -> Place:
    hashes = one.knobs.get("num_hash")
    count = hashes if isinstance(hashes, int) and not isinstance(hashes, bool) and hashes > 0 else None
    if not one.scores or not np.isfinite(one.scores).all():
        return Place(label, count, None, None, None, one)
    score, change = scores.score(one.scores, task.metric), scores.change(one.scores, task.scores, task.metric)
    return Place(label, count, score, change, scores.seconds(one.eval_seconds), one)


def _words(row: Any, one: Place) -> str:
    each_ = ", ".join(units.percent(score) for score in one.swapped.scores)
    change = f"<br>{one.change} points from the model's own" if one.change else ""
    return (
        f"<b>{text(one.series)}</b> in the place of {text(row.series)}, m = {one.num_hash}<br>mean {one.score}"
        f"{change}<br>seeds: {each_}"
    )
