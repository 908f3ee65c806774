"""One case of two commits, sampled in turns: base, head, head, base, ... a call at a time.

Whatever the machine does for longer than a turn (another tenant, a clock that droops) meets both commits alike and
leaves the ratio of neighbouring turns alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from harness.core.record import Record, Timing
from harness.core.spec import AnySpec
from harness.gate.commits.commit_process import CommitProcess, Failed

Settled = Callable[[Record, Record], bool]
"""Whether these records of base and head need no more turns."""
Pair = tuple[list[float], list[float]]
"""Samples of neighbouring turns in seconds a call: base's and head's."""
LONG_CALL_SECONDS = 0.03
"""A case whose call takes this long is not prepared anew: the pages that its tensors got decide little of it."""
SHORT_CALL_SECONDS = 2e-3
"""A turn of calls shorter than this begins with one that says how many make a sample, and is thrown away."""
ONE_CALL = {"min_samples": 1, "max_samples": 1, "seconds": 0.0, "warmup_calls": 0, "warmup_seconds": 0.0}
"""A turn on a CPU. Its speed wanders by 4 to 13% within 40 ms: the shorter a turn, the more alike are neighbours."""
ON_A_DEVICE = {"min_samples": 1, "max_samples": 30, "seconds": 0.04, "warmup_calls": 0, "warmup_seconds": 0.0}
"""A turn on a CUDA device: its clock takes turns of this length for steady."""
SECONDS = 0.2
"""Of turns after a preparation, by itself."""
BETWEEN_SECONDS = 3e-3
"""About what a turn takes besides its samples: to ask, a collection, to answer."""


@dataclass(frozen=True)
class Plan:
    """How long a case is sampled: how often it is prepared, each time for ``seconds``, or one pair of turns.

    It is prepared at least ``preparations`` times, and more often, up to ``most``, while ``Settled`` is not content. A
    long call is prepared once, and sampled as often, each time for ``long_seconds``.

    The pages that a case's tensors get decide up to a third of a short call's time, for as long as it has them. Where
    it is prepared more than once, its figure is less a matter of luck.
    """

    preparations: int
    most: int
    seconds: float = SECONDS
    long_seconds: float = SECONDS


FIRST = Plan(preparations=3, most=8)
"""Of the first pass, which takes a case on until it is clear that it has not changed."""
FRESH = Plan(preparations=6, most=6)
"""The least of a round of fresh processes."""
ROUND_SECONDS = 30.0
"""Of a long call's turns in a round, where no other case is left; of several each has its part."""


def of_round(cases: int) -> Plan:
    """Of a round of fresh processes in which so many cases are taken again.

    Of a long call the usual time has six pairs of turns, and they decide how sure a round is. Of a short one it has
    hundreds: what tells two rounds apart is luck of their processes, and only more rounds help.
    """
    return replace(FRESH, long_seconds=max(SECONDS, ROUND_SECONDS / (cases * FRESH.preparations)))


def measure(
    base: CommitProcess,
    head: CommitProcess,
    spec: AnySpec,
    plan: Plan,
    head_first: bool,
    again: bool = False,
    settled: Settled = lambda base, head: True,
) -> tuple[Record, Record]:
    """Prepare a case on both sides and sample it in turns.

    Args:
        base: the commit that is compared with.
        head: the commit that is judged.
        spec: the case, known to both.
        plan: how long.
        head_first: whose turn is first.
        again: other processes of the same code have measured it; head's output is not verified again, nor observed
            what a call does and takes. Base's is verified only where head's is wrong, to know whether it was so before:
            verification is what takes the longest.
        settled: asked after every preparation from ``plan.preparations`` on.

    Returns:
        Base's record and head's. Where one of them failed, neither has a timing.
    """
    order = (1, 0) if head_first else (0, 1)
    for which in order:  # who comes first may get other pages: neither side always
        (base, head)[which].begin_prepare(spec, verified=again or which == 0, observed=again)
    records = (base.prepared(), head.prepared())
    if records[1].status == "incorrect" and records[0].status == "ok":
        base.begin_prepare(spec, verified=False, observed=again)
        records = (base.prepared(), records[1])
    if any(one.status != "ok" for one in records) or spec.kind not in ("operation", "model"):
        return records
    try:
        for number, turns in enumerate(_in_turns((base, head), spec, plan, order), start=1):
            found = _with_timing(records[0], turns[0]), _with_timing(records[1], turns[1])
            if number >= plan.preparations and settled(*found):
                break
    except _Stopped as stop:
        return _with_failure(records, stop.which, stop.failed)
    return found


def pairs_of(base: Timing, head: Timing) -> list[Pair]:
    """The pairs of neighbouring turns that two records hold."""
    return list(zip(_split(base), _split(head), strict=True))


class _Stopped(Exception):
    """One side has failed in the middle of a case."""

    def __init__(self, which: int, failed: Failed) -> None:
        self.which, self.failed = which, failed


def _in_turns(
    sides: tuple[CommitProcess, CommitProcess], spec: AnySpec, plan: Plan, order: tuple[int, ...]
) -> Iterator[tuple[list[Timing], list[Timing]]]:
    """The turns of both so far, of a case that both have prepared, after each of its preparations."""
    turns: tuple[list[Timing], list[Timing]] = ([], [])
    # Nobody knows yet how long a call takes. A short one is thrown away: the process's memory grows in it.
    first = _pair(sides, order, ONE_CALL)
    seconds = min(min(_seconds(one)) for one in first)
    long = seconds >= LONG_CALL_SECONDS
    turn = ONE_CALL if spec.device == "cpu" else ON_A_DEVICE
    effort = turn | {"warmup_calls": 1 if seconds < SHORT_CALL_SECONDS else 0}
    time = plan.long_seconds if long else plan.seconds
    pairs = max(1, round(time / 2 / (max(seconds, turn["seconds"]) + BETWEEN_SECONDS)))
    for number in range(plan.most):
        if number and not long:
            _prepare_anew(sides, spec, order)
        for count in range(pairs):
            pair = first if long and not number + count else _pair(sides, order, effort)
            for taken, timing in zip(turns, pair, strict=True):
                taken.append(timing)
            order = order[::-1]
        yield turns


def _pair(
    sides: tuple[CommitProcess, CommitProcess], order: tuple[int, ...], effort: dict[str, Any]
) -> tuple[Timing, Timing]:
    found = {}
    for which in order:
        timing = sides[which].sample(effort)
        if isinstance(timing, Failed):
            raise _Stopped(which, timing)
        found[which] = timing
    return found[0], found[1]


def _prepare_anew(sides: tuple[CommitProcess, CommitProcess], spec: AnySpec, order: tuple[int, ...]) -> None:
    for which in order:
        sides[which].begin_prepare(spec, verified=True, observed=True)
    for which, record in enumerate([one.prepared() for one in sides]):
        if record.status != "ok":
            raise _Stopped(which, Failed(record.status, record.reasons))


def _seconds(timing: Timing) -> list[float]:
    return timing.wall_seconds if timing.device_seconds is None else timing.device_seconds


def _split(timing: Timing) -> list[list[float]]:
    seconds, found = _seconds(timing), []
    for count in timing.turns or [len(seconds)]:
        found.append(seconds[:count])
        seconds = seconds[count:]
    return found


def _with_timing(record: Record, turns: list[Timing]) -> Record:
    def joined(name: str) -> list[float] | None:
        lists = [getattr(one, name) for one in turns]
        return None if lists[0] is None else [value for values in lists for value in values]

    timing = turns[0].model_copy(
        update={
            **{name: joined(name) for name in ("wall_seconds", "device_seconds", "submit_seconds")},
            "warmup_calls": sum(one.warmup_calls for one in turns),
            "calls_per_sample": round(median(one.calls_per_sample for one in turns)),
            "turns": [len(one.wall_seconds) for one in turns],
        }
    )
    return record.model_copy(update={"timing": timing})


def _with_failure(records: tuple[Record, Record], which: int, failed: Failed) -> tuple[Record, Record]:
    found = list(records)
    found[which] = found[which].model_copy(update={"status": failed.status, "reasons": failed.reasons})
    return found[0], found[1]
