"""How far head is from base in one metric of one case: a value, its interval, and the chance of its like.

The samples of one process are no independent witnesses: they share its addresses, its pages and the minute it ran in.
So the unit is the round, one process a side. Of one alone nobody can see how far apart two are, and the metric's
``spread`` (measured once, with one commit against itself) says so. Of a few the spread that they show is a matter of
luck: it counts as much as there are rounds, and the expected one as ``PRIOR_DEGREES`` more.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_ROUNDS = 5
"""Rounds that ``harness ab`` takes whatever the time, and from which runs that took no turns show their own spread."""
PRIOR_DEGREES = 4
"""Degrees of freedom that the expected spread of rounds counts for beside the one that they show."""
MIN_SAMPLES = 3
"""Samples that a process must have where it is alone: of two nobody knows which one was disturbed."""
TRIMMED = 0.1
"""Share of the rounds at each end that is left out of stored runs, and drawn in to its neighbours in turns."""
MIDDLE = 0.25
"""And of the pairs of turns in one round."""
RESAMPLES = 2000
LEAST_ERROR = 0.1
"""Share of the error of all values that a resample's own must have to be taken for one."""
ERROR_RESAMPLES = 400
"""Enough for a standard error."""
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """``value`` with its interval, above 0 where head is worse: a logarithm of a ratio, or a difference.

    ``standard_error`` and ``degrees`` of freedom are those of Student's t (infinite: normal); an error of 0 is a
    figure that does not vary. ``rounds`` is the number of processes a side.
    """

    value: float
    low: float
    high: float
    standard_error: float
    degrees: float
    rounds: int

    def upper(self, level: float) -> float:
        """The one-sided bound that the true value is below, at ``level``."""
        return self.value + float(stats.t.ppf(level, self.degrees)) * self.standard_error

    def lower(self, level: float) -> float:
        """The one-sided bound that the true value is above."""
        return self.value - float(stats.t.ppf(level, self.degrees)) * self.standard_error

    def chance_above(self, floor: float) -> float:
        """How likely so high a value is, were the true one at ``floor`` (one-sided p)."""
        if self.standard_error == 0:
            return 0.0 if self.value > floor else 1.0
        return float(stats.t.sf((self.value - floor) / self.standard_error, self.degrees))

    def chance_below(self, floor: float) -> float:
        """As ``chance_above``, for so low a value."""
        if self.standard_error == 0:
            return 0.0 if self.value < floor else 1.0
        return float(stats.t.cdf((self.value - floor) / self.standard_error, self.degrees))


def paired(differences: Sequence[float] | Vector, errors: Sequence[float] | Vector, level: float, seed: str) -> Effect:
    """From one difference a round, the rounds being independent.

    A round in which the machine was restless says less, and counts less: the rounds are put together as the studies of
    a meta-analysis with random effects (DerSimonian and Laird 1986), and the error of what comes of it is Hartung and
    Knapp's (2001). Few rounds show too large or too small an error by chance: it is moderated by the expected one
    (Smyth 2004, https://doi.org/10.2202/1544-6115.1027). From ten rounds on those at the ends are drawn in to their
    neighbours (a winsorised mean, with the error of Dixon and Tukey 1968): one that went wrong as a whole, and was calm
    in itself, does not decide.
    The interval is a studentised bootstrap's (Efron and Tibshirani 1993, chapter 12): unlike the percentiles of one it
    keeps its level with few rounds.

    Args:
        differences: head minus base, one a round, at least two.
        errors: standard error of each, by the metric's spread and the samples inside the round; 0: nobody knows them,
            and the differences show it alone.
        level: of the two-sided interval.
        seed: what names the case: the same data give the same interval.
    """
    values, variances = np.asarray(differences, dtype=np.float64), np.square(np.asarray(errors, dtype=np.float64))
    known = bool(variances.all())
    variances = variances if known else np.ones_like(values)
    value, own = (float(one) for one in _together(values, variances))
    if own == 0 and not known:
        return Effect(value, value, value, 0.0, np.inf, values.size)
    degrees, prior = _degrees(values.size), PRIOR_DEGREES if known else 0
    expected = 1 / np.sum(1 / variances)

    def moderated(errors: Vector) -> Vector:
        return np.sqrt((prior * expected + degrees * errors**2) / (prior + degrees))

    error = float(moderated(np.asarray(own)))
    drawn = _drawn(values.size, seed)
    means, owns = _together(values[drawn], variances[drawn])
    pivots = _pivots(means - value, moderated(owns), error)
    return _from_pivots(value, error, prior + degrees, pivots, level, values.size)


def middle(differences: Sequence[float] | Vector) -> tuple[float, float]:
    """Mean of the middle half of a round's pairs of turns, and its standard error; of one pair nobody knows that."""
    values = np.asarray(differences, dtype=np.float64)
    if values.size < 2:
        return float(values[0]), 0.0
    value, error = _trimmed(values, MIDDLE)
    return float(value), float(error)


def independent(base: Sequence[float] | Vector, head: Sequence[float] | Vector, level: float, seed: str) -> Effect:
    """As ``paired``, from one figure a round, the rounds of base and head having nothing in common (Yuen 1974)."""
    sides = [np.asarray(one, dtype=np.float64) for one in (base, head)]
    (first, one), (second, other) = (_trimmed(side, TRIMMED) for side in sides)
    value, error = float(second - first), float(np.hypot(one, other))
    rounds = min(side.size for side in sides)
    if error == 0:
        return Effect(value, value, value, 0.0, np.inf, rounds)
    drawn = [
        _trimmed(resamples(side, seed + name), TRIMMED) for side, name in zip(sides, ("base", "head"), strict=True)
    ]
    pivots = _pivots(drawn[1][0] - drawn[0][0] - value, np.hypot(drawn[0][1], drawn[1][1]), error)
    degrees = error**4 / sum(
        float(part) ** 4 / _degrees(side.size) for part, side in zip((one, other), sides, strict=True)
    )
    return _from_pivots(value, error, float(degrees), pivots, level, rounds)


def alone(value: float, within: float, spread: float, rounds: int, level: float) -> Effect:
    """From fewer than ``MIN_ROUNDS`` processes a side.

    Args:
        value: head minus base.
        within: its standard error as the samples inside the processes show it.
        spread: standard deviation of one process's figure.
        rounds: processes a side.
        level: of the two-sided interval.
    """
    error = math.sqrt(within**2 + 2 * spread**2 / rounds)
    reach = float(stats.norm.ppf((1 + level) / 2)) * error
    return Effect(value, value - reach, value + reach, error, math.inf, rounds)


def resamples(values: Sequence[float] | Vector, seed: str, count: int = RESAMPLES) -> Vector:
    """``[count, len(values)]``, drawn with replacement."""
    given = np.asarray(values, dtype=np.float64)
    return given[_drawn(given.size, seed, count)]


def discoveries(chances: Sequence[float], rate: float) -> list[bool]:
    """Which of the hypotheses fall, so that of those that fall a share of ``rate`` is wrong at most.

    Benjamini and Hochberg 1995. Where nothing has changed at all, ``rate`` is also the chance that anything falls.
    """
    if not chances:
        return []
    adjusted = stats.false_discovery_control(np.clip(chances, 0.0, 1.0), method="bh")
    return [bool(one <= rate) for one in adjusted]


def _together(values: Vector, variances: Vector) -> tuple[Vector, Vector]:
    """Mean over the last axis and its standard error; ``variances`` are of the values, beside how far these differ."""
    ordered, size = np.sort(values, axis=-1), values.shape[-1]
    cut = int(TRIMMED * size)
    winsorised = np.clip(values, ordered[..., cut, None], ordered[..., size - 1 - cut, None])
    weights = 1 / variances
    mean, squares = _weighted(winsorised, weights)
    total = weights.sum(axis=-1)
    rest = total - (weights**2).sum(axis=-1) / total
    excess = np.maximum(squares - (size - 1), 0)
    between = np.divide(excess, rest, out=np.zeros_like(excess), where=rest > 0)
    weights = 1 / (variances + between[..., None])
    mean, squares = _weighted(winsorised, weights)
    return mean, np.sqrt(squares / ((size - 1) * weights.sum(axis=-1))) * (size - 1) / (size - 2 * cut - 1)


def _weighted(values: Vector, weights: Vector) -> tuple[Vector, Vector]:
    """Weighted mean over the last axis, and the weighted squares around it."""
    mean = (weights * values).sum(axis=-1) / weights.sum(axis=-1)
    return mean, (weights * (values - mean[..., None]) ** 2).sum(axis=-1)


def _trimmed(values: Vector, share: float) -> tuple[Vector, Vector]:
    """Mean without ``share`` at each end and its standard error, over the last axis."""
    ordered = np.sort(values, axis=-1)
    size = ordered.shape[-1]
    cut = int(share * size)
    kept = size - 2 * cut
    winsorised = np.clip(ordered, ordered[..., cut, None], ordered[..., size - 1 - cut, None])
    squares = winsorised.var(axis=-1, ddof=1) * (size - 1)
    return ordered[..., cut : size - cut].mean(axis=-1), np.sqrt(squares / (kept * (kept - 1)))


def _degrees(size: int) -> int:
    return size - 2 * int(TRIMMED * size) - 1


def _pivots(gaps: Vector, errors: Vector, error: float) -> Vector:
    """Studentised gaps. A resample that drew hardly more than one value has no error worth the name: ``error``, that of
    all values, stands in, so that ties do not make an interval endless."""
    return gaps / np.where(errors < LEAST_ERROR * error, error, errors)


def _from_pivots(value: float, error: float, degrees: float, pivots: Vector, level: float, rounds: int) -> Effect:
    below, above = (float(one) for one in np.quantile(pivots, [(1 - level) / 2, (1 + level) / 2]))
    # A bootstrap of few values can be narrower than even normal noise allows; Student's interval is the least.
    least = float(stats.t.ppf((1 + level) / 2, degrees))
    return Effect(value, value - max(above, least) * error, value - min(below, -least) * error, error, degrees, rounds)


def _drawn(size: int, seed: str, count: int = RESAMPLES) -> NDArray[np.int64]:
    """Places to draw ``size`` of with replacement, ``count`` times; ``seed`` names the case."""
    return np.random.default_rng(zlib.crc32(seed.encode())).integers(0, size, (count, size))
