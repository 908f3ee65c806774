"""A run in progress: its records in memory, and each of them in the log as soon as it is there."""

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import torch

from harness.cases import in_this_process
from harness.core import registry
from harness.core.comparability import run_differences
from harness.core.record import NOT_BEGUN, Record, Run
from harness.core.record_text import clean_reasons
from harness.core.spec import AnySpec, Effort, TaskSpec
from harness.core.store import LOG_SUFFIX, Log, StoreError, read_part
from harness.measure import ceilings, machine, machine_use
from harness.processes import ending_signals
from harness.processes.case_worker import CaseWorker
from harness.processes.launch_counter import LaunchCounter
from harness.profiles.selection import Selection
from harness.statistics import disturbed_run
from harness.statistics.disturbed_run import RunDisturbance

TIMED_KINDS = ("operation", "model")
"""The kinds of cases that have a time. Others give the same result in every process, and are measured in one round."""
NAMED_REASONS = 3
"""Reasons or findings that the line about an attention names; the others are counted."""


class HarnessSession:
    """Runs cases one after the other and keeps their records.

    Args:
        selection: profile, device, dtype, lengths and attentions of the run.
        command: the command that started the run, for its header.
        log_path: where the log is written; the file appears with the first record.
        case_worker: runs the cases in other processes; None: they run in this process. So do those of an attention that
            ``registry.add`` added, because other processes do not know it.
        deadline: seconds from now after which no case is started.
        resume: the log of the same run, which was interrupted; its finished cases are not measured again.
        rounds: how often each timed case is measured, each time in another process.
        effort: how long each case is sampled; None: as the profile says.

    Raises:
        StoreError: ``resume`` is not a log, or is of another run, machine or commit; the message names the difference.
    """

    def __init__(
        self,
        selection: Selection,
        command: str,
        log_path: Path,
        case_worker: CaseWorker | None = None,
        deadline: float | None = None,
        resume: Path | None = None,
        rounds: int = 1,
        effort: Effort | None = None,
    ) -> None:
        self.selection = selection
        self.effort = effort or selection.effort
        self.rounds = rounds
        self.log_path = log_path
        self.records: list[Record] = []
        self.notices: list[str] = []
        """What the user must know: lines of the log of ``resume`` that were skipped, whose cases run again; and
        attentions that could not have a process of their own."""
        self.is_refused = False
        """Whether another run writes the same log, so that this one may write no file."""
        self.inconclusive: dict[str, None] = {}
        """The ids of the cases that ``--benchmark-compare-fail`` would find slower by times that were disturbed."""
        self.order: dict[str, int] = {}
        """The places of the collected cases in the suites, by case id; ``run`` has the records in this order."""
        self._command = command
        self._case_worker = case_worker
        self._launch_counter = LaunchCounter()
        self._deadline = deadline
        self._began = monotonic()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._header: Run | None = None
        self._log: Log | None = None
        self._finished: list[Record] = []
        self._to_keep: dict[str, list[Record]] = {}
        """Those of ``_finished`` that no test has taken yet, by case id."""
        self._round = 1
        self._by_test: dict[str, Record] = {}
        if resume is not None:
            interrupted = read_part(resume, self.notices.append)
            self._header = self._resumed_header(interrupted)
            self._finished = [record for record in interrupted.records if not record.not_begun]
            for record in self._finished:
                self._to_keep.setdefault(record.case_id, []).append(record)

    def _resumed_header(self, interrupted: Run) -> Run:
        """The header of the interrupted run, if this run may continue it."""
        this_run = Run(
            started=self._started,
            command=self._command,
            profile=self.selection.profile,
            commit=machine.commit(),
            machine=machine.fingerprint(),
            records=[],
        )
        reasons = run_differences(interrupted, this_run)
        if _commit_id(interrupted) != _commit_id(this_run):
            reasons.append(f"commit: base has {interrupted.commit}, head {this_run.commit}")
        if reasons:
            raise StoreError(
                "--resume: the log is of another run and cannot be continued; start a new run without --resume. "
                f"The log is called base, this run head: {'; '.join(reasons)}"
            )
        return interrupted.model_copy(update={"records": []})

    def measure(self, spec: AnySpec, test: str | None = None) -> Record:
        """Run one case; its record is in the log when this returns.

        Args:
            spec: the case.
            test: the test that it is measured for. When the same test is run again, the new record replaces the old
                one; two tests of one case give two records, which are read as rounds.

        Raises:
            StoreError: the log cannot be written, or another run writes it.
        """
        self._begin_log()
        waiting = self._to_keep.get(spec.case_id)
        if not waiting or test in self._by_test:
            record = self._launch_counter.counted(self._measure(spec))
            self._add(record, test)
        else:
            record = waiting.pop(0)
            self._keep(record, test)
        return record

    def begin_round(self, number: int) -> None:
        """The next case belongs to this round: it gets another process than the cases of the round before."""
        if number != self._round:
            self.close_processes()
            self._round = number

    def add_stopped(self, spec: AnySpec, reason: str, test: str | None = None) -> Record:
        """The record of a case that something else than this session has stopped, of status timeout; it is logged."""
        self.close_processes()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        record = Record(
            case_id=spec.case_id,
            spec=spec,
            status="timeout",
            reasons=clean_reasons([reason]),
            started=started,
            took_seconds=0.0,
        )
        self._begin_log()
        self._add(record, test)
        return record

    def _begin_log(self) -> Log:
        if self._log is None:
            self.is_refused = True
            self._log = Log(self.log_path, self.header, self._finished)
            self.is_refused = False
        return self._log

    def _add(self, record: Record, test: str | None) -> None:
        """Put a new record into the log and into the run, in place of the one that the test had before."""
        replaced = self._by_test.get(test) if test is not None else None
        log = self._begin_log()
        with ending_signals.deferred():  # a record is in the log and in the run, or in neither
            if replaced is None:
                log.append(record)
            else:
                finished = [other for other in self._finished if other is not replaced]
                records = [other for other in self.records if other is not replaced]
                log.rewrite({id(other): other for other in (*finished, *records, record)}.values())
                self._finished, self.records = finished, records
            self._keep(record, test)

    def _keep(self, record: Record, test: str | None) -> None:
        self.records.append(record)
        if test is not None:
            self._by_test[test] = record

    def _measure(self, spec: AnySpec) -> Record:
        if self._deadline is not None and monotonic() - self._began > self._deadline:
            return Record(
                case_id=spec.case_id,
                spec=spec,
                status="timeout",
                reasons=[f"{NOT_BEGUN}: the run's deadline of {self._deadline:g} s had passed"],
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                took_seconds=0.0,
            )
        before = machine_use.Reading.now()
        record = self._measure_in_a_process(spec)
        used = machine_use.used_between(before, machine_use.Reading.now(), os.getloadavg()[0])
        return record.model_copy(update={"machine_use": used})

    def _measure_in_a_process(self, spec: AnySpec) -> Record:
        """Run one case where it belongs: in the process of its attention, or in this one."""
        if self._case_worker is not None and not self._only_known_here(spec):
            return self._case_worker.run(spec, self.effort)
        return in_this_process.run(spec, self.effort)

    def _only_known_here(self, spec: AnySpec) -> bool:
        """Whether the case has an attention that ``registry.add`` added, which no other process knows."""
        attentions = {spec.attention}
        if isinstance(spec, TaskSpec):
            attentions |= {swap.attention for swap in spec.evaluate_with}
        added = attentions & registry.added_names()
        for name in sorted(added):
            notice = (
                f"attention {name} was registered in pytest's process by registry.add, so it ran in that process, "
                "unprotected and without --case-timeout; register it by an entry point to give it a process of its own"
            )
            if notice not in self.notices:
                self.notices.append(notice)
        return bool(added)

    def header(self) -> Run:
        """The run without records. The first call reads the machine's fingerprint and measures its ceilings."""
        if self._header is None:
            self._header = Run(
                started=self._started,
                command=self._command,
                profile=self.selection.profile,
                commit=machine.commit(),
                machine=machine.fingerprint(),
                ceilings=ceilings.measure(self.selection.device) if _is_available(self.selection.device) else [],
                records=[],
            )
        return self._header

    def run(self) -> Run:
        """The run so far; its records are in the order of the suites, whatever order they were measured in."""
        last = len(self.order)
        records = sorted(self.records, key=lambda record: self.order.get(record.case_id, last))
        return self.header().model_copy(update={"records": records})

    def disturbance(self) -> RunDisturbance | None:
        """What has disturbed the run so far; None where nothing did."""
        return disturbed_run.judge(self.records)

    def record_of(self, test: str) -> Record | None:
        """The record that was measured for a test; None if it has none."""
        return self._by_test.get(test)

    @property
    def has_measured(self) -> bool:
        """Whether a case has begun."""
        return any(not record.not_begun for record in self.records)

    @property
    def cases_of_log(self) -> frozenset[str]:
        """The ids of the cases that the run of ``resume`` has measured in all their rounds."""
        counts = Counter(record.case_id for record in self._finished)
        timed = {record.case_id for record in self._finished if record.spec.kind in TIMED_KINDS}
        return frozenset(
            case_id for case_id, count in counts.items() if count >= (self.rounds if case_id in timed else 1)
        )

    @property
    def runs_by_attention(self) -> bool:
        """Whether each attention has a process of its own, which the next attention ends."""
        return self._case_worker is not None and self._case_worker.shared_by == "attention"

    def counts(self) -> Counter[str]:
        """The number of records by status."""
        return Counter(record.status for record in self.records)

    def attentions_without_result(self) -> list[str]:
        """One line for each attention that the user named and that has no record of status ok; it says why."""
        lines = []
        for name in dict.fromkeys(self.selection.attentions or ()):
            records = [record for record in self.records if record.spec.attention == name]
            if not records:
                lines.append(f"attention {name} was not measured: none of the selected cases has it")
            elif all(record.status != "ok" for record in records):
                counts = Counter(record.status for record in records)
                statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
                reasons = list(dict.fromkeys(record.reasons[0] for record in records))
                more = [f"and {len(reasons) - NAMED_REASONS} more reasons"] if len(reasons) > NAMED_REASONS else []
                why = "; ".join([*reasons[:NAMED_REASONS], *more])
                lines.append(f"attention {name} has no case of status ok ({statuses}): {why}")
        return lines

    def attentions_with_findings(self) -> list[str]:
        """One line for each attention that changed its process."""
        lines = []
        for name in dict.fromkeys(record.spec.attention for record in self.records if record.findings):
            of_cases = [record.findings for record in self.records if record.spec.attention == name and record.findings]
            sentences = list(dict.fromkeys(sentence for findings in of_cases for sentence in findings))
            more = [f"and {len(sentences) - NAMED_REASONS} more findings"] if len(sentences) > NAMED_REASONS else []
            cases = f"{len(of_cases)} case{'s' if len(of_cases) > 1 else ''}"
            lines.append(f"attention {name}, {cases}: {'; '.join([*sentences[:NAMED_REASONS], *more])}")
        return lines

    def close_processes(self) -> None:
        """End the other processes; the next case starts new ones."""
        self._launch_counter.close()
        if self._case_worker is not None:
            self._case_worker.close()

    def close(self) -> None:
        """End the other processes and close the log."""
        self.close_processes()
        if self._log is not None:
            self._log.close()


def _commit_id(run: Run) -> str:
    """The commit without the mark for uncommitted changes, which the interrupted run's own files may have caused."""
    return (run.commit or "").removesuffix("+dirty")


def _is_available(device: str) -> bool:
    return torch.device(device).type != "cuda" or torch.cuda.is_available()


def log_path_for(json_path: Path | None, root: Path) -> Path:
    """The log beside the benchmark JSON; in ``.benchmarks`` of the project if no JSON is written.

    Only ``.json`` is left out of its name, so that ``run.a`` and ``run.b`` have logs of their own.
    """
    if json_path is not None:
        return json_path.with_name(json_path.name.removesuffix(".json") + LOG_SUFFIX)
    return root / ".benchmarks" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}{LOG_SUFFIX}"


def reproducing_command(words: Sequence[str], root: Path) -> str:
    """The command with paths relative to the project; of a path outside the project only the name is kept."""
    return shlex.join(_without_machine_path(word, root) for word in words)


def _without_machine_path(argument: str, root: Path) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    path = Path(value)
    if not path.is_absolute():
        return argument
    relative = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return f"{option}{equals}{relative}"
