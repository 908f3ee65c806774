"""Medians, scaling exponents and crossover lengths from raw samples, each with a bootstrap percentile interval.

The samples of one case are resampled once, in ``median``; everything else works on those resampled medians, so that
an exponent or a crossover carries the noise of each of its points. The intervals speak of noise within this run
only: not of other machines, and not of a curve that is no straight line. With under ten samples a percentile interval
of a median covers less than its level.

Nothing is extrapolated: an answer outside the measured lengths is a verdict in words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 1000
MIN_EXPONENT_LENGTHS = 3

Verdict = Literal["faster from", "slower from", "faster everywhere", "slower everywhere", "not reached in range"]
_SLOWER: tuple[Verdict, ...] = ("slower everywhere", "not reached in range")


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; ``low`` and ``high`` are None where a single sample gives no interval.

    ``draws`` are the bootstrap values ``[RESAMPLES]``, float64, that the interval was read from.
    """

    value: float
    low: float | None
    high: float | None
    samples: int
    draws: NDArray[np.float64]


@dataclass(frozen=True)
class Exponent:
    """The slope of log(time) on log(length): 1 is linear, 2 quadratic. ``lengths`` are the points it rests on."""

    value: float
    low: float | None
    high: float | None
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Crossover:
    """Where one attention's time passes below (``faster from``) or above (``slower from``) another's.

    ``length`` and its bounds are tokens, None where there is no crossing. A bound of ``-inf`` or ``inf`` lies outside
    the measured lengths. ``agreement`` is the share of resamples with the same verdict (the two of a slower attention
    count as one), ``crossings`` how often the medians change order (more than 1: noise, or curves that really meet
    again; ``length`` is the last).
    """

    verdict: Verdict
    length: float | None
    low: float | None
    high: float | None
    agreement: float
    crossings: int
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class NoAnswer:
    """Too little was measured to say; ``reason`` tells what is missing, with these ``numbers`` in it."""

    reason: str
    numbers: tuple[int, ...]


def median(samples: Sequence[float], rng: np.random.Generator) -> Estimate:
    """The median of one case's samples with its percentile interval at ``LEVEL``.

    Args:
        samples: raw samples, any unit; at least one, all finite.
        rng: source of the resampling; two cases that are compared must not share its state.

    Raises:
        ValueError: no samples, or one that is not finite.
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"samples must be one or more finite numbers, got {list(samples)!r}; leave failed cases out")
    picks = rng.integers(0, values.size, (RESAMPLES, values.size))
    # sorted rows, because np.median takes four times as long for the same bits
    rows = np.sort(values[picks], axis=1)
    draws = (rows[:, (values.size - 1) // 2] + rows[:, values.size // 2]) / 2
    return _estimate(float(np.median(values)), draws, values.size)


def ratio(numerator: Estimate, denominator: Estimate) -> Estimate:
    """``numerator / denominator`` with the interval of the quotient; ``samples`` is the smaller of the two."""
    draws = numerator.draws / denominator.draws
    return _estimate(numerator.value / denominator.value, draws, min(numerator.samples, denominator.samples))


def scaling_exponent(times: Mapping[int, Estimate], from_length: int) -> Exponent | NoAnswer:
    """Least squares of log(time) on log(length) over the lengths from ``from_length`` on.

    Args:
        times: time by length in tokens, positive.
        from_length: shorter lengths are left out, because the fixed cost of a call hides the slope there.
    """
    lengths = tuple(sorted(n for n in times if n >= from_length))
    if len(lengths) < MIN_EXPONENT_LENGTHS:
        numbers = (len(lengths), from_length, MIN_EXPONENT_LENGTHS)
        return NoAnswer("not enough lengths: {:,} from {:,} on, {:,} are needed".format(*numbers), numbers)
    x = np.log(lengths)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    value = float(weights @ np.log([times[n].value for n in lengths]))
    draws = weights @ np.log(np.stack([times[n].draws for n in lengths]))
    found = _estimate(value, draws, min(times[n].samples for n in lengths))
    return Exponent(value, found.low, found.high, lengths)


def crossover(a: Mapping[int, Estimate], b: Mapping[int, Estimate]) -> Crossover | NoAnswer:
    """The length from which ``a`` is faster (or slower) than ``b``, linear in log-log between measured lengths.

    Verdicts without a crossing: ``faster everywhere``; ``slower everywhere`` (and no closer at the longest common
    length than at the shortest); ``not reached in range`` (slower at every length, but closer at the longest).

    Args:
        a: time by length in tokens, positive.
        b: the same for the attention that it is compared with. Only lengths that both have count.
    """
    lengths = tuple(sorted(set(a) & set(b)))
    if len(lengths) < 2:
        numbers = (len(lengths), 2)
        return NoAnswer("not enough lengths: {:,} measured for both, {:,} are needed".format(*numbers), numbers)
    x = np.log(lengths)
    point = np.log([[a[n].value for n in lengths]]) - np.log([[b[n].value for n in lengths]])
    drawn = (np.log(np.stack([a[n].draws for n in lengths])) - np.log(np.stack([b[n].draws for n in lengths]))).T
    verdict: Verdict = _verdicts(point)[0]
    alike = _SLOWER if verdict in _SLOWER else (verdict,)
    agreement = float(np.mean(np.isin(_verdicts(drawn), alike)))
    crossings = int(np.count_nonzero(np.diff(point[0] < 0)))
    if crossings == 0:
        return Crossover(verdict, None, None, None, agreement, 0, lengths)
    ends_faster = verdict == "faster from"
    length = float(np.exp(_last_crossings(x, point, ends_faster)[0]))
    single = all(times[n].samples == 1 for n in lengths for times in (a, b))
    low, high = (None, None) if single else _bounds(np.exp(_last_crossings(x, drawn, ends_faster)))
    if low == 0:
        low = -np.inf
    return Crossover(verdict, length, low, high, agreement, crossings, lengths)


def _verdicts(gaps: NDArray[np.float64]) -> NDArray[np.str_]:
    """The verdict of each row of ``gaps`` ``[rows, lengths]``: log of the ratio of times, below 0 where a is faster."""
    faster = gaps < 0
    closer = gaps[:, -1] < gaps[:, 0]
    return np.select(
        [faster.all(1), ~faster.any(1) & closer, ~faster.any(1), faster[:, -1]],
        ["faster everywhere", "not reached in range", "slower everywhere", "faster from"],
        "slower from",
    )


def _last_crossings(x: NDArray[np.float64], gaps: NDArray[np.float64], ends_faster: bool) -> NDArray[np.float64]:
    """Log length from which each row of ``gaps`` stays faster (or not faster, as ``ends_faster`` says).

    Minus infinite where it is so at every length, infinite where it is not so at the last.
    """
    other = (gaps < 0) != ends_faster
    last = gaps.shape[1] - 1
    rows = np.arange(len(gaps))
    before = np.minimum(last - np.argmax(other[:, ::-1], axis=1), last - 1)
    left, right = gaps[rows, before], gaps[rows, before + 1]
    step = np.divide(left, left - right, out=np.zeros_like(left), where=left != right)
    crossing = x[before] + (x[before + 1] - x[before]) * step
    return np.where(other[:, -1], np.inf, np.where(other.any(1), crossing, -np.inf))


def _bounds(draws: NDArray[np.float64]) -> tuple[float, float]:
    # inverted_cdf picks a drawn value: interpolation between infinite values would give NaN
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return float(low), float(high)


def _estimate(value: float, draws: NDArray[np.float64], samples: int) -> Estimate:
    if samples < 2:
        return Estimate(value, None, None, samples, draws)
    low, high = _bounds(draws)
    return Estimate(value, low, high, samples, draws)
