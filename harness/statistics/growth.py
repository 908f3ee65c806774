"""How time grows with sequence length: scaling exponents, and the length from which one attention is faster.

The inputs are the bootstrap medians of ``harness.statistics.intervals``, so an exponent or a crossover carries the
noise of each measured length. The interval of an exponent does not cover the error of fitting a straight line to a
curve that is not straight in log-log coordinates.

Nothing is extrapolated: where the answer lies outside the measured lengths, the verdict says so in words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Estimate, estimate_from_draws, percentile_bounds

MIN_EXPONENT_LENGTHS = 3
"""Fewest lengths through which a scaling exponent is fitted."""

Verdict = Literal["faster from", "slower from", "faster everywhere", "slower everywhere", "not reached in range"]
_SLOWER: tuple[Verdict, ...] = ("slower everywhere", "not reached in range")


@dataclass(frozen=True)
class Exponent:
    """The slope of log(time) over log(length): 1 is linear, 2 quadratic. ``lengths`` are the fitted points."""

    value: float
    low: float | None
    high: float | None
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Crossover:
    """The length from which one attention is faster (``faster from``) or slower (``slower from``) than another.

    Attributes:
        verdict: the result in words.
        length: the crossover length in tokens; None where the curves do not cross, or only ``between`` is known.
        low: lower bound of ``length`` in tokens; ``-inf`` where it lies below the measured lengths.
        high: upper bound of ``length`` in tokens; ``inf`` where it lies above the measured lengths.
        agreement: the share of bootstrap resamples with the same verdict; the two verdicts of an attention that is
            slower at every length count as the same.
        crossings: how often the order of the medians changes. More than 1 is noise, or curves that really cross more
            than once; ``length`` is then the last crossing.
        lengths: the lengths that were compared.
        between: the two lengths between which the curves cross, where no more than that is known; ``crossover`` leaves
            it out.
    """

    verdict: Verdict
    length: float | None
    low: float | None
    high: float | None
    agreement: float
    crossings: int
    lengths: tuple[int, ...]
    between: tuple[int, int] | None = None


@dataclass(frozen=True)
class NoAnswer:
    """Too few lengths were measured for an answer; ``reason`` says what is missing and contains ``numbers``."""

    reason: str
    numbers: tuple[int, ...]


def scaling_exponent(times: Mapping[int, Estimate], from_length: int) -> Exponent | NoAnswer:
    """The least-squares slope of log(time) over log(length), over the lengths of at least ``from_length`` tokens.

    Args:
        times: time by length in tokens; all times are positive.
        from_length: shorter lengths are left out, because the fixed overhead of a call hides the slope there.
    """
    lengths = tuple(sorted(n for n in times if n >= from_length))
    if len(lengths) < MIN_EXPONENT_LENGTHS:
        numbers = (len(lengths), from_length, MIN_EXPONENT_LENGTHS)
        return NoAnswer("not enough lengths: {:,} from {:,} on, {:,} are needed".format(*numbers), numbers)
    x = np.log(lengths)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    value = float(weights @ np.log([times[n].value for n in lengths]))
    draws = weights @ np.log(np.stack([times[n].draws for n in lengths]))
    slope = estimate_from_draws(value, draws, min(times[n].samples for n in lengths))
    return Exponent(value, slope.low, slope.high, lengths)


def crossover(a: Mapping[int, Estimate], b: Mapping[int, Estimate]) -> Crossover | NoAnswer:
    """The length from which ``a`` is faster (or slower) than ``b``, interpolated linearly in log-log coordinates.

    Verdicts without a crossing: ``faster everywhere``; ``slower everywhere`` (and no closer at the longest common
    length than at the shortest); ``not reached in range`` (slower at every length, but closer at the longest).

    Args:
        a: time by length in tokens; all times are positive.
        b: the same for the attention that ``a`` is compared with. Only the lengths in both are used.
    """
    lengths = tuple(sorted(set(a) & set(b)))
    if len(lengths) < 2:
        numbers = (len(lengths), 2)
        return NoAnswer("not enough lengths: {:,} measured for both, {:,} are needed".format(*numbers), numbers)
    x = np.log(lengths)
    point = np.log([[a[n].value for n in lengths]]) - np.log([[b[n].value for n in lengths]])
    drawn = (np.log(np.stack([a[n].draws for n in lengths])) - np.log(np.stack([b[n].draws for n in lengths]))).T
    verdict: Verdict = _verdicts(point)[0]
    equivalent = _SLOWER if verdict in _SLOWER else (verdict,)
    agreement = float(np.mean(np.isin(_verdicts(drawn), equivalent)))
    crossings = int(np.count_nonzero(np.diff(point[0] < 0)))
    if crossings == 0:
        return Crossover(verdict, None, None, None, agreement, 0, lengths)
    ends_faster = verdict == "faster from"
    length = float(np.exp(_last_crossings(x, point, ends_faster)[0]))
    single = all(times[n].samples == 1 for n in lengths for times in (a, b))
    low, high = (None, None) if single else percentile_bounds(np.exp(_last_crossings(x, drawn, ends_faster)))
    if low == 0:
        low = -np.inf
    return Crossover(verdict, length, low, high, agreement, crossings, lengths)


def _verdicts(gaps: NDArray[np.float64]) -> NDArray[np.str_]:
    """The verdict of each row of ``gaps`` ``[rows, lengths]``: log(time a / time b), negative where a is faster."""
    faster = gaps < 0
    closer = gaps[:, -1] < gaps[:, 0]
    return np.select(
        [faster.all(1), ~faster.any(1) & closer, ~faster.any(1), faster[:, -1]],
        ["faster everywhere", "not reached in range", "slower everywhere", "faster from"],
        "slower from",
    )


def _last_crossings(x: NDArray[np.float64], gaps: NDArray[np.float64], ends_faster: bool) -> NDArray[np.float64]:
    """The log length from which a stays faster than b (or stays not faster, with ``ends_faster`` False), per row.

    It is ``-inf`` for a row that has the final order at every length, and ``inf`` for one that does not have it at the
    last length.

    Args:
        x: log lengths, ``[lengths]``.
        gaps: as in ``_verdicts``, ``[rows, lengths]``.
        ends_faster: whether the final order is "a is faster".
    """
    opposite = (gaps < 0) != ends_faster
    last = gaps.shape[1] - 1
    rows = np.arange(len(gaps))
    before = np.minimum(last - np.argmax(opposite[:, ::-1], axis=1), last - 1)
    left, right = gaps[rows, before], gaps[rows, before + 1]
    step = np.divide(left, left - right, out=np.zeros_like(left), where=left != right)
    crossing = x[before] + (x[before + 1] - x[before]) * step
    return np.where(opposite[:, -1], np.inf, np.where(opposite.any(1), crossing, -np.inf))
