"""Runs of the gates put together from recorded rounds: one commit against itself, or with a change planted in head.

Every round of every case is drawn anew from all that were recorded, and by lot which side is called head: the
recordings are of one commit. The runs are therefore independent of each other, given the recording; that another
recording would have other rounds is not in a rate's interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import parse_compare_fail

from harness.core.record import Memory, Record, Run, Timing
from harness.core.spec import AnySpec
from harness.gate.commits import two_commits
from harness.gate.commits.turns import FIRST, FRESH
from harness.gate.judge import judgement
from harness.gate.judge.judgement import Judgement
from harness.gate.judge.thresholds import Settings
from suites.studies.gate_proof.recording import CASES, CaseRound, Recording

COMPARE_FAIL = "median:5%"
"""pytest-benchmark's gate that this one is held against."""


@dataclass(frozen=True)
class Planted:
    """What is done to one case of head: its times and its peak memory multiplied."""

    time: float = 1.0
    memory: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a gate said of one run: its exit code, and whether it named the planted case as a regression."""

    exit_code: int
    named: bool


class Replay:
    """Draws runs from one recording.

    Args:
        recording: rounds of one commit against itself.
        cases: how many cases a run has; the recorded ones are taken again and again, with rounds of their own.
        settings: the gate's thresholds.
        rng: of all drawing.
    """

    def __init__(self, recording: Recording, cases: int, settings: Settings, rng: np.random.Generator) -> None:
        self._recording = recording
        self._specs = [CASES[number % len(CASES)].model_copy(update={"seed": number}) for number in range(cases)]
        self._settings = settings
        self._rng = rng
        self._records: dict[tuple[str, int, int, Planted, int], Record] = {}
        self._taken: dict[tuple[str, int, int, Planted], int] = {}  # preparations that the first pass takes of a round

    def ab(self, planted: Planted) -> Outcome:
        """``harness ab``: a first pass, then fresh rounds of what it flags."""
        where = int(self._rng.integers(len(self._specs)))
        cases = {spec.case_id: (spec, planted if n == where else Planted()) for n, spec in enumerate(self._specs)}
        first = self._judge({case_id: [self._first(*case)] for case_id, case in cases.items()})
        again = list(two_commits.flagged(first.findings))
        fresh: dict[str, list[tuple[Record, Record]]] = {case_id: [] for case_id in again}
        for number in range(two_commits.ROUNDS if again else 0):
            for case_id in again:
                fresh[case_id].append(self._round(*cases[case_id]))
            if number + 1 >= two_commits.SAME_FROM:
                unsettled = set(
                    two_commits.flagged(self._judge({case_id: fresh[case_id] for case_id in again}).findings)
                )
                again = [case_id for case_id in again if case_id in unsettled]
            if not again:
                break
        # A case that is not flagged keeps its verdict, whatever the others': it has no part in their control.
        settled = tuple(one for one in first.findings if one.case_id not in fresh)
        judged = self._judge(fresh).findings if fresh else ()
        return _outcome(replace(first, findings=(*settled, *judged)), self._specs[where].case_id)

    def _judge(self, rounds: Mapping[str, Sequence[tuple[Record, Record]]]) -> Judgement:
        sides = [[pair[side] for pairs in rounds.values() for pair in pairs] for side in (0, 1)]
        return judgement.judge(_run(sides[0], "replayed"), _run(sides[1], "replayed"), self._settings)

    def _first(self, spec: AnySpec, planted: Planted) -> tuple[Record, Record]:
        pick, swapped = int(self._rng.integers(len(self._recording.rounds))), int(self._rng.integers(2))
        recorded = spec.model_copy(update={"seed": 0}).case_id
        key = (recorded, pick, swapped, planted)
        for taken in (self._taken[key],) if key in self._taken else range(FIRST.preparations, FIRST.most + 1):
            found = (
                self._record(spec, pick, swapped, Planted(), taken),
                self._record(spec, pick, 1 - swapped, planted, taken),
            )
            self._taken[key] = taken
            if not two_commits.flagged(judgement.judge_case(*found, self._settings)):
                break
        return found

    def _round(self, spec: AnySpec, planted: Planted) -> tuple[Record, Record]:
        pick = int(self._rng.integers(len(self._recording.rounds)))
        return self._pair(spec, pick, pick, planted)

    def gate(self, planted: Planted, processes: int = 1) -> Outcome:
        """``harness gate`` on stored runs of as many processes a side, all taken at different times."""
        where, base, head = self._stored(planted, processes)
        runs = [_run(records, session=None) for records in (base, head)]
        found = judgement.judge(runs[0], runs[1], self._settings)
        return _outcome(found, self._specs[where].case_id)

    def pytest_benchmark(self, planted: Planted) -> Outcome:
        """pytest-benchmark's own comparison of the same two stored runs, by its own code."""
        where, base, head = self._stored(planted)
        check = parse_compare_fail(COMPARE_FAIL)
        failed = [
            number
            for number, (one, other) in enumerate(zip(base, head, strict=True))
            if check.fails({check.field: _median(other)}, {check.field: _median(one)})
        ]
        return Outcome(1 if failed else 0, where in failed)

    def _stored(self, planted: Planted, processes: int = 1) -> tuple[int, list[Record], list[Record]]:
        where = int(self._rng.integers(len(self._specs)))
        base, head = [], []
        for number, spec in enumerate(self._specs):
            rounds = self._rng.permutation(len(self._recording.rounds))[: 2 * processes]
            its = planted if number == where else Planted()
            for one, other in zip(rounds[::2], rounds[1::2], strict=True):
                pair = self._pair(spec, int(one), int(other), its)
                base.append(pair[0])
                head.append(pair[1])
        return where, base, head

    def _pair(self, spec: AnySpec, base_round: int, head_round: int, planted: Planted) -> tuple[Record, Record]:
        swapped = int(self._rng.integers(2))
        return (
            self._record(spec, base_round, swapped, Planted(), FRESH.preparations),
            self._record(spec, head_round, 1 - swapped, planted, FRESH.preparations),
        )

    def _record(self, spec: AnySpec, number: int, side: int, planted: Planted, taken: int) -> Record:
        recorded = spec.model_copy(update={"seed": 0}).case_id
        key = (recorded, number, side, planted, taken)
        if key not in self._records:
            self._records[key] = _record(spec, self._recording.rounds[number][recorded], side, planted, taken)
        return self._records[key].model_copy(update={"case_id": spec.case_id, "spec": spec})


def _record(spec: AnySpec, found: CaseRound, side: int, planted: Planted, taken: int) -> Record:
    turns = [pair[side] for pairs in found.preparations[:taken] for pair in pairs]
    return Record.model_construct(
        case_id=spec.case_id,
        spec=spec,
        status="ok",
        timing=Timing.model_construct(
            wall_seconds=[planted.time * value for turn in turns for value in turn], turns=[len(turn) for turn in turns]
        ),
        memory=Memory.model_construct(peak_bytes=round(found.peak_bytes[side] * planted.memory)),
    )


def _run(records: Sequence[Record], session: str | None) -> Run:
    return Run.model_construct(
        started="", command="", profile="replayed", commit=None, machine={}, session=session, records=list(records)
    )


def _median(record: Record) -> float:
    assert record.timing is not None
    stats = Stats()
    for value in record.timing.wall_seconds:
        stats.update(value)
    return float(stats.median)


def _outcome(found: Judgement, case_id: str) -> Outcome:
    return Outcome(found.exit_code, any(one.case_id == case_id for one in found.with_weight("regression")))
