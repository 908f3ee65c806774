"""The two processes in which ``harness ab`` measures: one per commit, with their environment and their CPU cores.

``CommitProcess`` is in the parent; ``harness.processes.commit_worker`` is the process itself.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from harness.core.other_versions import Model, known_part
from harness.core.record import Record, Timing
from harness.core.record_text import clean_text
from harness.core.spec import AnySpec
from harness.processes.commit_worker import start_command
from harness.processes.protocol import ProcessClient, ProcessFailure

KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""Environment of both processes: glibc keeps freed memory. By default it returns memory to the system after every call
in some processes and not in others, depending on their addresses, and page faults then take most of a call's time; see
docs/gating.md."""
STOP_WAITING = {"GOMP_SPINCOUNT": "5000"}
"""Environment of both processes: an idle OpenMP thread stops spinning after a tenth of a millisecond. By default it
spins for several milliseconds, and would still occupy its core when the other process's turn begins."""
BUSY_PERCENT = 25.0
"""A core with at least this load is not idle."""
LOAD_SECONDS = 1.0
"""How long the load of the cores is measured."""


@dataclass(frozen=True)
class Failed:
    """Why a case produced no samples: status oom, timeout or crashed, and the reasons."""

    status: str
    reasons: list[str]


class UnreadableAnswer(ValueError):
    """A commit's process answered with what this version of the harness cannot read, so that nothing can be judged."""


class CommitProcess:
    """Holds one prepared case of one commit. A process that dies or exceeds its timeout is replaced at the next case.

    Args:
        folder: the checkout whose code runs.
        env: added to this process's environment.
        timeout: seconds to wait for one answer; None: no limit.
    """

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None, timeout: float | None = None) -> None:
        self.folder = folder
        self._timeout = timeout
        self._verifies = False
        self.unknown_fields: set[str] = set()
        """Fields of the answers that only the commit's version of the harness knows; they are left out."""
        self._client = ProcessClient(start_command(), folder, KEEP_MEMORY | STOP_WAITING | dict(env or {}))

    def start(self) -> None:
        """Start the process if it is not running, without waiting the seconds until it is ready."""
        self._client.start()

    def machine(self, device: str) -> dict[str, Any]:
        """The machine's fingerprint and the code's commit, as the process reports them.

        Raises:
            ProcessFailure: the process did not start; the message says how it ended.
        """
        answer = dict(json.loads(self._client.request({"machine": device}, self._timeout)))
        self._verifies = bool(answer.get("verifies"))
        return answer

    def begin_prepare(self, spec: AnySpec, verified: bool, observed: bool, inputs_seed: int | None = None) -> None:
        """Start preparing a case without waiting, so that both processes can prepare at once; see ``prepared``.

        Args:
            spec: the case.
            verified: it was verified before, in a process of the same commit, and is not verified again.
            observed: its conditions, kernel launches and memory were recorded before, and are not recorded again.
            inputs_seed: seed of the timed calls' inputs; None: drawn from entropy. An older commit ignores it.
        """
        self._spec = spec
        # Only the fields that were set when it was collected: an older commit rejects fields that were added later.
        fields = {"kind": spec.kind, **spec.model_dump(mode="json", exclude_unset=True)}
        with suppress(ProcessFailure):  # `prepared` reports it
            self._client.send(
                {"prepare": fields, "verified": verified, "observed": observed, "inputs_seed": inputs_seed}
            )

    def prepared(self) -> Record:
        """Wait for the case that ``begin_prepare`` started and return its record, which has no timing.

        Raises:
            UnreadableAnswer: the answer is no record that this version of the harness can read.
        """
        try:
            return self._read(Record, self._client.receive(self._timeout))
        except ProcessFailure as error:
            return self._failed(error.status, error.reasons)

    def sample(self, effort: Mapping[str, Any]) -> Timing | Failed:
        """Take a few samples of the prepared case; raises as ``prepared`` does."""
        try:
            answer = self._client.request({"sample": effort}, self._timeout)
        except ProcessFailure as error:
            return Failed(error.status, error.reasons)
        return self._failure(answer) or self._read(Timing, answer)

    def begin_verify(self) -> None:
        """Start verifying results of the timed calls without waiting; see ``verified``."""
        if self._verifies:
            with suppress(ProcessFailure):  # `verified` reports it
                self._client.send({"verify": True})

    def verified(self) -> Failed | None:
        """Wait for what ``begin_verify`` started: why a timed call was wrong; None if none was, or the commit is older.

        It is also None before ``machine`` was asked, whose answer says whether the commit can verify timed calls.
        """
        if not self._verifies:
            return None
        try:
            return self._failure(self._client.receive(self._timeout))
        except ProcessFailure as error:
            return Failed(error.status, error.reasons)

    def _read(self, model: type[Model], answer: bytes) -> Model:
        """The answer as a model, without the fields that only the commit's version of the harness knows."""
        try:
            found, unknown = known_part(model, json.loads(answer))
        except (ValueError, RecursionError) as error:
            raise UnreadableAnswer(
                f"the commit in {self.folder} answers {self._spec.case_id} with what this version of the harness "
                f"cannot read as a {model.__name__}: {clean_text(error)}; compare commits that are closer together"
            ) from error
        self.unknown_fields.update(unknown)
        return found

    def _failure(self, answer: bytes) -> Failed | None:
        """Why a case failed, if the answer says that it did."""
        fields = json.loads(answer)
        return Failed(fields["status"], fields["reasons"]) if "status" in fields else None

    def close(self) -> None:
        """End the process."""
        self._client.close()

    def _failed(self, status: str, reasons: list[str]) -> Record:
        fields = {"case_id": self._spec.case_id, "spec": self._spec, "status": status, "reasons": reasons}
        return Record.model_validate(
            fields | {"started": datetime.now(UTC).isoformat(timespec="seconds"), "took_seconds": 0.0}
        )


def bind_to_idle_cores() -> list[int] | None:
    """Bind this process and its children to the CPU cores that are idle now, and set OMP_NUM_THREADS to their number.

    If one OpenMP thread shares its core with another process, every barrier waits for it for a whole time slice, and
    the measured time says nothing about the commit.

    Returns:
        The cores: all that this process may use if none is idle; None if the system has no CPU affinity.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    load = psutil.cpu_percent(LOAD_SECONDS, percpu=True)
    cores = [core for core in allowed if load[core] < BUSY_PERCENT] or allowed
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(len(cores))
    return cores
