"""The report's first paragraph: sentences made from records, each absent where its evidence is."""

import numpy as np
import pandas as pd

from harness import stats
from harness.reporting import units
from harness.reporting.frame import each, times_by_length, views
from harness.reporting.plots import STATUS_WORDS, hashed
from harness.reporting.tables import crossing_length, undecided

SAMPLING = "yoso"
_TIE = "no clear difference"
REFERENCES = ("sdpa", "softmax")


def sentences(table: pd.DataFrame) -> list[str]:
    """What the run says, most important first; empty where it says nothing."""
    operations = views(table, "operation")
    if not operations:
        return [*_errors(table), *_accuracy(table)]
    setting, view = next(iter(operations.items()))
    kept = [pair for pair in setting if pair[0] != "Pass"]
    passes = {dict(facets)["Pass"]: rows for facets, rows in operations.items() if all(p in facets for p in kept)}
    return [
        *_longest(view, dict(setting)["Pass"]),
        *_crossings(passes),
        *_memory(view),
        *_failed(view),
        *_errors(table),
        *_accuracy(table),
        f"Times and memory are of the attention alone: {', '.join(value for _, value in kept)}. "
        f"Square brackets hold {units.LEVEL_WORDS} bootstrap intervals.",
    ]


def _longest(view: pd.DataFrame, words: str) -> list[str]:
    """The fastest exact attention at the longest length that one has a time for, and YOSO sampling beside it."""
    timed = [row for row in each(view) if row.time is not None]
    exact = [row for row in timed if row.exact]
    if not exact:
        return []
    longest = max(row.seq_len for row in exact)
    best = min((row for row in exact if row.seq_len == longest), key=lambda row: row.time.value)
    ties = [
        row.series
        for row in exact
        if row.seq_len == longest and row is not best and _against(row.time, best.time) == _TIE
    ]
    tied = f" ({_TIE} to {', '.join(ties)})" if ties else ""
    said = [
        f"At {units.length(longest)} tokens the fastest exact softmax attention is {best.series}{tied}: "
        f"{_time(best.time)} {words}."
    ]
    ours = [row for row in timed if row.base == SAMPLING and row.seq_len == longest]
    if ours:
        row = min(ours, key=lambda row: row.time.value)
        said.append(f"{row.series} takes {_time(row.time)} there, {_against(row.time, best.time)}.")
    return said


def _crossings(passes: dict[str, pd.DataFrame]) -> list[str]:
    said = []
    for words, view in passes.items():
        times = times_by_length(view)
        ours = [name for name in times if name.split(" (")[0] == SAMPLING]
        for name in ours:
            parts = [
                _crossing(stats.crossover(times[name], times[reference]), reference)
                for reference in REFERENCES
                if reference in times
            ]
            known = [part for part in parts if part]
            if known:
                said.append(f"{words.capitalize()}, {name} is {' and '.join(known)}.")
    return said


def _crossing(answer: stats.Crossover | stats.NoAnswer, reference: str) -> str | None:
    if isinstance(answer, stats.NoAnswer):
        return None
    span = f"{units.length(answer.lengths[0])} to {units.length(answer.lengths[-1])}"
    certain = not undecided(answer) if answer.length is not None else answer.agreement >= stats.LEVEL
    if not certain:
        return f"too close to {reference} to call somewhere from {span}"
    if answer.length is not None:
        return f"{answer.verdict.split()[0]} than {reference} from about {crossing_length(answer)} tokens"
    if answer.verdict == "faster everywhere":
        return f"faster than {reference} at every measured length, {span}"
    return f"slower than {reference} at every measured length, {span}"


def _memory(view: pd.DataFrame) -> list[str]:
    measured = view[view["peak_bytes"].notna()]
    if measured.empty:
        return []
    longest = int(measured["seq_len"].max())
    rows = sorted((row for row in each(measured) if row.seq_len == longest), key=lambda row: row.peak_bytes)
    parts = [f"{row.series} {units.bytes_(row.peak_bytes)}" for row in rows]
    return [f"Peak memory of the call at {units.length(longest)} tokens: {', '.join(parts)}."]


def _failed(view: pd.DataFrame) -> list[str]:
    """Attentions that ran somewhere in this view, but not at its longest length."""
    longest = view["seq_len"].max()
    ran = set(view.loc[view["status"] == "ok", "series"])
    rows = [row for row in each(view[view["seq_len"] == longest]) if row.status != "ok" and row.series in ran]
    if not rows:
        return []
    parts = [f"{row.series} ({STATUS_WORDS[row.status]})" for row in rows]
    return [f"At {units.length(longest)} tokens these gave no result: {', '.join(parts)}."]


def _errors(table: pd.DataFrame) -> list[str]:
    """Error of YOSO sampling from the fewest hashes to the most, in the setting with most results."""
    for facets, view in views(table, "quality").items():
        rows = view[(view["base"] == SAMPLING) & (view["status"] == "ok")]
        points = hashed(rows, "output")
        if not points:
            continue
        reference = next(row.record.quality.reference for row in each(rows) if row.record.quality)
        said = []
        for series, line in points.items():
            ends = dict.fromkeys((min(line), max(line)))
            parts = [f"{units.percent(float(np.median(line[count])))} with {count} hashes" for count in ends]
            said.append(f"{series} {' and '.join(parts)}")
        return [f"Relative error of the output against {reference}, at {dict(facets)['Length']}: {'; '.join(said)}."]
    return []


def _accuracy(table: pd.DataFrame) -> list[str]:
    said = []
    for facets, view in views(table, "task").items():
        rows = [row for row in each(view) if row.status == "ok" and row.record.task]
        if not rows:
            continue
        words = dict(facets)
        scores = sorted(((float(np.mean(row.record.task.scores)), row) for row in rows), key=lambda pair: -pair[0])
        parts = [f"{row.series} {units.percent(score)}" for score, row in scores]
        majority = max(row.record.task.majority for row in rows)
        said.append(
            f"Mean held-out accuracy on {words['Task']} at {words['Length']}: {', '.join(parts)} "
            f"(always naming the most frequent class gives {units.percent(majority)})."
        )
    return said


def _time(time: stats.Estimate) -> str:
    if time.low is None or time.high is None:
        return units.seconds(time.value)
    return f"{units.seconds(time.value)} [{units.seconds(time.low)}, {units.seconds(time.high)}]"


def _against(ours: stats.Estimate, other: stats.Estimate) -> str:
    found = stats.ratio(other, ours)
    if found.low is not None and found.high is not None and found.low <= 1 <= found.high:
        return _TIE
    if found.value >= 1:
        return f"{units.number(found.value)} times faster"
    return f"{units.number(1 / found.value)} times slower"
