"""One case of two commits, sampled in turns: base, head, head, base, ... a fraction of a second apart.

Whatever the machine does for longer than a turn (another tenant, a clock that droops) meets both commits alike and
leaves the ratio of neighbouring turns alone.
"""

from dataclasses import dataclass
from statistics import median
from time import monotonic
from typing import Any

from harness.gating.side_process import Failed, SideProcess
from harness.record import Record, Timing
from harness.spec import AnySpec

Pair = tuple[list[float], list[float]]
"""Samples of neighbouring turns in seconds a call: base's and head's."""
LONG_CALL_SECONDS = 0.1
"""A call from this length on starts a turn without one that is thrown away: cold caches are under 1% of it."""
ONE_CALL = {"min_samples": 1, "max_samples": 1, "seconds": 0.0, "warmup_calls": 0, "warmup_seconds": 0.0}
"""The effort of each side's first turn, when nobody knows yet how long a call takes."""


@dataclass(frozen=True)
class Plan:
    """How long a case is sampled: ``pairs`` pairs of turns, or, where that takes longer than ``seconds``, no more than
    ``least_pairs``. A turn lasts ``turn_seconds``, or one call where that is longer."""

    pairs: int = 4
    least_pairs: int = 2
    seconds: float = 1.5
    turn_seconds: float = 0.04
    turn_samples: int = 30


def measure(
    base: SideProcess,
    head: SideProcess,
    spec: AnySpec,
    plan: Plan,
    head_first: bool,
    again: bool = False,
) -> tuple[Record, Record]:
    """Prepare a case on both sides and sample it in turns.

    Args:
        base: the commit that is compared with.
        head: the commit that is judged.
        spec: the case, known to both.
        plan: how long.
        head_first: whose turn is first.
        again: other processes of the same code have measured it; head's output is not verified again, nor observed
            what a call does. Base's is verified only where head's is wrong, to know whether it was so before:
            verification is what takes the longest.

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
    turns: tuple[list[Timing], list[Timing]] = ([], [])
    began = monotonic()
    seconds: float | None = None
    while len(turns[0]) < (plan.least_pairs if monotonic() - began > plan.seconds else plan.pairs):
        for which in order:
            found = (base, head)[which].sample(_effort(plan, seconds))
            if isinstance(found, Failed):
                return _with_failure(records, which, found)
            turns[which].append(found)
        known = seconds is not None
        seconds = min(min(_seconds(one)) for one in turns[0] + turns[1])
        if known or seconds >= LONG_CALL_SECONDS:
            order = order[::-1]
        else:
            for one in turns:
                one.clear()
    return _with_timing(records[0], turns[0]), _with_timing(records[1], turns[1])


def pairs_of(base: Timing, head: Timing) -> list[Pair]:
    """The pairs of neighbouring turns that two records hold."""
    return list(zip(_split(base), _split(head), strict=True))


def _effort(plan: Plan, seconds: float | None) -> dict[str, Any]:
    if seconds is None:
        return ONE_CALL
    return {
        "min_samples": 1,
        "max_samples": plan.turn_samples,
        "seconds": plan.turn_seconds,
        "warmup_calls": 0 if seconds >= LONG_CALL_SECONDS else 1,
        "warmup_seconds": 0.0,
    }


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
