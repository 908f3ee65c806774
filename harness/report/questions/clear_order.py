"""Which order of two methods over the lengths is clear? A verdict needs both: the resamples of the run agree on it, and
the times differ by more than two names of one kernel do, which no resample of one process can know."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import inf

from harness.report.model.page_data import Tie
from harness.report.questions.reference_times import is_clear
from harness.statistics import growth, intervals
from harness.statistics.intervals import Estimate

Times = Mapping[int, Estimate]


def clear_lengths(own: Times, others: Times, tie: Tie | None) -> dict[int, bool]:
    """Whether the method is faster than the other, at the common lengths at which the difference is clear."""
    return {
        length: own[length].value < others[length].value
        for length in sorted(set(own) & set(others))
        if is_clear(own[length], others[length], tie)
    }


def clear_crossover(own: Times, others: Times, tie: Tie | None) -> growth.Crossover | growth.NoAnswer | None:
    """Where the method becomes faster or slower than the other; None where no order is clear.

    At least 95% of the resamples have the verdict. A crossing has a clear difference on both of its sides, and only
    such changes of the order are counted; where lengths beside it are not clear, it lies somewhere ``between`` the
    nearest two that are. A time of one sample has no interval, so its length is left out.
    """
    crossover = growth.crossover(_with_intervals(own), _with_intervals(others))
    if isinstance(crossover, growth.NoAnswer):
        return crossover
    clear = clear_lengths(own, others, tie)
    is_certain = crossover.agreement >= intervals.LEVEL and (crossover.low, crossover.high) != (-inf, inf)
    if not is_certain or not clear:
        return None
    if crossover.length is None:
        return crossover
    return _between_clear_orders(crossover, clear)


def _between_clear_orders(crossover: growth.Crossover, clear: Mapping[int, bool]) -> growth.Crossover | None:
    """A crossing of the medians, as far as the clear lengths show it; None where they show none."""
    assert crossover.length is not None
    ends_faster = crossover.verdict == "faster from"
    after = {is_faster for length, is_faster in clear.items() if length >= crossover.length}
    changes = [ends for ends in pairwise(sorted(clear)) if clear[ends[0]] != clear[ends[1]]]
    if after != {ends_faster} or not changes:
        return None
    left, right = changes[-1]
    is_bracketed = left < crossover.length <= right
    if is_bracketed and (left, right) in pairwise(crossover.lengths):
        return replace(crossover, crossings=len(changes))
    return replace(crossover, length=None, low=None, high=None, crossings=len(changes), between=(left, right))


def _with_intervals(times: Times) -> Times:
    return {length: time for length, time in times.items() if time.low is not None}


def partly_clear_words(crossover: growth.Crossover, clear: Mapping[int, bool]) -> str | None:
    """The order of two methods without a crossing where some lengths are tied; None where all lengths are clear."""
    if crossover.crossings or len(clear) == len(crossover.lengths):
        return None
    return f"{order_word(next(iter(clear.values())))} where the difference is clear"


def order_word(is_faster: bool) -> str:
    """The word of an order."""
    return "faster" if is_faster else "slower"
