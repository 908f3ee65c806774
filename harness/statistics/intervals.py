"""Estimates with intervals: the bootstrap median of one case's samples, the time of a case over several processes,
ratios of either, and the mean over seeds.

The samples of one case are resampled once, in ``bootstrap_median``. Ratios here, and the exponents and crossovers of
``harness.statistics.growth``, work on those resampled medians, so each of them carries the noise of its inputs. A
percentile interval cannot be wider than the samples are apart, and of three samples it contains the true median in 75%
of cases, of five in 94%. Below ``FEWEST_RESAMPLED`` samples the interval is therefore Student's, of the logarithms.

The interval of a bootstrap median describes the noise within one process only. Where its memory lies and which cores it
has stays the same for all samples of a process, and differs in the next: two names of one kernel, each in a process of
its own, differed by up to 20% where both intervals were 1% wide. So a case with records of several processes has the
interval between them, from ``between_processes``. No interval describes the difference between machines.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

LEVEL = 0.95
"""Confidence level of every interval."""
_FARTHEST_LOG = 100.0
"""The logarithm of a factor in time that no measurement has."""
RESAMPLES = 1000
"""Number of bootstrap resamples of one case."""
FEWEST_RESAMPLED = 6
"""From so many samples on, their range contains the median in more than 95% of cases: 1 - 2 / 2 ** 6 is 97%."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; ``low`` and ``high`` are None where a single sample gives no interval.

    ``draws`` are random values ``[RESAMPLES]``, float64, which are spread as the estimate is uncertain: its bootstrap
    values, or values of Student's distribution. ``processes`` is how many processes the interval is between; 1: it is
    within one.
    """

    value: float
    low: float | None
    high: float | None
    samples: int
    draws: NDArray[np.float64]
    processes: int = 1


@dataclass(frozen=True)
class SeedMean:
    """The mean of one score per seed with its interval; the bounds are None where there is only one seed."""

    mean: float
    low: float | None
    high: float | None

    def is_above(self, value: float) -> bool:
        """Whether the whole interval is above ``value``; False where there is no interval."""
        return self.low is not None and self.low > value


def bootstrap_median(samples: Sequence[float], rng: np.random.Generator) -> Estimate:
    """The median of one case's samples with its bootstrap percentile interval at ``LEVEL``.

    With two to five samples the interval is Student's, which takes their logarithms for normally distributed, or the
    samples themselves where one of them is not positive.

    Args:
        samples: raw samples in any unit; at least one, all finite.
        rng: source of the resampling; two cases that are compared must not use generators in the same state.

    Raises:
        ValueError: there are no samples, or one of them is not finite.
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"samples must be one or more finite numbers, got {list(samples)!r}; leave failed cases out")
    if 1 < values.size < FEWEST_RESAMPLED:
        return _of_few(values, rng)
    picks = rng.integers(0, values.size, (RESAMPLES, values.size))
    # Sorting the rows gives the same bits as np.median in a quarter of the time.
    rows = np.sort(values[picks], axis=1)
    draws = (rows[:, (values.size - 1) // 2] + rows[:, values.size // 2]) / 2
    return estimate_from_draws(float(np.median(values)), draws, values.size)


def _of_few(values: NDArray[np.float64], rng: np.random.Generator) -> Estimate:
    median = float(np.median(values))
    if values.min() <= 0:
        mean, error, degrees = float(values.mean()), _standard_error(values), values.size - 1
        half_width = float(t.ppf(0.5 + LEVEL / 2, degrees)) * error
        draws = mean + error * rng.standard_t(degrees, RESAMPLES)
        return Estimate(median, mean - half_width, mean + half_width, values.size, draws)
    return replace(_student_of_logs(values, rng), value=median)


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(values.size))


def _student_of_logs(values: NDArray[np.float64], rng: np.random.Generator) -> Estimate:
    """The geometric mean of positive values with Student's interval."""
    logs = np.log(values)
    error, degrees = _standard_error(logs), logs.size - 1
    # A time cannot be 0 or infinite, not even in a draw from the far ends of the distribution of two values.
    draws = np.exp(np.clip(logs.mean() + error * rng.standard_t(degrees, RESAMPLES), -_FARTHEST_LOG, _FARTHEST_LOG))
    value = float(np.exp(logs.mean()))
    factor = float(np.exp(min(t.ppf(0.5 + LEVEL / 2, degrees) * error, _FARTHEST_LOG)))
    return Estimate(value, value / factor, value * factor, logs.size, draws)


def between_processes(values: Sequence[float], rng: np.random.Generator) -> Estimate:
    """The time of one case that was measured in several processes: the geometric mean, with Student's interval.

    The logarithms of the values are taken for normally distributed. With two processes the interval is wide: 12.7
    standard errors on each side.

    Args:
        values: the median of each process; at least two, all positive.
        rng: source of the draws, as in ``bootstrap_median``.

    Raises:
        ValueError: there are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"values must be of at least two processes, got {len(values)}; one has bootstrap_median")
    return replace(_student_of_logs(np.asarray(values, dtype=np.float64), rng), processes=len(values))


class Interval(Protocol):
    """What has the two ends of an interval; both are None where there is none."""

    @property
    def low(self) -> float | None:
        """The lower end."""

    @property
    def high(self) -> float | None:
        """The upper end."""


def overlap(one: Interval, other: Interval) -> bool | None:
    """Whether two intervals overlap, so that no order of their values is claimed; None where one of them is missing."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return one.high >= other.low and other.high >= one.low


def ratio(numerator: Estimate, denominator: Estimate) -> Estimate:
    """``numerator / denominator`` with the interval of the quotient, and the smaller number of samples and of processes
    of the two."""
    draws = numerator.draws / denominator.draws
    quotient = estimate_from_draws(
        numerator.value / denominator.value, draws, min(numerator.samples, denominator.samples)
    )
    return replace(quotient, processes=min(numerator.processes, denominator.processes))


def seed_mean(scores: Sequence[float]) -> SeedMean:
    """The mean of one score per independently trained seed, with Student's t interval at ``LEVEL``.

    The interval of two seeds is wide: 12.7 standard errors on each side of the mean. It assumes normally distributed
    scores, an assumption that scores near the ends of their range do not meet.

    Raises:
        ValueError: there are no scores.
    """
    if not len(scores):
        raise ValueError("scores must be one or more, got none; leave failed cases out")
    mean = float(np.mean(scores))
    if len(scores) == 1:
        return SeedMean(mean, None, None)
    half_width = float(t.ppf(0.5 + LEVEL / 2, len(scores) - 1) * np.std(scores, ddof=1) / np.sqrt(len(scores)))
    return SeedMean(mean, mean - half_width, mean + half_width)


def estimate_from_draws(value: float, draws: NDArray[np.float64], samples: int) -> Estimate:
    """``value`` with the percentile interval of its bootstrap ``draws``; a single sample gives no interval."""
    if samples < 2:
        return Estimate(value, None, None, samples, draws)
    low, high = percentile_bounds(draws)
    return Estimate(value, low, high, samples, draws)


def percentile_bounds(draws: NDArray[np.float64]) -> tuple[float, float]:
    """The two percentiles of ``draws`` that enclose the share ``LEVEL`` of them; infinite draws are allowed."""
    # Interpolating between infinite draws would give NaN, so the bounds are draws themselves (numpy's inverted_cdf).
    # Selecting two of them takes a tenth of the time of np.quantile.
    last = len(draws) - 1
    low, high = (min(max(math.ceil(len(draws) * share) - 1, 0), last) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    selected = np.partition(draws, (low, high))
    return float(selected[low]), float(selected[high])
