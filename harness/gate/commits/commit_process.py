"""One of the two processes that ``harness ab`` measures with; ``harness.processes.commit_worker`` is its other end."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.core.record import Record, Timing
from harness.core.spec import AnySpec
from harness.processes.commit_worker import start_command
from harness.processes.protocol import ProcessClient, ProcessFailure

KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""For both sides: glibc keeps what is freed. Left alone it gives some processes' memory back after every call and
others' not, by luck of their addresses, and the page faults then make up most of a call; see docs/gating.md."""
STOP_WAITING = {"GOMP_SPINCOUNT": "5000"}
"""For both sides: a thread that has nothing more to do lets go of its core after a tenth of a millisecond. By itself
OpenMP's waits for several, and the other side's turn begins while it does."""


@dataclass(frozen=True)
class Failed:
    """What became of a case instead of samples: status oom, timeout or crashed, and why."""

    status: str
    reasons: list[str]


class CommitProcess:
    """Holds one case of one commit at a time. A process that dies or takes too long is replaced at the next case.

    Args:
        folder: the checkout whose code runs.
        env: what its processes have in their environment besides this one's.
        timeout: seconds an answer; None: as long as it takes.
    """

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None, timeout: float | None = None) -> None:
        self.folder = folder
        self._timeout = timeout
        self._client = ProcessClient(start_command(), folder, KEEP_MEMORY | STOP_WAITING | dict(env or {}))

    def start(self) -> None:
        """Start the process if there is none; it is ready some seconds later."""
        self._client.start()

    def machine(self, device: str) -> dict[str, Any]:
        """Fingerprint and commit, as this side sees them.

        Raises:
            ProcessFailure: it did not start; the message says how it ended.
        """
        return dict(json.loads(self._client.request({"machine": device}, self._timeout)))

    def begin_prepare(self, spec: AnySpec, verified: bool, observed: bool) -> None:
        """Ask for a case; both sides work on it at once. ``prepared`` has what came of it."""
        self._spec = spec
        # Only what it was collected with: an older commit knows no field that came later, and would refuse its default.
        words = {"kind": spec.kind, **spec.model_dump(mode="json", exclude_unset=True)}
        with suppress(ProcessFailure):  # `prepared` reports it
            self._client.send({"prepare": words, "verified": verified, "observed": observed})

    def prepared(self) -> Record:
        """The record of the case that was asked for; without a timing."""
        try:
            return Record.model_validate_json(self._client.receive(self._timeout))
        except ProcessFailure as error:
            return self._failed(error.status, error.reasons)

    def sample(self, effort: Mapping[str, Any]) -> Timing | Failed:
        """A few samples of the case that is held."""
        try:
            found = json.loads(self._client.request({"sample": effort}, self._timeout))
        except ProcessFailure as error:
            return Failed(error.status, error.reasons)
        return Failed(**found) if "status" in found else Timing.model_validate(found)

    def close(self) -> None:
        """End the process."""
        self._client.close()

    def _failed(self, status: str, reasons: list[str]) -> Record:
        fields = {"case_id": self._spec.case_id, "spec": self._spec, "status": status, "reasons": reasons}
        return Record.model_validate(
            fields | {"started": datetime.now(UTC).isoformat(timespec="seconds"), "took_seconds": 0.0}
        )
