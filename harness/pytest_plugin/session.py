"""A run in progress: its records in memory and, as they come, in the log."""

import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import torch

from harness.cases import runner
from harness.core.comparability import run_differences
from harness.core.record import NOT_BEGUN, Record, Run
from harness.core.spec import AnySpec
from harness.core.store import LOG_SUFFIX, Log, StoreError, read_part
from harness.measure import ceilings, machine
from harness.processes import isolate
from harness.processes.case_worker import Worker
from harness.processes.launch_counter import LaunchCounter
from harness.profiles.selection import Selection


class HarnessSession:
    """Runs cases one by one and keeps what was found.

    Args:
        selection: profile, device, dtype, lengths and attentions of the run.
        command: what started it, for the run's header.
        log_path: where the log goes; the file appears with the first record.
        isolated: every case in a process of its own.
        timeout: seconds a case; needs ``isolated`` or ``worker``.
        worker: all cases in one other process.
        deadline: seconds from now after which no case is begun.
        resume: the log of the same run, broken off; its cases are not measured again.

    Raises:
        StoreError: ``resume`` is no log, or of another run, machine or commit; the message names the difference.
    """

    def __init__(
        self,
        selection: Selection,
        command: str,
        log_path: Path,
        isolated: bool,
        timeout: float | None,
        worker: bool = False,
        deadline: float | None = None,
        resume: Path | None = None,
    ) -> None:
        self.selection = selection
        self.log_path = log_path
        self.records: list[Record] = []
        self._command = command
        self._isolated = isolated
        self._timeout = timeout
        self._worker = Worker(timeout) if worker else None
        self._launches = LaunchCounter()
        self._deadline = deadline
        self._began = monotonic()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._header: Run | None = None
        self._log: Log | None = None
        self._finished: dict[str, Record] = {}
        if resume is not None:
            before = read_part(resume)
            self._header = self._resumed(before)
            self._finished = {one.case_id: one for one in before.records if not one.not_begun}

    def _resumed(self, before: Run) -> Run:
        now = Run(
            started=self._started,
            command=self._command,
            profile=self.selection.profile,
            commit=machine.commit(),
            machine=machine.fingerprint(),
            records=[],
        )
        found = run_differences(before, now)
        if _commit(before) != _commit(now):
            found.append(f"commit: base has {before.commit}, head {now.commit}")
        if found:
            raise StoreError(
                f"--resume: the log is of another run and cannot be gone on with; begin anew. The log is called base, "
                f"this run head: {'; '.join(found)}"
            )
        return before.model_copy(update={"records": []})

    def measure(self, spec: AnySpec) -> Record:
        """Run one case; its record is in the log when this returns."""
        if self._log is None:
            self._log = Log(self.log_path, self.header(), self._finished.values())
        record = self._finished.get(spec.case_id)
        if record is None:
            record = self._launches.counted(self._measure(spec))
            self._log.append(record)
        self.records.append(record)
        return record

    def _measure(self, spec: AnySpec) -> Record:
        effort = self.selection.effort
        if self._deadline is not None and monotonic() - self._began > self._deadline:
            return Record(
                case_id=spec.case_id,
                spec=spec,
                status="timeout",
                reasons=[f"{NOT_BEGUN}: the run's {self._deadline:g} s were over"],
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                took_seconds=0.0,
            )
        if self._worker is not None:
            return self._worker.run(spec, effort)
        return isolate.run(spec, effort, self._timeout) if self._isolated else runner.run(spec, effort)

    def header(self) -> Run:
        """The run without records. The machine is looked at, and its ceilings measured, once, before the first case."""
        if self._header is None:
            self._header = Run(
                started=self._started,
                command=self._command,
                profile=self.selection.profile,
                commit=machine.commit(),
                machine=machine.fingerprint(),
                ceilings=ceilings.measure(self.selection.device) if _is_there(self.selection.device) else [],
                records=[],
            )
        return self._header

    def run(self) -> Run:
        """The run so far."""
        return self.header().model_copy(update={"records": self.records})

    def counts(self) -> Counter[str]:
        """Records by status."""
        return Counter(record.status for record in self.records)

    def close(self) -> None:
        """No more cases."""
        self._launches.close()
        if self._worker is not None:
            self._worker.close()
        if self._log is not None:
            self._log.close()


def _commit(run: Run) -> str:
    """Without the word on changes: the broken run's own files may be one by now."""
    return (run.commit or "").removesuffix("+dirty")


def _is_there(device: str) -> bool:
    return torch.device(device).type != "cuda" or torch.cuda.is_available()


def log_path_for(json_path: Path | None, root: Path) -> Path:
    """The log beside the benchmark JSON; under ``.benchmarks`` of the project where no JSON is written."""
    if json_path is not None:
        return json_path.with_suffix(LOG_SUFFIX)
    return root / ".benchmarks" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}{LOG_SUFFIX}"


def reproducing_command(arguments: Sequence[str], root: Path) -> str:
    """The pytest command, with no path outside the project: those are shortened to their last part."""
    return shlex.join(["pytest", *(_without_machine_path(argument, root) for argument in arguments)])


def _without_machine_path(argument: str, root: Path) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    path = Path(value)
    if not path.is_absolute():
        return argument
    shown = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return f"{option}{equals}{shown}"
