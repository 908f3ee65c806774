"""From the records of one case on both sides to the effect of one metric."""

import math
from collections.abc import Sequence

import numpy as np

from harness.gating import effects
from harness.gating.effects import MIN_ROUNDS, MIN_SAMPLES, Effect
from harness.gating.metrics import Metric
from harness.record import Record, Timing

Turns = Sequence[Sequence[float]]
"""Samples of one process, by turn; a process that took no turns has one."""
QUANTILE = 0.5
"""Which of a turn's samples speaks for it."""


def of_records(
    metric: Metric,
    base: Sequence[Record],
    head: Sequence[Record],
    interleaved: bool,
    spread: float,
    level: float,
) -> Effect | str:
    """The effect; or, in words, why the samples are too few for one.

    Args:
        metric: what is compared; all records have it.
        base: records of one case, one a process, in the order of the rounds; status ok.
        head: the same of head.
        interleaved: the k-th rounds of both were taken in turns.
        spread: of one process against another, see ``Metric``.
        level: of the interval.
    """
    seed = f"{base[0].case_id} {metric.name}"
    if metric.replicate == "draw":
        return _draws(metric, metric.read(base[0]) or [], metric.read(head[0]) or [], level, seed)
    sides = [[_turns(metric, record) for record in records] for records in (base, head)]
    return of_rounds(metric, sides[0], sides[1], interleaved, spread, level, seed)


def of_rounds(
    metric: Metric,
    base: Sequence[Turns],
    head: Sequence[Turns],
    interleaved: bool,
    spread: float,
    level: float,
    seed: str,
) -> Effect | str:
    """As ``of_records``, from samples by round and turn."""
    rounds = min(len(base), len(head))
    many = rounds >= MIN_ROUNDS
    if interleaved:
        pairs = [_turn_differences(metric, *one) for one in zip(base, head, strict=False)]
        means = [float(np.mean(one)) for one in pairs]
        if many:
            return effects.paired(means, level, seed)
        single = [value for one in pairs for value in one]
        within = float(np.std(single, ddof=1) / math.sqrt(len(single))) if len(single) > 1 else 0.0
        return effects.alone(single, within, spread, rounds, level)
    figures = [[_figure(metric, [value for turn in turns for value in turn]) for turns in side] for side in (base, head)]
    if many:
        return effects.independent(figures[0], figures[1], level, seed)
    return _few(metric, base, head, figures, spread, level, seed)


def _few(
    metric: Metric,
    base: Sequence[Turns],
    head: Sequence[Turns],
    figures: list[list[float]],
    spread: float,
    level: float,
    seed: str,
) -> Effect | str:
    variance = 0.0
    for side, name in ((base, "base"), (head, "head")):
        for turns in side:
            samples = [value for turn in turns for value in turn]
            if metric.name == "time" and len(samples) < MIN_SAMPLES:
                return f"too few samples: {name} has {len(samples)} in its only process, {MIN_SAMPLES} are needed"
            values = [_figure(metric, [value]) for value in samples]
            if len(values) > 1:
                variance += effects.standard_error_of_median(values, seed + name) ** 2 / len(side) ** 2
    difference = float(np.mean(figures[1]) - np.mean(figures[0]))
    return effects.alone([difference], math.sqrt(variance), spread, min(len(base), len(head)), level)


def _draws(metric: Metric, base: list[float], head: list[float], level: float, seed: str) -> Effect | str:
    """Draws have their seeds in common, so that unchanged code gives the same ones."""
    if len(base) != len(head):
        return f"other draws: base has {len(base)}, head {len(head)}"
    differences = [_figure(metric, [b]) - _figure(metric, [a]) for a, b in zip(base, head, strict=True)]
    if len(differences) > 1 or differences == [0.0]:
        return effects.paired(differences, level, seed) if len(differences) > 1 else _certain(0.0)
    if metric.scale == "ratio":
        # A single draw that changed: an exact attention's error above rounding has no chance in it.
        return _certain(differences[0])
    return "too few draws: one a side, and they differ; 2 are needed"


def _certain(value: float) -> Effect:
    return Effect(value, value, value, 0.0, math.inf, 1)


def _turn_differences(metric: Metric, base: Turns, head: Turns) -> list[float]:
    return [_figure(metric, b) - _figure(metric, a) for a, b in zip(base, head, strict=False)]


def _figure(metric: Metric, samples: Sequence[float]) -> float:
    """One number, above another's where it is worse."""
    value = float(np.quantile(samples, QUANTILE))
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
