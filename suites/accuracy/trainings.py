"""Trains the cells of a plan, one record per training, in a log that a killed run continues from.

The log is flushed to disk after every training. The training in progress has a checkpoint every minute, and is
continued from there. Both are in the output folder, which may be moved to another machine.
"""

import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from harness.core import registry
from harness.core.comparability import run_differences
from harness.core.knobs import plain_knobs
from harness.core.record import Record, Run
from harness.core.spec import AnySpec, Effort, TaskSpec
from harness.core.store import LOG_SUFFIX, Log, StoreError, read_part
from harness.measure import machine
from harness.profiles import profile
from harness.training import CHECKPOINTS
from suites.accuracy.plan import Cell, Plan
from suites.accuracy.verdicts import best_learning_rate

TRIED_AGAIN = ("unsupported", "crashed", "timeout")
"""Statuses that a resumed run does not keep: the next version may support the attention, and a machine may fail."""
EFFORT = profile.get("quick").effort
"""How long a case is timed, which a training is not."""


class Worker(Protocol):
    """Runs cases; ``CaseWorker`` is one."""

    def run(self, spec: AnySpec, effort: Effort) -> Record:
        """The record of a case."""

    def close(self) -> None:
        """End the process, also while it runs a case."""


class Trainings:
    """The trainings of a run in an output folder.

    Args:
        plan: what is trained.
        folder: of the log and the checkpoints; a run that was interrupted there is continued.
        command: the command that started the run.
        tell: receives a line about each training.

    Raises:
        StoreError: the folder has the log of another profile, or another process writes it.
    """

    def __init__(self, plan: Plan, folder: Path, command: str, tell: Callable[[str], None]) -> None:
        self._plan, self._tell = plan, tell
        self._checkpoints = folder / "checkpoints"
        path = folder / f"accuracy{LOG_SUFFIX}"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        this_part = Run(
            started=now,
            command=command,
            profile=f"accuracy-{plan.name}",
            commit=machine.commit(),
            machine=machine.fingerprint(),
            records=[],
        )
        self._header = this_part
        self._done: dict[str, Record] = {}
        self._elsewhere: list[str] = []
        if path.exists() and path.stat().st_size:
            begun = read_part(path, tell)
            if begun.profile != this_part.profile:
                raise StoreError(
                    f"--out {folder}: expected the log of the profile {this_part.profile!r}, found that of "
                    f"{begun.profile!r}; name another folder"
                )
            self._header = begun.model_copy(update={"records": []})
            self._done = {record.case_id: record for record in begun.records if record.status not in TRIED_AGAIN}
            self._elsewhere = _differences(self._header, this_part)
            tell(f"{path}: {len(self._done)} trainings are done already")
        self._log = Log(path, self._header, self._done.values())
        self._adding = threading.Lock()
        self._stopped = threading.Event()

    def run(self) -> Run:
        """The run with all records so far."""
        with self._adding:
            return self._header.model_copy(update={"records": list(self._done.values())})

    def train_all(
        self, cells: Sequence[Cell], jobs: int, after_each_cell: Callable[[], None], worker: Callable[[], Worker]
    ) -> None:
        """Train all cells in their order, as many at a time as there are jobs.

        Args:
            cells: what is trained.
            jobs: number of trainings at a time, each in its own process.
            after_each_cell: called when a cell has all its records; never by two threads at once.
            worker: makes what runs the trainings of one job.

        Raises:
            StoreError: the log cannot be written; its records are complete.
        """
        os.environ[CHECKPOINTS] = str(self._checkpoints.resolve())
        waiting, reporting = deque(cells), threading.Lock()
        workers = [worker() for _ in range(jobs)]

        def work(own: Worker) -> None:
            while waiting and not self._stopped.is_set():
                try:
                    cell = waiting.popleft()
                except IndexError:  # another job took it
                    return
                self.train(cell, own)
                with reporting:
                    if not self._stopped.is_set():
                        after_each_cell()

        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(work, own) for own in workers]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                self._stopped.set()
                self._end(workers, futures)
        for future in futures:
            future.result()

    @staticmethod
    def _end(workers: Sequence[Worker], futures: Sequence[Future[None]]) -> None:
        """End the processes, in the middle of a training where the user has interrupted the run, and then the threads.

        Again and again, because a thread may have started a process just after its last one was ended.
        """
        while True:
            for own in workers:
                with suppress(AttributeError, OSError, ValueError):  # its thread is closing it as well
                    own.close()
            if not wait(futures, timeout=1).not_done:
                return

    def train(self, cell: Cell, worker: Worker) -> None:
        """Train what the cell lacks: its learning rates on development examples, then its seeds with the best one."""
        rates = cell.plan.learning_rates
        for spec in (spec for rate in rates for spec in cell.development(rate)):
            record = self._record(cell, spec, worker)
            if record is None or record.status == "unsupported":
                return
        rate = best_learning_rate(cell, self._done)
        for spec in cell.comparison(rate) if rate is not None else ():
            if self._record(cell, spec, worker) is None:
                return

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _record(self, cell: Cell, spec: TaskSpec, worker: Worker) -> Record | None:
        """The record of a training, in the log when this returns; None if the run was stopped."""
        done = self._done.get(spec.case_id)
        if done is not None:
            return done
        try:
            record = _unknown_to_this_version(spec) or worker.run(spec, EFFORT)
        except Exception:
            if self._stopped.is_set():  # its process was ended
                return None
            raise
        with self._adding:
            if self._stopped.is_set():
                return None
            record = record.model_copy(update={"findings": [*record.findings, *self._elsewhere]})
            self._log.append(record)
            self._done[spec.case_id] = record
        self._remove_checkpoints(spec, record)
        self._tell(_line(cell, spec, record))
        return record

    def _remove_checkpoints(self, spec: TaskSpec, record: Record) -> None:
        """Remove the checkpoints of a training whose record is in the log: there are hundreds of trainings."""
        if record.task is None or record.task.examples_sha256 is None:
            return
        from harness.training.checkpoints import SeedFolder  # transformers takes seconds to import

        seed_folder = SeedFolder(self._checkpoints, spec, record.task.examples_sha256, spec.seed)
        shutil.rmtree(seed_folder.path.parent, ignore_errors=True)


def _differences(begun: Run, now: Run) -> list[str]:
    """What a record says of a training on another machine, or of another commit, than the run's header names."""
    messages = run_differences(begun, now, ("the run's header", "this training"))
    if begun.commit != now.commit:
        messages.append(f"commit: the run's header has {begun.commit}, this training {now.commit}")
    return [f"trained in another environment than the run began in: {message}" for message in messages]


def _unknown_to_this_version(spec: TaskSpec) -> Record | None:
    """The record of a case with an attention, or a knob, that this version of the harness does not have."""
    try:
        plain_knobs(registry.get(spec.attention), spec)
        for swap in spec.evaluate_with:
            swapped = spec.model_copy(update={"attention": swap.attention, "knobs": swap.knobs})
            plain_knobs(registry.get(swap.attention), swapped)
    except ValueError as error:
        return Record(
            case_id=spec.case_id,
            spec=spec,
            status="unsupported",
            reasons=[str(error)],
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            took_seconds=0.0,
        )
    return None


def _line(cell: Cell, spec: TaskSpec, record: Record) -> str:
    what = f"{cell.label}, rate {spec.learning_rate:g}, {spec.scored_on.replace('_', ' ')}, seed {spec.seed}"
    if record.task is None:
        return f"{what}: {record.status}: {'; '.join(record.reasons[:1])}"
    return f"{what}: {100 * record.task.scores[0]:.1f}%, {record.task.train_seconds[0]:.0f} s"
