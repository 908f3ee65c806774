"""How much one metric of one case differs between base and head, estimated from their records."""

import math
from collections.abc import Sequence

import numpy as np

from harness.core.record import Record, Timing
from harness.gate.judge.gated_metrics import Metric
from harness.statistics import meta_analysis
from harness.statistics.meta_analysis import MIN_ROUNDS, MIN_SAMPLES, EffectEstimate
from harness.statistics.robust import interquartile_mean

Turns = Sequence[Sequence[float]]
"""Samples of one process, by turn. A process that was not interleaved has one turn."""


def estimate(
    metric: Metric,
    base: Sequence[Record],
    head: Sequence[Record],
    interleaved: bool,
    level: float,
) -> EffectEstimate | str:
    """The estimate; or, as a string, why the samples are too few for one.

    Args:
        metric: the metric to compare; all records have it.
        base: base's records of one case, one per process, in the order of the rounds; all with status ok.
        head: the same of head.
        interleaved: whether the k-th processes of base and head were sampled in turns.
        level: of the two-sided interval.
    """
    seed = f"{base[0].case_id} {metric.name}"
    if metric.replicate == "draw":
        return _from_draws(metric, metric.read(base[0]) or [], metric.read(head[0]) or [], level, seed)
    rounds = [[_turns(metric, record) for record in records] for records in (base, head)]
    return _from_rounds(metric, rounds[0], rounds[1], interleaved, level, seed)


def _from_rounds(
    metric: Metric,
    base: Sequence[Turns],
    head: Sequence[Turns],
    interleaved: bool,
    level: float,
    seed: str,
) -> EffectEstimate | str:
    """As ``estimate``, from samples by round and turn."""
    for processes, name in ((base, "base"), (head, "head")):
        fewest = min(sum(map(len, turns)) for turns in processes)
        if metric.name == "time" and not interleaved and len(processes) < MIN_ROUNDS and fewest < MIN_SAMPLES:
            return f"too few samples: {name} has {fewest} in a process, {MIN_SAMPLES} are needed"
    rounds = min(len(base), len(head))
    if interleaved:
        differences = [round_difference(metric, *turns) for turns in zip(base, head, strict=False)]
        if rounds == 1:
            return meta_analysis.with_expected_spread(*differences[0], metric.spread, rounds, level)
        errors = [math.hypot(error, metric.spread, metric.spread) for _, error in differences]
        return meta_analysis.combine_paired_rounds([value for value, _ in differences], errors, level, seed)
    values = [np.array([_value(metric, turns) for turns in processes]) for processes in (base, head)]
    if rounds >= MIN_ROUNDS:
        return meta_analysis.compare_independent_rounds(values[0], values[1], level, seed)
    within = [
        _error_of_mean([_bootstrap_error(metric, turns, seed) for turns in processes]) for processes in (base, head)
    ]
    difference = float(values[1].mean() - values[0].mean())
    return meta_analysis.with_expected_spread(difference, math.hypot(*within), metric.spread_apart, rounds, level)


def round_difference(metric: Metric, base: Turns, head: Turns) -> tuple[float, float]:
    """Head minus base in one round and its standard error: the interquartile mean over the pairs of neighbouring turns.

    A disturbance that lasts longer than a turn affects both turns of a pair and cancels. One that hits a single turn
    makes its pair an outlier, and a quarter of the pairs is left out at each end.
    """
    pairs = [_value(metric, [h]) - _value(metric, [b]) for b, h in zip(base, head, strict=False)]
    return interquartile_mean(pairs)


def record_value(metric: Metric, record: Record) -> float:
    """The record's value of the metric, in its unit: the median of draws, else the smallest sample."""
    samples = metric.read(record) or []
    return float(np.median(samples)) if metric.replicate == "draw" else min(samples)


def typical_value(metric: Metric, records: Sequence[Record], interleaved: bool) -> float:
    """What a reader is told of the records of one commit, in the metric's unit: the median over the processes.

    A process's value is the median of its draws. Of its times it is the median where they were interleaved, and
    otherwise the smallest, as in the estimate.
    """
    typical = np.median if interleaved or metric.replicate == "draw" else min
    return float(np.median([float(typical(metric.read(record) or [])) for record in records]))


def _bootstrap_error(metric: Metric, turns: Turns, seed: str) -> float:
    """Standard error of one process's value as if its samples were independent; their dependence is in the spread."""
    samples = [value for turn in turns for value in turn]
    if len(samples) < 2:
        return 0.0
    values = meta_analysis.resamples(samples, seed, meta_analysis.ERROR_RESAMPLES).min(axis=1)
    return float((np.log(values) if metric.scale == "ratio" else values).std())


def _error_of_mean(errors: Sequence[float]) -> float:
    """Standard error of the mean of values with these standard errors."""
    return math.hypot(*errors) / len(errors)


def _from_draws(metric: Metric, base: list[float], head: list[float], level: float, seed: str) -> EffectEstimate | str:
    """Draws of base and head are paired: the k-th has the same seed in both, so unchanged code repeats its value."""
    if len(base) != len(head):
        return f"the numbers of draws differ: base has {len(base)}, head {len(head)}"
    differences = [_value(metric, [[h]]) - _value(metric, [[b]]) for b, h in zip(base, head, strict=True)]
    if len(differences) > 1:
        return meta_analysis.combine_paired_rounds(differences, [0.0] * len(differences), level, seed)
    if metric.scale == "ratio" or differences == [0.0]:
        # A single draw that changed: the error of an exact attention, beyond rounding, is not random.
        return EffectEstimate(differences[0], differences[0], differences[0], 0.0, math.inf, 1)
    return "too few draws: base and head have one each, and they differ; 2 are needed"


def _value(metric: Metric, turns: Turns) -> float:
    """A process's value on the scale of the comparison, larger where it is worse: that of its smallest sample.

    Disturbances make calls longer and never shorter. In the recordings of one commit against itself with a busy
    neighbour, medians differ up to ten times as much from process to process as the smallest samples do.
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
    turns, start = [], 0
    for count in timing.turns:
        turns.append(samples[start : start + count])
        start += count
    return turns
