"""Interleaved samples of one case of two commits: the processes take turns, base, head, head, base (ABBA).

A turn is one call, or a few. A disturbance that lasts longer than a turn (another process, a falling clock rate)
affects neighbouring turns of both commits equally and cancels in their ratio.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from harness.core.record import Record, Timing
from harness.core.spec import AnySpec, seed_from_entropy
from harness.gate.commits.commit_process import CommitProcess, Failed
from harness.statistics import disturbance

Settled = Callable[[Record, Record], bool]
"""Whether the case needs no more turns, given the records of base and head so far."""
Pair = tuple[list[float], list[float]]
"""Samples of two neighbouring turns, base's and head's, in seconds per call."""
LONG_CALL_SECONDS = 0.03
"""A case whose call takes this long is prepared only once: its memory pages hardly influence its time."""
SHORT_CALL_SECONDS = 2e-3
"""If a call is shorter than this, each turn starts with a discarded call that determines the calls per sample."""
CPU_TURN = {"min_samples": 1, "max_samples": 1, "seconds": 0.0, "warmup_calls": 0, "warmup_seconds": 0.0}
"""Effort of a turn on a CPU: one call. A CPU's speed drifts by 4 to 13% within 40 ms, and the shorter two neighbouring
turns are, the more similar is its speed in them."""
CUDA_TURN = {"min_samples": 1, "max_samples": 30, "seconds": 0.04, "warmup_calls": 0, "warmup_seconds": 0.0}
"""Effort of a turn on a CUDA device: 40 ms, over which its clock rate is steady."""
SECONDS = 0.2
"""Default duration of the turns after one preparation."""
TURN_OVERHEAD_SECONDS = 3e-3
"""About what a turn takes besides its samples: request, garbage collection, answer."""


@dataclass(frozen=True)
class Plan:
    """How often a case is prepared, and for how long it is sampled after each preparation (at least one pair of turns).

    A case is prepared at least ``preparations`` times, and up to ``max_preparations`` times until it is ``Settled``;
    after each preparation it is sampled for ``seconds``. A case with a long call is prepared once and sampled as many
    times, each time for ``long_seconds``.

    The memory pages of a case's tensors determine up to a third of a short call's time for as long as they are
    allocated. Several preparations average over this.
    """

    preparations: int
    max_preparations: int
    seconds: float = SECONDS
    long_seconds: float = SECONDS


FIRST_PASS = Plan(preparations=3, max_preparations=8)
"""For the first pass, which continues with a case until it is clear that it has not changed."""
FRESH_ROUND = Plan(preparations=6, max_preparations=6)
"""For a round of fresh processes; see ``plan_of_round``."""
ROUND_SECONDS = 30.0
"""Total duration of the turns of the long calls in one round; the cases of the round share it."""


def plan_of_round(cases: int) -> Plan:
    """The plan of a round of fresh processes that measures so many cases.

    In the default time a long call has six pairs of turns, so that more time makes its round more precise. A short call
    has hundreds of pairs: two rounds of it differ because their processes differ, and only more rounds help.
    """
    long_seconds = max(SECONDS, ROUND_SECONDS / (cases * FRESH_ROUND.preparations))
    return replace(FRESH_ROUND, long_seconds=long_seconds)


def measure(
    base: CommitProcess,
    head: CommitProcess,
    spec: AnySpec,
    plan: Plan,
    head_first: bool,
    again: bool = False,
    settled: Settled = lambda base, head: True,
) -> tuple[Record, Record]:
    """Prepare a case in both processes and sample it in turns.

    Args:
        base: process of the commit that is compared with.
        head: process of the commit that is judged.
        spec: the case, which both commits have.
        plan: how long to sample.
        head_first: whether head has the first turn.
        again: other processes of the same commits have measured this case before. Then nothing is verified, and the
            operators and memory of a call are not observed. Otherwise head is verified, and base only if head is
            incorrect, to find out whether it was incorrect before: verification takes longer than anything else.
        settled: called after every preparation from ``plan.preparations`` on; True ends the sampling.

    Returns:
        Base's record and head's. If one of them failed, neither has a timing.
    """
    order = (1, 0) if head_first else (0, 1)
    # Both get the same inputs, so that a time that depends on them does not differ between the commits.
    inputs_seed = seed_from_entropy()
    # The process that prepares first may get different memory pages, so the order alternates.
    for which in order:
        (base, head)[which].begin_prepare(spec, verified=again or which == 0, observed=again, inputs_seed=inputs_seed)
    records = (base.prepared(), head.prepared())
    if records[1].status == "incorrect" and records[0].status == "ok":
        base.begin_prepare(spec, verified=False, observed=again, inputs_seed=inputs_seed)
        records = (base.prepared(), records[1])
    if any(record.status != "ok" for record in records) or spec.kind not in ("operation", "model"):
        return records
    try:
        for number, timings in enumerate(_interleaved((base, head), spec, plan, order), start=1):
            timed = _with_timing(records[0], timings[0]), _with_timing(records[1], timings[1])
            if number >= plan.preparations and settled(*timed):
                break
        _verify_timed_calls((base, head))
    except _Stopped as stop:
        return _with_failure(records, stop.which, stop.failed)
    return timed


def pairs_of(base: Timing, head: Timing) -> list[Pair]:
    """The pairs of neighbouring turns in the timings of base and head."""
    return list(zip(_samples_by_turn(base), _samples_by_turn(head), strict=True))


class _Stopped(Exception):
    """One of the processes failed while a case was being sampled."""

    def __init__(self, which: int, failed: Failed) -> None:
        self.which, self.failed = which, failed


def _interleaved(
    processes: tuple[CommitProcess, CommitProcess], spec: AnySpec, plan: Plan, order: tuple[int, ...]
) -> Iterator[tuple[list[Timing], list[Timing]]]:
    """The turns of base and head so far, after each preparation; both have prepared the case once already."""
    timings: tuple[list[Timing], list[Timing]] = ([], [])
    # The first pair shows how long a call takes. It is discarded if that is short, because the process's memory grows
    # during it.
    first = _pair(processes, order, CPU_TURN)
    seconds = min(min(_seconds(timing)) for timing in first)
    long = seconds >= LONG_CALL_SECONDS
    turn = CPU_TURN if spec.device == "cpu" else CUDA_TURN
    effort = turn | {"warmup_calls": 1 if seconds < SHORT_CALL_SECONDS else 0}
    duration = plan.long_seconds if long else plan.seconds
    pairs = max(1, round(duration / 2 / (max(seconds, turn["seconds"]) + TURN_OVERHEAD_SECONDS)))
    for number in range(plan.max_preparations):
        if number and not long:
            _prepare_again(processes, spec, order)
        for count in range(pairs):
            pair = first if long and not number + count else _pair(processes, order, effort)
            for commit_timings, timing in zip(timings, pair, strict=True):
                commit_timings.append(timing)
            order = order[::-1]
        yield timings


def _pair(
    processes: tuple[CommitProcess, CommitProcess], order: tuple[int, ...], effort: dict[str, Any]
) -> tuple[Timing, Timing]:
    timings = {}
    for which in order:
        timing = processes[which].sample(effort)
        if isinstance(timing, Failed):
            raise _Stopped(which, timing)
        timings[which] = timing
    return timings[0], timings[1]


def _prepare_again(processes: tuple[CommitProcess, CommitProcess], spec: AnySpec, order: tuple[int, ...]) -> None:
    inputs_seed = seed_from_entropy()
    for which in order:
        processes[which].begin_prepare(spec, verified=True, observed=True, inputs_seed=inputs_seed)
    for which, record in enumerate([process.prepared() for process in processes]):
        if record.status != "ok":
            raise _Stopped(which, Failed(record.status, record.reasons))


def _verify_timed_calls(processes: tuple[CommitProcess, CommitProcess]) -> None:
    """Verify results of the calls that both have timed since the last preparation."""
    for process in processes:
        process.begin_verify()
    answers = [process.verified() for process in processes]
    for which, failed in enumerate(answers):
        if failed is not None:
            raise _Stopped(which, failed)


def _seconds(timing: Timing) -> list[float]:
    return timing.wall_seconds if timing.device_seconds is None else timing.device_seconds


def _samples_by_turn(timing: Timing) -> list[list[float]]:
    seconds, turns = _seconds(timing), []
    for count in timing.turns or [len(seconds)]:
        turns.append(seconds[:count])
        seconds = seconds[count:]
    return turns


SAMPLES = ("wall_seconds", "device_seconds", "submit_seconds", "cpu_seconds", "involuntary_switches")
"""The fields of a timing that have one value per sample."""


def _with_timing(record: Record, turns: list[Timing]) -> Record:
    def joined(name: str) -> list[float] | None:
        samples = [getattr(turn, name) for turn in turns]
        return None if samples[0] is None else [value for values in samples for value in values]

    timing = turns[0].model_copy(
        update={
            **{name: joined(name) for name in SAMPLES},
            "warmup_calls": sum(turn.warmup_calls for turn in turns),
            "calls_per_sample": round(median(turn.calls_per_sample for turn in turns)),
            "clocks": turns[-1].clocks,
            "turns": [len(turn.wall_seconds) for turn in turns],
        }
    )
    return record.model_copy(update={"timing": disturbance.judged(timing)})


def _with_failure(records: tuple[Record, Record], which: int, failed: Failed) -> tuple[Record, Record]:
    changed = list(records)
    changed[which] = changed[which].model_copy(update={"status": failed.status, "reasons": failed.reasons})
    return changed[0], changed[1]
