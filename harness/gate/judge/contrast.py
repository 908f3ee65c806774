"""From the records of one case on both sides to the effect of one metric."""

import math
from collections.abc import Sequence

import numpy as np

from harness.core.record import Record, Timing
from harness.gate.judge.gated_metrics import Metric
from harness.statistics import meta_analysis
from harness.statistics.meta_analysis import MIN_ROUNDS, MIN_SAMPLES, Effect

Turns = Sequence[Sequence[float]]
"""Samples of one process, by turn; a process that took no turns has one."""


def of_records(
    metric: Metric,
    base: Sequence[Record],
    head: Sequence[Record],
    interleaved: bool,
    level: float,
) -> Effect | str:
    """The effect; or, in words, why the samples are too few for one.

    Args:
        metric: what is compared; all records have it.
        base: records of one case, one a process, in the order of the rounds; status ok.
        head: the same of head.
        interleaved: the k-th rounds of both were taken in turns.
        level: of the interval.
    """
    seed = f"{base[0].case_id} {metric.name}"
    if metric.replicate == "draw":
        return _draws(metric, metric.read(base[0]) or [], metric.read(head[0]) or [], level, seed)
    sides = [[_turns(metric, record) for record in records] for records in (base, head)]
    return of_rounds(metric, sides[0], sides[1], interleaved, level, seed)


def of_rounds(
    metric: Metric,
    base: Sequence[Turns],
    head: Sequence[Turns],
    interleaved: bool,
    level: float,
    seed: str,
) -> Effect | str:
    """As ``of_records``, from samples by round and turn."""
    for side, name in ((base, "base"), (head, "head")):
        few = min(sum(map(len, turns)) for turns in side)
        if metric.name == "time" and not interleaved and len(side) < MIN_ROUNDS and few < MIN_SAMPLES:
            return f"too few samples: {name} has {few} in a process, {MIN_SAMPLES} are needed"
    rounds = min(len(base), len(head))
    if interleaved:
        both = [difference(metric, *one) for one in zip(base, head, strict=False)]
        if rounds == 1:
            return meta_analysis.alone(*both[0], metric.spread, rounds, level)
        errors = [math.hypot(error, metric.spread, metric.spread) for _, error in both]
        return meta_analysis.paired([value for value, _ in both], errors, level, seed)
    figures = [np.array([_figure(metric, turns) for turns in side]) for side in (base, head)]
    if rounds >= MIN_ROUNDS:
        return meta_analysis.independent(figures[0], figures[1], level, seed)
    within = [_joint([_bootstrap(metric, turns, seed) for turns in side]) for side in (base, head)]
    gap = float(figures[1].mean() - figures[0].mean())
    return meta_analysis.alone(gap, math.hypot(*within), metric.spread_apart, rounds, level)


def difference(metric: Metric, base: Turns, head: Turns) -> tuple[float, float]:
    """Head minus base in one round, and its standard error: the middle of the neighbouring turns' differences.

    What disturbs a machine for longer than a turn is in both and cancels. What hits one turn is at an end, and a
    quarter of the pairs is left out at each.
    """
    pairs = [_figure(metric, [h]) - _figure(metric, [b]) for b, h in zip(base, head, strict=False)]
    return meta_analysis.middle(pairs)


def _bootstrap(metric: Metric, turns: Turns, seed: str) -> float:
    """Standard error of one process's figure, as if its samples were independent; the rest is in the spread."""
    samples = [value for turn in turns for value in turn]
    if len(samples) < 2:
        return 0.0
    figures = meta_analysis.resamples(samples, seed, meta_analysis.ERROR_RESAMPLES).min(axis=1)
    return float((np.log(figures) if metric.scale == "ratio" else figures).std())


def _joint(errors: Sequence[float]) -> float:
    """Standard error of the mean of as many figures."""
    return math.hypot(*errors) / len(errors)


def _draws(metric: Metric, base: list[float], head: list[float], level: float, seed: str) -> Effect | str:
    """Draws have their seeds in common, so that unchanged code gives the same ones."""
    if len(base) != len(head):
        return f"other draws: base has {len(base)}, head {len(head)}"
    differences = [_figure(metric, [[b]]) - _figure(metric, [[a]]) for a, b in zip(base, head, strict=True)]
    if len(differences) > 1:
        return meta_analysis.paired(differences, [0.0] * len(differences), level, seed)
    if metric.scale == "ratio" or differences == [0.0]:
        # A single draw that changed: an exact attention's error above rounding has no chance in it.
        return Effect(differences[0], differences[0], differences[0], 0.0, math.inf, 1)
    return "too few draws: one a side, and they differ; 2 are needed"


def figure(metric: Metric, record: Record) -> float:
    """What speaks for a record, in the metric's unit."""
    samples = metric.read(record) or []
    return float(np.median(samples)) if metric.replicate == "draw" else min(samples)


def _figure(metric: Metric, turns: Turns) -> float:
    """One number for a process, above another's where it is worse: that of its quickest sample.

    What disturbs a call makes it longer. In the recordings of one commit against itself with a busy neighbour the
    median differs up to ten times as much from process to process.
    """
    value = min(value for turn in turns for value in turn)
    value = math.log(value) if metric.scale == "ratio" else value
    return value if metric.higher_is_worse else -value


def _turns(metric: Metric, record: Record) -> Turns:
    samples = metric.read(record)
    assert samples is not None
    timing: Timing | None = record.timing
    if metric.name != "time" or timing is None or timing.turns is None:
        return [samples]
    found, start = [], 0
    for count in timing.turns:
        found.append(samples[start : start + count])
        start += count
    return found
