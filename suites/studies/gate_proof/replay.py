"""Runs assembled from recorded rounds and judged by several gates: one commit against itself, or with a planted change.

For every run, each case draws its rounds at random from all recorded ones, and which of the two processes is called
head is drawn too, since both ran the same commit. Given the recording, the runs are therefore independent. The interval
of a rate does not include that another recording would have other rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import parse_compare_fail

from harness.core.record import Memory, Record, Run, Timing
from harness.core.spec import AnySpec
from harness.gate.commits import two_commits
from harness.gate.commits.turns import FIRST_PASS, FRESH_ROUND
from harness.gate.judge import judgement
from harness.gate.judge.judgement import Judgement
from harness.gate.judge.thresholds import Settings
from suites.studies.gate_proof.recording import CASES, CaseRound, Recording

COMPARE_FAIL = "median:5%"
"""The threshold of pytest-benchmark's own gate, with which this one is compared."""


EPOCH = "1970-01-01T00:00:00+00:00"
"""When every replayed record began."""


@dataclass(frozen=True)
class Planted:
    """The change planted in one case of head: factors on its times and on its peak memory."""

    time: float = 1.0
    memory: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """A gate's verdict on one run: its exit code, and whether it named the planted case as a regression."""

    exit_code: int
    named: bool


class Replay:
    """Draws runs from one recording.

    Args:
        recording: rounds of one commit against itself.
        cases: number of cases of a run. If it exceeds the recorded ones, these are used repeatedly, each time with
            rounds of their own.
        settings: the gate's thresholds.
        rng: makes all random choices.
    """

    def __init__(self, recording: Recording, cases: int, settings: Settings, rng: np.random.Generator) -> None:
        self._recording = recording
        self._specs = [CASES[number % len(CASES)].model_copy(update={"seed": number}) for number in range(cases)]
        self._settings = settings
        self._rng = rng
        self._records: dict[tuple[str, int, int, Planted, int], Record] = {}
        # How many preparations of a recorded round the first pass uses before the case is settled.
        self._settled_after: dict[tuple[str, int, int, Planted], int] = {}

    def ab(self, planted: Planted) -> Outcome:
        """``harness ab``: a first pass, then fresh rounds of the cases that it flags."""
        changed = int(self._rng.integers(len(self._specs)))
        cases = {spec.case_id: (spec, planted if n == changed else Planted()) for n, spec in enumerate(self._specs)}
        first = self._judge({case_id: [self._first_pass(*case)] for case_id, case in cases.items()})
        again = list(two_commits.flagged(first.findings))
        fresh: dict[str, list[tuple[Record, Record]]] = {case_id: [] for case_id in again}
        for number in range(two_commits.ROUNDS if again else 0):
            for case_id in again:
                fresh[case_id].append(self._fresh_round(*cases[case_id]))
            if number + 1 >= two_commits.SAME_FROM:
                unsettled = set(
                    two_commits.flagged(self._judge({case_id: fresh[case_id] for case_id in again}).findings)
                )
                again = [case_id for case_id in again if case_id in unsettled]
            if not again:
                break
        # A case that was not flagged keeps its verdict: it has no part in the false-discovery control of the others.
        settled = tuple(finding for finding in first.findings if finding.case_id not in fresh)
        judged = self._judge(fresh).findings if fresh else ()
        return _outcome(replace(first, findings=(*settled, *judged)), self._specs[changed].case_id)

    def gate(self, planted: Planted, processes: int = 1) -> Outcome:
        """``harness gate`` on stored runs of so many processes per commit, all measured at different times."""
        changed, base, head = self._stored(planted, processes)
        runs = [_run(records, session=None) for records in (base, head)]
        return _outcome(judgement.judge(runs[0], runs[1], self._settings), self._specs[changed].case_id)

    def pytest_benchmark(self, planted: Planted) -> Outcome:
        """pytest-benchmark's own comparison of the same two stored runs, by its own code."""
        changed, base, head = self._stored(planted)
        check = parse_compare_fail(COMPARE_FAIL)
        failed = [
            number
            for number, (base_record, head_record) in enumerate(zip(base, head, strict=True))
            if check.fails({check.field: _median(head_record)}, {check.field: _median(base_record)})
        ]
        return Outcome(1 if failed else 0, changed in failed)

    def _judge(self, rounds: Mapping[str, Sequence[tuple[Record, Record]]]) -> Judgement:
        base, head = ([pair[which] for pairs in rounds.values() for pair in pairs] for which in (0, 1))
        return judgement.judge(_run(base, "replayed"), _run(head, "replayed"), self._settings)

    def _first_pass(self, spec: AnySpec, planted: Planted) -> tuple[Record, Record]:
        pick, swapped = int(self._rng.integers(len(self._recording.rounds))), int(self._rng.integers(2))
        recorded = spec.model_copy(update={"seed": 0}).case_id
        key = (recorded, pick, swapped, planted)
        numbers: Sequence[int] = range(FIRST_PASS.preparations, FIRST_PASS.max_preparations + 1)
        if key in self._settled_after:
            numbers = (self._settled_after[key],)
        for preparations in numbers:
            records = (
                self._record(spec, pick, swapped, Planted(), preparations),
                self._record(spec, pick, 1 - swapped, planted, preparations),
            )
            self._settled_after[key] = preparations
            if not two_commits.flagged(judgement.judge_case(*records, self._settings)):
                break
        return records

    def _fresh_round(self, spec: AnySpec, planted: Planted) -> tuple[Record, Record]:
        pick = int(self._rng.integers(len(self._recording.rounds)))
        return self._pair(spec, pick, pick, planted)

    def _stored(self, planted: Planted, processes: int = 1) -> tuple[int, list[Record], list[Record]]:
        changed = int(self._rng.integers(len(self._specs)))
        base, head = [], []
        for number, spec in enumerate(self._specs):
            rounds = self._rng.permutation(len(self._recording.rounds))[: 2 * processes]
            change = planted if number == changed else Planted()
            for base_round, head_round in zip(rounds[::2], rounds[1::2], strict=True):
                pair = self._pair(spec, int(base_round), int(head_round), change)
                base.append(pair[0])
                head.append(pair[1])
        return changed, base, head

    def _pair(self, spec: AnySpec, base_round: int, head_round: int, planted: Planted) -> tuple[Record, Record]:
        swapped = int(self._rng.integers(2))
        return (
            self._record(spec, base_round, swapped, Planted(), FRESH_ROUND.preparations),
            self._record(spec, head_round, 1 - swapped, planted, FRESH_ROUND.preparations),
        )

    def _record(self, spec: AnySpec, number: int, which: int, planted: Planted, preparations: int) -> Record:
        recorded = spec.model_copy(update={"seed": 0}).case_id
        key = (recorded, number, which, planted, preparations)
        if key not in self._records:
            case_round = self._recording.rounds[number][recorded]
            self._records[key] = _record(spec, case_round, which, planted, preparations)
        return self._records[key].model_copy(update={"case_id": spec.case_id, "spec": spec})


def _record(spec: AnySpec, case_round: CaseRound, which: int, planted: Planted, preparations: int) -> Record:
    """The record of one of the round's two processes, from its first ``preparations`` preparations."""
    turns = [pair[which] for pairs in case_round.preparations[:preparations] for pair in pairs]
    return Record.model_construct(
        case_id=spec.case_id,
        spec=spec,
        status="ok",
        timing=Timing.model_construct(
            wall_seconds=[planted.time * value for turn in turns for value in turn], turns=[len(turn) for turn in turns]
        ),
        memory=Memory.model_construct(peak_bytes=round(case_round.peak_bytes[which] * planted.memory)),
        started=EPOCH,  # the judgement says when a run was disturbed; a replayed one never is
        took_seconds=0.0,
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


def _outcome(judged: Judgement, case_id: str) -> Outcome:
    named = any(finding.case_id == case_id for finding in judged.with_weight("regression"))
    return Outcome(judged.exit_code, named)
