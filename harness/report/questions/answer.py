"""The report's first paragraph: sentences made from records, each absent where its evidence is."""

from typing import Any

import numpy as np
import pandas as pd

from harness.report.model import units
from harness.report.model.records_table import STATUS_WORDS, each, times_by_length, views
from harness.report.model.sentence import Sentence, join, say
from harness.report.model.units import Amount
from harness.report.questions import scores, swap_verdicts
from harness.report.questions.errors import Errors, by_budget
from harness.report.questions.scaling import crossing_length, undecided
from harness.statistics import growth, intervals

SAMPLING = "yoso"
REFERENCES = ("sdpa", "softmax")
BUDGETS = (0.01, 0.1, 0.5)
"""Relative errors of the output that the answer names the fastest attention for."""
_TIE = "no clear difference"


def sentences(table: pd.DataFrame) -> list[Sentence]:
    """What one run says, most important first; empty where it says nothing."""
    operations = views(table, "operation")
    if not operations:
        return [*_errors(table), *_accuracy(table), *swap_verdicts.sentences(table)]
    setting, view = next(iter(operations.items()))
    kept = [pair for pair in setting if pair[0] != "Pass"]
    passes = {dict(facets)["Pass"]: rows for facets, rows in operations.items() if all(p in facets for p in kept)}
    return [
        *_longest(view, dict(setting)["Pass"]),
        *_within_budgets(view, Errors(table)),
        *_crossings(passes),
        *_memory(view),
        *_failed(view),
        *_errors(table),
        *_accuracy(table),
        *swap_verdicts.sentences(table),
        say(
            "Times and memory are of the attention alone: {}. Square brackets hold {} bootstrap intervals.",
            ", ".join(value for _, value in kept),
            Amount(intervals.LEVEL, "fraction", text=units.LEVEL_WORDS),
        ),
    ]


def _longest(view: pd.DataFrame, words: str) -> list[Sentence]:
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
        if row.seq_len == longest and row is not best and str(_against(row.time, best.time)) == _TIE
    ]
    tied = f" ({_TIE} to {', '.join(ties)})" if ties else ""
    said = [
        say(
            "At {} tokens the fastest exact softmax attention is {}: {} {}.",
            Amount(longest, "tokens"), best.series + tied, units.estimate(best.time, "s"), words,
        )
    ]  # fmt: skip
    ours = [row for row in timed if row.base == SAMPLING and row.seq_len == longest]
    if ours:
        row = min(ours, key=lambda row: row.time.value)
        time = units.estimate(row.time, "s")
        said.append(say("{} takes {} there, {}.", row.series, time, _against(row.time, best.time)))
    return said


def _within_budgets(view: pd.DataFrame, errors: Errors) -> list[Sentence]:
    """A sentence for each kind of inputs: what is good enough on one may be useless on the other."""
    return [sentence for inputs in errors.inputs for sentence in _within_budgets_on(inputs, view, errors)]


def _within_budgets_on(inputs: str, view: pd.DataFrame, errors: Errors) -> list[Sentence]:
    """The fastest attention of each budget, at the longest length where two or more have a time and an error."""
    found: dict[int, list[tuple[Any, float]]] = {}
    for row in each(view):
        joined = errors.of(row, inputs) if row.time is not None else None
        if joined is not None:
            found.setdefault(row.seq_len, []).append((row, joined.median))
    lengths = [length for length, rows in found.items() if len(rows) > 1]
    if not lengths:
        return []
    best: dict[str, list[Amount]] = {}
    whose: dict[str, Sentence] = {}
    for budget in BUDGETS:
        allowed = [pair for pair in found[max(lengths)] if pair[1] <= budget]
        name = ""
        if allowed:
            row, error = min(allowed, key=lambda pair: pair[0].time.value)
            name = row.series
            whose[name] = say("{} ({}, error {})", name, Amount(row.time.value, "s"), Amount(error, "number"))
        best.setdefault(name, []).append(Amount(budget, "fraction", text=f"{budget:.0%}"))
    parts = [
        say("within {}, {}", join(budgets, " and "), whose.get(name, "none of those measured"))
        for name, budgets in best.items()
    ]
    return [
        say(
            "Fastest at {} tokens by error budget (relative error of the output, against what it computes or "
            "estimates) on inputs that are {}: {}.",
            Amount(max(lengths), "tokens"), inputs, join(parts, "; "),
        )
    ]  # fmt: skip


def _crossings(passes: dict[str, pd.DataFrame]) -> list[Sentence]:
    said = []
    for words, view in passes.items():
        times = times_by_length(view)
        ours = [name for name in times if name.split(" (")[0] == SAMPLING]
        for name in ours:
            parts = [
                _crossing(growth.crossover(times[name], times[reference]), reference)
                for reference in REFERENCES
                if reference in times
            ]
            known = [part for part in parts if part]
            if known:
                said.append(say("{}, {} is {}.", words.capitalize(), name, join(known, " and ")))
    return said


def _crossing(answer: growth.Crossover | growth.NoAnswer, reference: str) -> Sentence | None:
    if isinstance(answer, growth.NoAnswer):
        return None
    span = say("{} to {}", Amount(answer.lengths[0], "tokens"), Amount(answer.lengths[-1], "tokens"))
    certain = not undecided(answer) if answer.length is not None else answer.agreement >= intervals.LEVEL
    if not certain:
        return say("too close to {} to call somewhere from {}", reference, span)
    if answer.length is not None:
        verdict = answer.verdict.split()[0]
        return say("{} than {} from about {} tokens", verdict, reference, crossing_length(answer))
    word = "faster" if answer.verdict == "faster everywhere" else "slower"
    return say("{} than {} at every measured length, {}", word, reference, span)


def _memory(view: pd.DataFrame) -> list[Sentence]:
    measured = view[view["peak_bytes"].notna()]
    if measured.empty:
        return []
    longest = int(measured["seq_len"].max())
    rows = sorted((row for row in each(measured) if row.seq_len == longest), key=lambda row: row.peak_bytes)
    parts = [say("{} {}", row.series, Amount(row.peak_bytes, "B")) for row in rows]
    return [say("Peak memory of the call at {} tokens: {}.", Amount(longest, "tokens"), join(parts))]


def _failed(view: pd.DataFrame) -> list[Sentence]:
    """Attentions that ran somewhere in this view, but not at its longest length."""
    longest = int(view["seq_len"].max())
    ran = set(view.loc[view["status"] == "ok", "series"])
    rows = [row for row in each(view[view["seq_len"] == longest]) if row.status != "ok" and row.series in ran]
    if not rows:
        return []
    parts = [f"{row.series} ({STATUS_WORDS[row.status]})" for row in rows]
    return [say("At {} tokens these gave no result: {}.", Amount(longest, "tokens"), ", ".join(parts))]


def _errors(table: pd.DataFrame) -> list[Sentence]:
    """Error of YOSO sampling from the fewest hashes to the most, in the setting with most results: a sentence for each
    kind of inputs."""
    for setting in views(table, "quality", without="Inputs").values():
        by_inputs = {dict(facets)["Inputs"]: view for facets, view in views(setting, "quality").items()}
        found = [sentence for inputs, view in sorted(by_inputs.items()) for sentence in _errors_on(inputs, view)]
        if found:
            return found
    return []


def _errors_on(inputs: str, view: pd.DataFrame) -> list[Sentence]:
    rows = view[(view["base"] == SAMPLING) & (view["status"] == "ok")]
    points = by_budget(rows, "output")
    if not points:
        return []
    reference, length = next((r.record.quality.reference, r.seq_len) for r in each(rows) if r.record.quality)
    said = []
    for series, line in points.items():
        parts = [
            say("{} with {} hashes", Amount(float(np.median(line[count])), "fraction"), Amount(count, "count"))
            for count in dict.fromkeys((min(line), max(line)))
        ]
        said.append(say("{} {}", series, join(parts, " and ")))
    template = "Relative error of the output against {}, at {} tokens, on inputs that are {}: {}."
    return [say(template, reference, Amount(length, "tokens"), inputs, join(said, "; "))]


def _accuracy(table: pd.DataFrame) -> list[Sentence]:
    said = []
    for task, view in scores.by_task(table):
        rows = scores.scored(view)
        if not rows:
            continue
        about = (scores.metric(rows), task, Amount(rows[0].seq_len, "tokens"))
        ranked = sorted(((float(np.mean(row.record.task.scores)), row) for row in rows), key=lambda pair: -pair[0])
        parts = [say("{} {}", row.series, Amount(score, "fraction")) for score, row in ranked]
        majority = Amount(max(row.record.task.majority for row in rows), "fraction")
        template = "Mean held-out {} on {} at {} tokens: {} (always naming the most frequent class gives {})."
        said.append(say(template, *about, join(parts), majority))
    return said


def _against(ours: intervals.Estimate, other: intervals.Estimate) -> Sentence:
    found = intervals.ratio(other, ours)
    if found.low is not None and found.high is not None and found.low <= 1 <= found.high:
        return Sentence(_TIE)
    if found.value >= 1:
        return say("{} times faster", Amount(found.value, "number"))
    return say("{} times slower", Amount(1 / found.value, "number"))
