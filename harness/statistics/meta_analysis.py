"""How much a metric of one case differs between two commits: an estimate, its interval and its p-values.

The samples of one process are not independent: they share its addresses, its memory pages and the minute in which it
ran. The unit of replication is therefore the round: one process of each commit. A single round does not show how much
two processes of the same code differ, so the expected spread is used (``spread`` of the metric, measured once by
comparing one commit with itself). A few rounds show a spread that is too small or too large by chance, so it is
combined with the expected one, which counts as ``PRIOR_DEGREES`` degrees of freedom.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.statistics.robust import Vector, trimmed_mean, winsorised

MIN_ROUNDS = 5
"""Rounds that ``harness ab`` always takes, whatever its time limit; and the fewest stored runs per commit whose own
spread is used instead of the expected one."""
PRIOR_DEGREES = 4
"""Degrees of freedom that the expected spread of the rounds counts for, beside the spread that the rounds show."""
MIN_SAMPLES = 3
"""Fewest samples of a process that was not interleaved with another: with two, an outlier cannot be recognised."""
TRIMMED = 0.1
"""Share of the rounds at each end that is left out (independent rounds) or winsorised (paired rounds)."""
RESAMPLES = 2000
MIN_ERROR_SHARE = 0.1
"""A resample's standard error is used only if it is at least this share of the standard error of all values."""
ERROR_RESAMPLES = 400
"""Enough resamples for a standard error."""


@dataclass(frozen=True)
class EffectEstimate:
    """The difference between head and base, above 0 where head is worse: the logarithm of a ratio, or a difference.

    ``low`` and ``high`` bound its interval. ``standard_error`` and ``degrees`` of freedom are those of Student's t
    distribution (infinite: normal). A standard error of 0 means that the metric does not vary. ``rounds`` is the number
    of processes of each commit.
    """

    value: float
    low: float
    high: float
    standard_error: float
    degrees: float
    rounds: int

    def upper_bound(self, level: float) -> float:
        """The one-sided upper confidence bound at ``level``."""
        return self.value + float(stats.t.ppf(level, self.degrees)) * self.standard_error

    def lower_bound(self, level: float) -> float:
        """The one-sided lower confidence bound at ``level``."""
        return self.value - float(stats.t.ppf(level, self.degrees)) * self.standard_error

    def p_value_above(self, threshold: float) -> float:
        """One-sided p-value against the hypothesis that the true value is at most ``threshold``."""
        if self.standard_error == 0:
            return 0.0 if self.value > threshold else 1.0
        return float(stats.t.sf((self.value - threshold) / self.standard_error, self.degrees))

    def p_value_below(self, threshold: float) -> float:
        """One-sided p-value against the hypothesis that the true value is at least ``threshold``."""
        if self.standard_error == 0:
            return 0.0 if self.value < threshold else 1.0
        return float(stats.t.cdf((self.value - threshold) / self.standard_error, self.degrees))


def combine_paired_rounds(
    differences: Sequence[float] | Vector, errors: Sequence[float] | Vector, level: float, seed: str
) -> EffectEstimate:
    """Combine one difference per round, the rounds being independent of each other.

    The rounds are combined like the studies of a meta-analysis with random effects (DerSimonian and Laird 1986), so
    that a noisy round weighs less; the standard error is that of Hartung and Knapp (2001). With few rounds this
    standard error is too large or too small by chance, so it is moderated by the expected one (Smyth 2004,
    https://doi.org/10.2202/1544-6115.1027). From ten rounds on the differences are winsorised (standard error of Dixon
    and Tukey 1968), so that one round that was wrong as a whole, although its own error is small, does not decide the
    result. The interval is a studentised bootstrap interval (Efron and Tibshirani 1993, chapter 12), because a
    percentile bootstrap is too narrow with few rounds.

    Args:
        differences: head minus base, one per round, at least two.
        errors: standard error of each difference, from the metric's spread and the samples inside the round. If one of
            them is 0 the errors are unknown, and only the differences among the rounds count.
        level: of the two-sided interval.
        seed: identifies the case, so that the same data always give the same interval.
    """
    values, variances = np.asarray(differences, dtype=np.float64), np.square(np.asarray(errors, dtype=np.float64))
    known = bool(variances.all())
    variances = variances if known else np.ones_like(values)
    value, observed = (float(part) for part in _random_effects_mean(values, variances))
    if observed == 0 and not known:
        return EffectEstimate(value, value, value, 0.0, np.inf, values.size)
    degrees, prior = _degrees(values.size), PRIOR_DEGREES if known else 0
    expected = 1 / np.sum(1 / variances)

    def moderated(errors: Vector) -> Vector:
        return np.sqrt((prior * expected + degrees * errors**2) / (prior + degrees))

    error = float(moderated(np.asarray(observed)))
    drawn = _resampled_indices(values.size, seed)
    means, mean_errors = _random_effects_mean(values[drawn], variances[drawn])
    pivots = _pivots(means - value, moderated(mean_errors), error)
    return _from_pivots(value, error, prior + degrees, pivots, level, values.size)


def compare_independent_rounds(
    base: Sequence[float] | Vector, head: Sequence[float] | Vector, level: float, seed: str
) -> EffectEstimate:
    """As ``combine_paired_rounds``, from one value per round where the rounds of base and head are not paired.

    The difference of the trimmed means, with the degrees of freedom of Yuen (1974).
    """
    values = [np.asarray(rounds, dtype=np.float64) for rounds in (base, head)]
    (base_mean, base_error), (head_mean, head_error) = (trimmed_mean(rounds, TRIMMED) for rounds in values)
    value, error = float(head_mean - base_mean), float(np.hypot(base_error, head_error))
    rounds = min(array.size for array in values)
    if error == 0:
        return EffectEstimate(value, value, value, 0.0, np.inf, rounds)
    drawn = [
        trimmed_mean(resamples(array, seed + name), TRIMMED)
        for array, name in zip(values, ("base", "head"), strict=True)
    ]
    pivots = _pivots(drawn[1][0] - drawn[0][0] - value, np.hypot(drawn[0][1], drawn[1][1]), error)
    degrees = error**4 / sum(
        float(part) ** 4 / _degrees(array.size) for part, array in zip((base_error, head_error), values, strict=True)
    )
    return _from_pivots(value, error, float(degrees), pivots, level, rounds)


def with_expected_spread(value: float, within: float, spread: float, rounds: int, level: float) -> EffectEstimate:
    """An estimate from fewer than ``MIN_ROUNDS`` processes of each commit, too few to show their own spread.

    Args:
        value: head minus base.
        within: standard error of ``value`` from the samples inside the processes.
        spread: expected standard deviation of one process's value.
        rounds: processes of each commit.
        level: of the two-sided interval.
    """
    error = math.sqrt(within**2 + 2 * spread**2 / rounds)
    half_width = float(stats.norm.ppf((1 + level) / 2)) * error
    return EffectEstimate(value, value - half_width, value + half_width, error, math.inf, rounds)


def resamples(values: Sequence[float] | Vector, seed: str, count: int = RESAMPLES) -> Vector:
    """Bootstrap resamples ``[count, len(values)]``: ``values`` drawn with replacement."""
    array = np.asarray(values, dtype=np.float64)
    return array[_resampled_indices(array.size, seed, count)]


def benjamini_hochberg(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which hypotheses are rejected at the false-discovery rate ``rate`` (Benjamini and Hochberg 1995).

    At most a share of ``rate`` of the rejections is expected to be wrong. Where nothing has changed at all, ``rate`` is
    also the probability of any rejection.
    """
    if not p_values:
        return []
    adjusted = stats.false_discovery_control(np.clip(p_values, 0.0, 1.0), method="bh")
    return [bool(p <= rate) for p in adjusted]


def _random_effects_mean(values: Vector, variances: Vector) -> tuple[Vector, Vector]:
    """Random-effects mean over the last axis and its standard error; ``variances`` are those within the rounds."""
    size = values.shape[-1]
    cut = int(TRIMMED * size)
    clipped = winsorised(values, cut)
    weights = 1 / variances
    mean, squares = _weighted_mean(clipped, weights)
    total = weights.sum(axis=-1)
    rest = total - (weights**2).sum(axis=-1) / total
    excess = np.maximum(squares - (size - 1), 0)
    between = np.divide(excess, rest, out=np.zeros_like(excess), where=rest > 0)
    weights = 1 / (variances + between[..., None])
    mean, squares = _weighted_mean(clipped, weights)
    return mean, np.sqrt(squares / ((size - 1) * weights.sum(axis=-1))) * (size - 1) / (size - 2 * cut - 1)


def _weighted_mean(values: Vector, weights: Vector) -> tuple[Vector, Vector]:
    """Weighted mean over the last axis, and the weighted sum of squares around it."""
    mean = (weights * values).sum(axis=-1) / weights.sum(axis=-1)
    return mean, (weights * (values - mean[..., None]) ** 2).sum(axis=-1)


def _degrees(size: int) -> int:
    return size - 2 * int(TRIMMED * size) - 1


def _pivots(differences: Vector, errors: Vector, error: float) -> Vector:
    """Studentised differences.

    A resample that drew almost only one value has a standard error near 0. It is replaced by ``error``, that of all
    values; otherwise ties would make the interval infinite.
    """
    return differences / np.where(errors < MIN_ERROR_SHARE * error, error, errors)


def _from_pivots(
    value: float, error: float, degrees: float, pivots: Vector, level: float, rounds: int
) -> EffectEstimate:
    below, above = (float(quantile) for quantile in np.quantile(pivots, [(1 - level) / 2, (1 + level) / 2]))
    # A bootstrap of few values can be narrower than the interval for normal noise, so Student's is the minimum.
    student = float(stats.t.ppf((1 + level) / 2, degrees))
    low, high = value - max(above, student) * error, value - min(below, -student) * error
    return EffectEstimate(value, low, high, error, degrees, rounds)


def _resampled_indices(size: int, seed: str, count: int = RESAMPLES) -> NDArray[np.int64]:
    """Indices ``[count, size]``, drawn with replacement from ``size`` values; ``seed`` identifies the case."""
    return np.random.default_rng(zlib.crc32(seed.encode())).integers(0, size, (count, size))
