"""Two commits measured in turns: first every case once, then what looked changed again, in fresh processes.

The first pass has one process a side and can only say SAME, or look closer. What it flags is taken ``ROUNDS`` times
more, each time in two fresh processes, and judged by those samples alone: they are independent of the flagging, so
that the false-discovery rate holds over the cases that are tested, however many were screened. What turns out the same
meanwhile is let go, and still counts as tested.
"""

import os
import shlex
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic
from uuid import uuid4

from harness.core.record import Record, Run
from harness.core.spec import AnySpec
from harness.gate.commits import quiet_cores, worktrees
from harness.gate.commits.collection import Collection, collect
from harness.gate.commits.commit_process import CommitProcess
from harness.gate.commits.turns import FIRST, measure, of_round
from harness.gate.judge import judgement, thresholds
from harness.gate.judge.judgement import Finding, Judgement
from harness.gate.judge.thresholds import Settings
from harness.statistics.meta_analysis import MIN_ROUNDS

ROUNDS = 16
"""Rounds of fresh processes for what the first pass flagged."""
SAME_FROM = 2
"""Rounds from which a flagged case may be let go as the same."""
FOUND_ONCE = ("checks", "conditions", "kernel_launches", "memory")
"""Fields of a record that are the same in every process of one commit."""
Say = Callable[[str], None]
Keep = Callable[[Run, Run], None]


@dataclass
class Commit:
    """One side: where it is checked out, what it is called, and its cases."""

    id: str
    side: CommitProcess
    cases: Collection
    first: dict[str, Record] = field(default_factory=dict)
    fresh: dict[str, list[Record]] = field(default_factory=dict)
    machine: dict[str, object] = field(default_factory=dict)

    def run(self, command: str, session: str, started: str) -> Run:
        """What was found: the fresh rounds of a case, or the first where there are none."""
        records: list[Record] = []
        for case_id, record in self.first.items():
            records += self.fresh.get(case_id) or [record]
        return Run.model_validate(
            {
                "started": started,
                "command": command,
                "profile": self.cases.profile,
                "commit": self.id,
                "machine": self.machine,
                "session": session,
                "records": records,
            }
        )


def compare(
    base: Commit, head: Commit, settings: Settings, command: str, minutes: float, say: Say, keep: Keep
) -> Judgement:
    """Measure and judge.

    Args:
        base: what head is held against; its process is started here.
        head: what is judged.
        settings: the gate's thresholds.
        command: what reproduces it.
        minutes: no round of fresh processes is begun that would end after these, if five are there.
        say: told of the progress, a line at a time.
        keep: given what base and head have so far, after the first pass and after every round.

    Raises:
        ProcessFailure: a side does not start at all; the message says how it ended.
    """
    began = monotonic()
    session, started = uuid4().hex, datetime.now(UTC).isoformat(timespec="seconds")

    def runs() -> tuple[Run, Run]:
        return base.run(command, session, started), head.run(command, session, started)

    for one in (base, head):
        one.side.start()
    for one in (base, head):
        one.machine = one.side.machine(one.cases.device)["machine"]
    specs = head.cases.specs | base.cases.specs
    _first_pass(base, head, specs, settings, say)
    keep(*runs())
    found = judgement.judge(*runs(), settings)
    again = {case_id: specs[case_id] for case_id in flagged(found.findings)}
    say(f"first pass: {len(specs)} cases in {monotonic() - began:.0f} s, {len(again)} to look at again")
    last = 0.0
    for number in range(ROUNDS if again else 0):
        round_began = monotonic()
        if not again:
            break
        if number >= MIN_ROUNDS and round_began - began + last > 60 * minutes:
            say(f"time is over after {number} of {ROUNDS} rounds")
            break
        _fresh_round(base, head, again, number)
        keep(*runs())
        if number + 1 >= SAME_FROM:
            # What is the same by now needs no more rounds; that a case is worse is only ever said at the end.
            unsettled = set(flagged(judgement.judge(*runs(), settings).findings))
            again = {case_id: spec for case_id, spec in again.items() if case_id in unsettled}
        last = monotonic() - round_began
        say(f"round {number + 1} of {ROUNDS} in {last:.0f} s, {len(again)} to look at again")
    return judgement.judge(*runs(), settings)


def compare_commits(
    base: str, head: str, arguments: tuple[str, ...], minutes: float, timeout: float, case: str, say: Say, keep: Keep
) -> Judgement:
    """Check out, build, measure and judge two commits of the repository around the current folder.

    Args:
        base: the commit that head is held against.
        head: the commit that is judged.
        arguments: pytest's: suites and the harness's options.
        minutes: see ``compare``.
        timeout: seconds that a case may take to be prepared.
        case: shell pattern of case ids.
        say: told of the progress, a line at a time.
        keep: given what base and head have, after the first pass and again after every round.

    Raises:
        CommitError: a commit is not there, does not check out, build or collect, or neither has the case.
        SettingsError: the thresholds are wrong.
        ProcessFailure: a side's process does not start.
    """
    here = Path.cwd()
    settings = thresholds.load(here)
    env = environment()
    sides: list[Commit] = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-ab-")))
        for name, revision in (("base", base), ("head", head)):
            commit = worktrees.resolve(here, revision)
            say(f"{name}: {commit[:12]}, checked out and built")
            folder = stack.enter_context(worktrees.checkout(here, commit, scratch / name))
            worktrees.build(folder, commit, settings.build, env)
            cases = collect(folder, commit, arguments, env)
            # A cache in common would let one side find what the other has compiled.
            side = CommitProcess(folder, {"TORCHINDUCTOR_CACHE_DIR": str(scratch / f"{name}-inductor")}, timeout)
            stack.callback(side.close)
            sides.append(Commit(commit, side, cases))
        for one in sides:
            one.cases.specs = {name: spec for name, spec in one.cases.specs.items() if fnmatchcase(name, case)}
        if not any(one.cases.specs for one in sides):
            raise worktrees.CommitError(f"neither commit has a case that fits {case!r} in: {shlex.join(arguments)}")
        cores = quiet_cores.stay_on_them()
        say(f"measured on cores: {'all' if cores is None else ', '.join(map(str, cores))}")
        command = f"harness ab {base} {head} -- {shlex.join(arguments)}"
        return compare(sides[0], sides[1], settings, command, minutes, say, keep)


def environment() -> dict[str, str]:
    """Of the sides and their builds: this one's, without what pytest says of itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def _first_pass(base: Commit, head: Commit, specs: dict[str, AnySpec], settings: Settings, say: Say) -> None:
    def settled(one: Record, other: Record) -> bool:
        return not flagged(judgement.judge_case(one, other, settings))

    for number, (case_id, spec) in enumerate(specs.items()):
        began = monotonic()
        has = [one for one in (base, head) if case_id in one.cases.specs]
        measured: tuple[Record, ...]
        if len(has) == 2:
            measured = measure(base.side, head.side, spec, FIRST, head_first=number % 2 == 1, settled=settled)
        else:
            has[0].side.begin_prepare(spec, verified=False, observed=False)
            measured = (has[0].side.prepared(),)
        for one, record in zip(has, measured, strict=True):
            one.first[case_id] = record
        status = " ".join(dict.fromkeys(record.status for record in measured))
        say(f"{number + 1}/{len(specs)} {case_id}: {status}, {monotonic() - began:.1f} s")


def flagged(findings: Iterable[Finding]) -> Iterable[str]:
    """What is not settled: cases that may be worse, or look twice the floor better; in their first order."""
    return dict.fromkeys(
        one.case_id
        for one in findings
        if one.effect is not None
        and one.metric is not None
        and one.metric.replicate == "process"  # a draw's seed gives the same one again
        and one.effect.standard_error > 0
        and one.verdict != "SAME"
        and (one.weight != "fine" or one.effect.value < -judgement.PROMISE * (one.floor or 0.0))
    )


def _fresh_round(base: Commit, head: Commit, flagged: dict[str, AnySpec], number: int) -> None:
    sides = (base, head) if number % 2 == 0 else (head, base)
    for one in sides:
        one.side.close()
    for one in sides:
        one.side.start()
    plan, order = of_round(len(flagged)), list(enumerate(flagged.items()))
    # Who begins changes every round, and every second round the order: what a case leaves behind in a process does not
    # always meet the same next one.
    for place, (case_id, spec) in order[::-1] if number % 4 >= 2 else order:
        records = measure(base.side, head.side, spec, plan, head_first=(number + place) % 2 == 1, again=True)
        for one, record in zip((base, head), records, strict=True):
            # Verified and observed once; the same code need not be again, and the record says what was found then.
            kept = record.model_copy(update={name: getattr(one.first[case_id], name) for name in FOUND_ONCE})
            one.fresh.setdefault(case_id, []).append(kept)
