"""Which order of two methods over the lengths is clear? A verdict needs both: the resamples of the run agree on it, and
the times differ by more than two names of one kernel do, which no resample of one process can know."""

from collections.abc import Mapping
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

    At least 95% of the resamples have the verdict. A crossing has a clear difference on both of its sides. A time of
    one sample has no interval, so its length is left out.
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
    before = {is_faster for length, is_faster in clear.items() if length < crossover.length}
    after = {is_faster for length, is_faster in clear.items() if length >= crossover.length}
    ends_faster = crossover.verdict == "faster from"
    return crossover if (not ends_faster) in before and after == {ends_faster} else None


def _with_intervals(times: Times) -> Times:
    return {length: time for length, time in times.items() if time.low is not None}


def partly_clear_words(crossover: growth.Crossover, clear: Mapping[int, bool]) -> str | None:
    """The order of two methods without a crossing where some lengths are tied; None where all lengths are clear."""
    if crossover.length is not None or len(clear) == len(crossover.lengths):
        return None
    return f"{order_word(next(iter(clear.values())))} where the difference is clear"


def order_word(is_faster: bool) -> str:
    """The word of an order."""
    return "faster" if is_faster else "slower"
