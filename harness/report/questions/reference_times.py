"""Is it faster than the reference? Times relative to one exact attention, and when two times are tied.

An interval of one process's samples says nothing about another process. Where one kernel was timed under two names, as
with torch's ``sdpa`` and ``sdpa_flash``, the two differ by nothing but their processes, so their largest ratio over the
lengths is the factor below which no difference between two methods is clear.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from harness.core.spec import ModelSpec
from harness.report.model.amounts import Amount, Sentence, compose
from harness.report.model.page_data import Order, Tie
from harness.report.model.records_table import ReportRow
from harness.statistics.intervals import Estimate, overlap, ratio

REFERENCES = ("sdpa", "softmax")
"""The attentions that times are compared with: the first of them that was timed, else the fastest exact one."""
NO_ATTENTION = "none"
"""The attention that does nothing: the floor of every time, and no method."""


@dataclass(frozen=True)
class RelativeTime:
    """The place of a time relative to the reference; ``ratio`` is None where there is none to trust.

    ``tied_because`` says why a tied time is tied, and is None for any other.
    """

    order: Order
    words: str
    ratio: Amount | None
    tied_because: Sentence | None = None


def reference_row(rows: Iterable[ReportRow]) -> ReportRow | None:
    """The row that the others of one setting and length are compared with; None where no exact attention was timed."""
    exact = [row for row in rows if row.exact and row.time is not None]
    for name in REFERENCES:
        for row in exact:
            if row.base_series == name:
                return row
    return min(exact, key=_seconds, default=None)


def is_same_kernel(row: ReportRow, other: ReportRow) -> bool:
    """Whether two exact attentions are one kernel under two names. Approximations may share a kernel, or the words for
    one, and compute different things with it."""
    kernel = row.record.kernel
    is_one = kernel is not None and kernel == other.record.kernel
    return row.exact and other.exact and is_one and _around(row) == _around(other)


def reference_twins(rows: Iterable[ReportRow], reference: ReportRow | None) -> list[ReportRow]:
    """The undisturbed rows of one setting and length that are the reference's kernel under another name: of many rows,
    the only ones that ``relative_time`` must look at."""
    if reference is None:
        return []
    others = [row for row in rows if row is not reference and row.disturbance is None]
    return [row for row in others if is_same_kernel(row, reference)]


def kernel_tie(rows: Sequence[ReportRow], pass_words: str) -> Tie | None:
    """The largest ratio between two names of one kernel, over the lengths of one setting; None without such a pair."""
    by_length: dict[int, list[ReportRow]] = {}
    for row in rows:
        if row.exact and row.time is not None and row.time.low is not None and row.disturbance is None:
            by_length.setdefault(row.seq_len, []).append(row)
    factors = {
        (_factor(row, other), row.series, other.series)
        for group in by_length.values()
        for row, other in combinations(group, 2)
        if is_same_kernel(row, other) and row.series != other.series
    }
    if not factors:
        return None
    factor, first, second = max(factors)
    return Tie(
        Amount(factor, "number"),
        compose(
            "{} and {} are one kernel under two names, and differ by up to {} in {}: two times that are nearer than "
            "that are tied.",
            *sorted((first, second)), Amount(factor - 1, "fraction"), pass_words,
        ),
    )  # fmt: skip


def relative_time(
    row: ReportRow, reference: ReportRow | None, tie: Tie | None, others: Sequence[ReportRow] = ()
) -> RelativeTime:
    """The time of a row relative to the reference of its setting and length.

    Among ``others`` may be the reference's kernel under another name: a time that is not clearly different from that
    one's is none from the reference's either.
    """
    if reference is None or row.time is None or reference.time is None:
        return RelativeTime("no reference", "no exact attention was timed to compare with", None)
    name = reference.series
    if row is reference:
        return RelativeTime("reference", "the others are compared with it", Amount(1.0, "number"))
    disturbed = next((each for each in (row, reference) if each.disturbance is not None), None)
    times = None if disturbed else ratio(row.time, reference.time)
    amount = None if times is None else Amount.of_estimate(times, "number")
    if is_same_kernel(row, reference):
        return RelativeTime("same kernel", f"same kernel as {name}", None)
    if times is None:
        who = "this time was" if disturbed is row else f"the time of {name} was"
        return RelativeTime("unclear", f"{who} disturbed by other processes: no comparison with {name}", None)
    if times.low is None:
        return RelativeTime("unclear", f"timed only once: no verdict against {name}", None)
    tied_because = tie_reason(row.time, reference.time, tie) or _tie_with_twin(row, reference, tie, others)
    if tied_because is not None:
        return RelativeTime("tied", f"no clear difference to {name}", None, tied_because)
    if times.value < 1:
        return RelativeTime("faster", f"{Amount(1 / times.value, 'number')} times faster than {name}", amount)
    return RelativeTime("slower", f"{Amount(times.value, 'number')} times slower than {name}", amount)


def is_clear(time: Estimate | Amount, other: Estimate | Amount, tie: Tie | None) -> bool:
    """Whether two times have intervals that do not overlap, and differ by more than two names of one kernel do."""
    return tie_reason(time, other, tie) is None


def tie_reason(time: Estimate | Amount, other: Estimate | Amount, tie: Tie | None) -> Sentence | None:
    """Why two times are tied, as the end of a sentence; None where they are clearly different."""
    do_overlap = overlap(time, other)
    if do_overlap is None:
        return Sentence("a time has no interval")
    if do_overlap:
        return Sentence("their intervals overlap")
    quotient = time.value / other.value
    if tie is None or max(quotient, 1 / quotient) > tie.factor.value:
        return None
    difference = Amount(tie.factor.value - 1, "fraction")
    return compose("they differ by less than the two names of one kernel do, {}", difference)


def _tie_with_twin(
    row: ReportRow, reference: ReportRow, tie: Tie | None, others: Sequence[ReportRow]
) -> Sentence | None:
    """Why a time is tied with that of the reference's kernel under its other name; None where it is not."""
    for other in others:
        if row.time is None or other.time is None or other.disturbance is not None:
            continue
        if is_same_kernel(other, reference) and (reason := tie_reason(row.time, other.time, tie)) is not None:
            return compose("beside {}, the same kernel as {}, {}", other.series, reference.series, reason)
    return None


def _around(row: ReportRow) -> tuple[object, ...]:
    """What an attention is timed inside of: models of different families differ by more than their attention."""
    spec = row.record.spec
    return (spec.family, spec.conv_window) if isinstance(spec, ModelSpec) else ()


def _factor(row: ReportRow, other: ReportRow) -> float:
    quotient = _seconds(row) / _seconds(other)
    return max(quotient, 1 / quotient)


def _seconds(row: ReportRow) -> float:
    assert row.time is not None
    return row.time.value
