"""Runs cases in another process, so that a crash, a timeout or a CUDA fault does not end the run.

After a CUDA fault a process can do no more CUDA work, so the run cannot continue in it. By default one process runs
all cases and is replaced when a case crashes or takes too long, because starting a process per case would take longer
than measuring. ``--isolate`` asks for a fresh process per case.

``python -m harness.processes.case_worker`` is the process. A request is a ``CaseRequest``; the answer is its record.
The process knows the attentions of entry points only, and not those that ``registry.add`` added in the parent.
"""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from time import perf_counter

from pydantic import BaseModel, ValidationError

from harness.core.record import Record, Status
from harness.core.record_text import clean_reasons
from harness.core.spec import AnySpec, Effort
from harness.processes.protocol import Handler, ProcessClient, ProcessFailure, serve


class CaseRequest(BaseModel):
    """One case and how long it is sampled."""

    spec: AnySpec
    effort: Effort


class CaseWorker:
    """Runs cases in a process that starts with the first case.

    Args:
        timeout: seconds for one case, not counting the start of the process; None: no limit.
        fresh_process_per_case: end the process after every case.
    """

    def __init__(self, timeout: float | None, fresh_process_per_case: bool = False) -> None:
        self._timeout = timeout
        self._fresh_process_per_case = fresh_process_per_case
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

        try:
            answer = self._client.request({"spec": spec.model_dump(), "effort": asdict(effort)}, self._timeout)
        except ProcessFailure as error:
            return failed(error.status, error.reasons)
        try:
            record = Record.model_validate_json(answer)
        except ValidationError as error:
            self.close()
            return failed("crashed", clean_reasons([f"its process did not answer with a record: {error}"]))
        # After a crash too: a CUDA fault makes all later CUDA work of the process fail.
        if self._fresh_process_per_case or record.status == "crashed":
            self.close()
        return record

    def close(self) -> None:
        """End the process; the next case starts another one."""
        self._client.close()


def _load_handler() -> Handler:
    from harness.cases import runner  # imports torch, which the parent process does not need
    from harness.measure import memory

    def run_case(line: str) -> str:
        request = CaseRequest.model_validate_json(line)
        record = runner.run(request.spec, request.effort).model_dump_json()
        memory.release()  # leaves device memory to the process that counts kernels
        return record

    return run_case


if __name__ == "__main__":
    serve(_load_handler)
