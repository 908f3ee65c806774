"""``harness ab``: two commits measured in interleaved turns, first every case once, then suspected changes again.

The first pass has one process per commit. It can only find that a case is the SAME, or flag it. A flagged case is
measured in up to ``ROUNDS`` further rounds, each in two fresh processes, and judged by those samples alone. They are
independent of the flagging, so that the false-discovery rate holds over the flagged cases, however many were screened.
A flagged case that turns out to be the SAME is dropped from further rounds, and still counts as tested.
"""

import os
import shlex
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic
from uuid import uuid4

from harness.core.case_words import names_of_cases
from harness.core.quantities import remaining_words
from harness.core.record import Record, Run
from harness.core.spec import AnySpec
from harness.core.time_left import TimeLeft
from harness.gate.commits import project_suites, worktrees
from harness.gate.commits.commit_process import CommitProcess, bind_to_idle_cores
from harness.gate.commits.turns import FIRST_PASS, measure, plan_of_round
from harness.gate.commits.worktrees import Collection
from harness.gate.judge import judgement, thresholds
from harness.gate.judge.judgement import GateFinding, Judgement
from harness.gate.judge.thresholds import Settings
from harness.statistics.meta_analysis import MIN_ROUNDS

ROUNDS = 16
"""Rounds of fresh processes for the cases that the first pass flagged."""
SAME_FROM = 2
"""Rounds after which a flagged case may be dropped as the SAME."""
MEASURED_ONCE = ("checks", "conditions", "kernel_launches", "memory")
"""Fields of a record that are equal in every process of one commit."""
Progress = Callable[[str], None]
SaveRuns = Callable[[Run, Run, bool], None]
"""Saves the runs of base and head so far; True: every case is in them, and they can be judged."""
SAVING_SHARE = 0.05
"""The largest share of the first pass's time that goes into saving what it has measured so far."""


@dataclass
class Commit:
    """One of the two commits: its id, its process, its cases, and the records so far.

    ``first_pass`` has one record per case, ``fresh_rounds`` those of the flagged cases, one per round.
    """

    id: str
    process: CommitProcess
    cases: Collection
    first_pass: dict[str, Record] = field(default_factory=dict)
    fresh_rounds: dict[str, list[Record]] = field(default_factory=dict)
    machine: dict[str, object] = field(default_factory=dict)

    def run(self, command: str, session: str, started: str) -> Run:
        """The records as a run: of a flagged case its fresh rounds, of any other its first pass."""
        records: list[Record] = []
        for case_id, record in self.first_pass.items():
            records += self.fresh_rounds.get(case_id) or [record]
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
    base: Commit, head: Commit, settings: Settings, command: str, minutes: float, progress: Progress, save: SaveRuns
) -> Judgement:
    """Measure and judge two commits that are checked out and built.

    Args:
        base: the commit that head is compared with; its process is started here.
        head: the commit that is judged.
        settings: the gate's thresholds.
        command: the command line that reproduces this comparison.
        minutes: time limit. After ``MIN_ROUNDS`` rounds, no round starts that would exceed it.
        progress: called with one line of progress at a time.
        save: called with the runs of base and head so far: after the first pass and every round, while the first pass
            lasts, and when an exception ends the comparison, such as Ctrl-C.

    Raises:
        ProcessFailure: a process does not start; the message says how it ended.
    """
    session, started = uuid4().hex, datetime.now(UTC).isoformat(timespec="seconds")

    def runs() -> tuple[Run, Run]:
        return base.run(command, session, started), head.run(command, session, started)

    for commit in (base, head):
        commit.process.start()
    for commit in (base, head):
        commit.machine = commit.process.machine(commit.cases.device)["machine"]
    try:
        return _measure_and_judge(base, head, settings, minutes, progress, runs, save)
    except BaseException:
        with suppress(OSError):  # the first error is the reason
            save(*runs(), False)
        raise


def _measure_and_judge(
    base: Commit,
    head: Commit,
    settings: Settings,
    minutes: float,
    progress: Progress,
    runs: Callable[[], tuple[Run, Run]],
    save: SaveRuns,
) -> Judgement:
    began = monotonic()
    specs = head.cases.specs | base.cases.specs
    _first_pass(base, head, specs, settings, progress, lambda: save(*runs(), False))
    save(*runs(), True)
    found = judgement.judge(*runs(), settings)
    again = {case_id: specs[case_id] for case_id in flagged(found.findings)}
    progress(f"first pass: {len(specs)} cases in {monotonic() - began:.0f} s, {len(again)} to measure again")
    last_round = 0.0
    for number in range(ROUNDS if again else 0):
        round_began = monotonic()
        if not again:
            break
        if number >= MIN_ROUNDS and round_began - began + last_round > 60 * minutes:
            progress(f"time limit reached after {number} of {ROUNDS} rounds")
            break
        _fresh_round(base, head, again, number)
        save(*runs(), True)
        if number + 1 >= SAME_FROM:
            # A case that is the SAME by now needs no more rounds. Whether a case is worse is decided only at the end.
            unsettled = set(flagged(judgement.judge(*runs(), settings).findings))
            again = {case_id: spec for case_id, spec in again.items() if case_id in unsettled}
        last_round = monotonic() - round_began
        progress(f"round {number + 1} of {ROUNDS} in {last_round:.0f} s, {len(again)} to measure again")
    return judgement.judge(*runs(), settings)


def compare_commits(
    base: str,
    head: str,
    arguments: tuple[str, ...],
    minutes: float,
    timeout: float,
    case: str,
    progress: Progress,
    save: SaveRuns,
) -> Judgement:
    """Check out, build, measure and judge two commits of the repository around the current folder.

    Args:
        base: the commit that head is compared with.
        head: the commit that is judged.
        arguments: pytest's: suites and the harness's options, perhaps with words in braces (``project_suites``). A path
            that was renamed between the commits is given to each of them under its own name.
        minutes: see ``compare``.
        timeout: seconds to wait for one answer of a process: for a case to be prepared, or sampled once.
        case: shell pattern of case ids.
        progress: see ``compare``.
        save: see ``compare``.

    Raises:
        CommitError: a commit does not exist, cannot be checked out, built or collected, or neither has the case; or a
            suite's path exists in only one of them.
        SettingsError: the thresholds are wrong.
        ProcessFailure: a process does not start.
        UnreadableAnswer: a process answers with what this version of the harness cannot read.
    """
    here = Path.cwd()
    build = thresholds.load(here).build
    env = environment()
    with ExitStack() as stack:
        ids = [worktrees.resolve(here, revision) for revision in (base, head)]
        scratch = stack.enter_context(worktrees.scratch_folder(here))
        folders = []
        for name, commit in zip(("base", "head"), ids, strict=True):
            progress(f"{name}: {commit[:12]}, checked out and built")
            folder = stack.enter_context(worktrees.checkout(here, commit, scratch / name))
            worktrees.build(folder, commit, build, env)
            if missing := worktrees.missing_submodules(folder):
                progress(f"{name}: {missing}")
            folders.append(folder)
        settings, notes = thresholds.of_base(*(thresholds.load(folder) for folder in folders))
        for note in notes:
            progress(note)
        commits: list[Commit] = []
        renamed = worktrees.follow_renames(here, (ids[0], ids[1]), (folders[0], folders[1]), arguments)
        for name, commit, folder, own_arguments in zip(("base", "head"), ids, folders, renamed, strict=True):
            own_arguments = project_suites.expanded(own_arguments, folder, commit)
            try:
                cases = worktrees.collect(folder, commit, own_arguments, env)
            except worktrees.CommitError as error:
                if build or "unknown attention" not in str(error):
                    raise
                raise worktrees.CommitError(
                    f"{error}; [tool.harness.gate] has no build, by which the attentions of a commit become known: "
                    f"{project_suites.INIT}"
                ) from error
            # With a common cache one commit could use what the other has compiled.
            process = CommitProcess(folder, {"TORCHINDUCTOR_CACHE_DIR": str(scratch / f"{name}-inductor")}, timeout)
            stack.callback(process.close)
            commits.append(Commit(commit, process, cases))
        for measured in commits:
            specs = measured.cases.specs
            measured.cases.specs = {case_id: spec for case_id, spec in specs.items() if fnmatchcase(case_id, case)}
        if not any(measured.cases.specs for measured in commits):
            raise worktrees.CommitError(f"neither commit has a case that fits {case!r} in: {shlex.join(arguments)}")
        cores = bind_to_idle_cores()
        progress(f"measured on cores: {'all' if cores is None else ', '.join(map(str, cores))}")
        command = f"harness ab {base} {head} -- {shlex.join(arguments)}"
        found = compare(commits[0], commits[1], settings, command, minutes, progress, save)
        unknown = [
            f"{name}'s records have fields that this version of the harness does not know and does not compare: "
            + ", ".join(sorted(commit.process.unknown_fields))
            for name, commit in zip(("base", "head"), commits, strict=True)
            if commit.process.unknown_fields
        ]
        return found.with_notes([*notes, *unknown])


def environment() -> dict[str, str]:
    """Environment of the builds and of the collecting pytest: this process's, without the variables set by pytest."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def flagged(findings: Iterable[GateFinding]) -> Iterable[str]:
    """Ids of the cases that may be worse, or that look better by twice the floor; in their first order."""
    return dict.fromkeys(
        finding.case_id
        for finding in findings
        if finding.estimate is not None
        and finding.metric is not None
        and finding.metric.replicate == "process"  # a draw would repeat the same result: it has a fixed seed
        and finding.estimate.standard_error > 0
        and finding.verdict != "SAME"
        and (finding.weight != "fine" or finding.estimate.value < -judgement.DETECTABLE_FLOORS * (finding.floor or 0.0))
    )


def _first_pass(
    base: Commit,
    head: Commit,
    specs: dict[str, AnySpec],
    settings: Settings,
    progress: Progress,
    save_part: Callable[[], None],
) -> None:
    def settled(base_record: Record, head_record: Record) -> bool:
        return not flagged(judgement.judge_case(base_record, head_record, settings))

    shared, names = names_of_cases([*specs.values()])
    for line in shared:
        progress(line)
    left, waiting = TimeLeft(), [spec.kind for spec in specs.values()]
    next_save = monotonic()
    for number, (case_id, spec) in enumerate(specs.items()):
        began = monotonic()
        having = [commit for commit in (base, head) if case_id in commit.cases.specs]
        records: tuple[Record, ...]
        if len(having) == 2:
            head_first = number % 2 == 1
            records = measure(base.process, head.process, spec, FIRST_PASS, head_first=head_first, settled=settled)
        else:
            having[0].process.begin_prepare(spec, verified=False, observed=False)
            records = (having[0].process.prepared(),)
        for commit, record in zip(having, records, strict=True):
            commit.first_pass[case_id] = record
        status = " ".join(dict.fromkeys(record.status for record in records))
        left.add(waiting.pop(0), monotonic() - began)
        remaining = f", about {remaining_words(left.seconds(waiting) or 0.0)} left" if waiting else ""
        progress(f"{number + 1}/{len(specs)} {names[case_id]}: {status}, {monotonic() - began:.1f} s{remaining}")
        if (save_began := monotonic()) >= next_save:
            save_part()
            next_save = monotonic() + (monotonic() - save_began) / SAVING_SHARE


def _fresh_round(base: Commit, head: Commit, specs: dict[str, AnySpec], number: int) -> None:
    commits = (base, head) if number % 2 == 0 else (head, base)
    for commit in commits:
        commit.process.close()
    for commit in commits:
        commit.process.start()
    plan, order = plan_of_round(len(specs)), list(enumerate(specs.items()))
    # Which commit begins changes with every round, and the order of the cases with every second one, so that the state
    # that one case leaves behind in a process does not always affect the same next case.
    for place, (case_id, spec) in order[::-1] if number % 4 >= 2 else order:
        head_first = (number + place) % 2 == 1
        records = measure(base.process, head.process, spec, plan, head_first=head_first, again=True)
        for commit, record in zip((base, head), records, strict=True):
            # The first pass verified and observed the case, and the code is the same: its results are copied.
            once = commit.first_pass[case_id]
            first = {name: getattr(once, name) for name in MEASURED_ONCE if name in once.model_fields_set}
            commit.fresh_rounds.setdefault(case_id, []).append(record.model_copy(update=first))
