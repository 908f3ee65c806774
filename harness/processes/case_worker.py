"""Runs cases in other processes, so that one attention cannot change the numbers of another, nor end the run.

By default every attention has a process of its own, on the same device, one at a time: when the attention changes, the
process ends and the next one starts. A setting that an attention changes, a thread that it leaves running or a CUDA
fault then stays with it. ``--isolate`` asks for a fresh process per case, ``--worker`` for one process for all cases.

``python -m harness.processes.case_worker`` is the process. A request is a ``CaseRequest``; the answer is its record.
The next request, ``{"findings": DEVICE}``, lets the process compare its state with its state before it loaded any
plugin. What differs is in the record's ``findings``, and then the process takes no further case and is killed with all
that it left running. The record is in this process by then, so that nothing that a case leaves behind can take it back.

Idle processes are ended instead of kept for later: a stopped process would still hold memory of the device. So that few
processes start, the pytest plugin runs all cases attention by attention. A start takes about two seconds on two idle
cores, most of them for the import of torch.

The process knows the attentions of entry points only, and not those that ``registry.add`` added in the parent.
"""

import gc
import json
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from time import monotonic, perf_counter, sleep
from typing import Literal

import psutil
from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.core.record import Record, Status
from harness.core.record_text import clean_reasons
from harness.core.spec import AnySpec, Effort
from harness.processes.protocol import Handler, ProcessClient, ProcessFailure, serve


class CaseRequest(BaseModel):
    """One case and how long it is sampled."""

    spec: AnySpec
    effort: Effort


SharedBy = Literal["case", "attention", "run"]
"""Which cases share a process: none, those of one attention, or all of a run."""
PING = "ping"
"""A request that is answered with itself: it shows that an idle process can still take a case."""
PING_SECONDS = 10.0
"""Timeout for that answer."""
FINDINGS = "findings"
"""The request for what a case on the device that is its value has left behind; the answer is a list of sentences."""
FINDINGS_SECONDS = 30.0
"""Timeout for that answer. The process waits seconds for child processes that are still at work."""
CHILDREN_END_SECONDS = 0.25
"""How long an idle child process may take to end when its case has ended."""
KEPT_CHILDREN = ("torch/_inductor/compile_worker", "multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Parts of the command lines of child processes that torch and Python keep for later, with all that these start."""
_PONG = json.dumps({PING: True}).encode()


class CaseWorker:
    """Runs cases in a process that starts with the first case.

    Args:
        timeout: seconds for one case, not counting the start of the process; None: no limit.
        shared_by: which cases may run in the same process.
    """

    def __init__(self, timeout: float | None, shared_by: SharedBy = "attention") -> None:
        self._timeout = timeout
        self.shared_by = shared_by
        self._attention: str | None = None
        self._client = ProcessClient([sys.executable, "-m", "harness.processes.case_worker"])

    def run(self, spec: AnySpec, effort: Effort) -> Record:
        """Run one case.

        Returns:
            The record of ``runner.run``. If the case took too long, a record of status timeout; if the process died, a
            record of status crashed with how it ended and the last lines of its standard error. Also a record of status
            crashed if the process answered something else than a record.
        """
        started, began = datetime.now(UTC), perf_counter()

        def failed(status: Status, reasons: list[str]) -> Record:
            return Record(
                case_id=spec.case_id,
                spec=spec,
                status=status,
                reasons=reasons,
                started=started.isoformat(timespec="seconds"),
                took_seconds=perf_counter() - began,
            )

        self._renew_for(spec)
        try:
            answer = self._client.request({"spec": spec.model_dump(), "effort": asdict(effort)}, self._timeout)
        except ProcessFailure as error:
            return failed(error.status, error.reasons)
        try:
            record = Record.model_validate_json(answer)
        except ValidationError as error:
            self.close()
            return failed("crashed", clean_reasons([f"its process did not answer with a record: {error}"]))
        if record.case_id != spec.case_id:
            self.close()
            return failed("crashed", clean_reasons([f"its process answered with the record of {record.case_id}"]))
        record = record.model_copy(update={"findings": [*record.findings, *self._findings(spec.device)]})
        # After a crash too: a CUDA fault makes all later CUDA work of the process fail.
        if self.shared_by == "case" or record.status == "crashed" or record.findings:
            self.close()
        return record

    def _renew_for(self, spec: AnySpec) -> None:
        """End the process if it is another attention's, or cannot take a case although it is idle.

        It may have died since its last case, or have a line in its pipe that a plugin wrote: that line would be read
        as the answer of the next case, and then every answer would be that of the case before.
        """
        if self.shared_by == "attention" and spec.attention != self._attention:
            self.close()
        self._attention = spec.attention
        if self._client.process is not None:
            with suppress(ProcessFailure):  # the client has closed the process
                if self._client.request({PING: True}, PING_SECONDS) != _PONG:
                    self.close()

    def _findings(self, device: str) -> list[str]:
        """What the case that has just ended left behind; also a sentence if its process no longer answers."""
        try:
            answer = self._client.request({FINDINGS: device}, FINDINGS_SECONDS)
            return TypeAdapter(list[str]).validate_json(answer)
        except ProcessFailure as error:
            return clean_reasons([f"its process gave its record and then no answer: {error.reasons[0]}"])
        except ValidationError:
            return ["something else than its record was in the pipe of its answers"]

    def close(self) -> None:
        """End the process; the next case starts another one."""
        self._client.close()


def _load_handler() -> Handler:
    from harness.cases import runner  # imports torch, which the parent process does not need
    from harness.measure import memory, process_state

    before = process_state.snapshot()  # no plugin has been imported yet
    modules = 0

    def run_case(line: str) -> str:
        nonlocal modules
        asked = json.loads(line)
        if PING in asked:
            return line.strip()
        if FINDINGS in asked:
            found = process_state.findings(before, asked[FINDINGS])
            return json.dumps(clean_reasons([*found, *left_running()]))
        request = CaseRequest.model_validate_json(line)
        if len(sys.modules) > modules:
            # Objects of modules are excluded from later collections: each case has several, of a tenth of a second.
            gc.collect()
            gc.freeze()
            modules = len(sys.modules)
        record = runner.run(request.spec, request.effort)
        memory.release()  # leaves device memory to the process that counts kernels
        return record.model_dump_json()

    return run_case


def left_running() -> list[str]:
    """A sentence that names the child processes of this process that have not ended; empty where there are none."""
    deadline = monotonic() + CHILDREN_END_SECONDS
    while (names := _children()) and monotonic() < deadline:
        sleep(0.02)
    return [f"processes were left running: {', '.join(names)}"] if names else []


def _children() -> list[str]:
    """The names of the child processes that run and are not in ``KEPT_CHILDREN``."""
    names = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended
            command = " ".join(child.cmdline())
            if child.status() != psutil.STATUS_ZOMBIE and not any(part in command for part in KEPT_CHILDREN):
                names.append(child.name())
    return sorted(names)


if __name__ == "__main__":
    serve(_load_handler)
