"""Counts the kernels of cases in another process, because torch's profiler slows all later calls in its own process.

``python -m harness.processes.launch_counter`` is the process. A request is a spec; the answer is the number of kernels
of one call, or null where there is nothing to count.
"""

import json
import sys

from pydantic import TypeAdapter

from harness.core.record import Record
from harness.core.spec import AnySpec, ModelSpec
from harness.processes.protocol import Handler, ProcessClient, ProcessFailure, serve

TIMEOUT_SECONDS = 60.0
"""Timeout for one answer, in which a case is built and called twice."""


class LaunchCounter:
    """Counts kernels in a process that starts with the first CUDA case.

    It is replaced when it dies or hangs, and for each attention: what one leaves in it must not change the count of
    another, or disturb the measurement of another.

    Args:
        timeout: seconds for one answer.
    """

    def __init__(self, timeout: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._attention: str | None = None
        self._client = ProcessClient([sys.executable, "-m", "harness.processes.launch_counter"])

    def counted(self, record: Record) -> Record:
        """The record with ``kernel_launches``, if it is of a timed case on a CUDA device.

        Other records are returned unchanged. So are those whose kernels could not be counted: a failure of the counter
        does not discard the measurement.
        """
        spec = record.spec
        if record.status != "ok" or spec.kind not in ("operation", "model") or not spec.device.startswith("cuda"):
            return record
        if isinstance(spec, ModelSpec) and record.batch is not None:
            spec = spec.model_copy(update={"batch": record.batch, "largest_batch": False})
        if spec.attention != self._attention:
            self.close()
            self._attention = spec.attention
        try:
            answer = self._client.request(spec.model_dump(mode="json"), self._timeout)
        except ProcessFailure:
            return record
        return record.model_copy(update={"kernel_launches": json.loads(answer)})

    def close(self) -> None:
        """End the process."""
        self._client.close()


def _load_handler() -> Handler:
    from harness.cases import runner  # imports torch, which the parent process does not need
    from harness.measure import memory

    def count_kernels(line: str) -> str:
        spec: AnySpec = TypeAdapter(AnySpec).validate_json(line)
        launches = json.dumps(runner.kernel_launches(spec))
        memory.release()  # leaves device memory to the process that times the cases
        return launches

    return count_kernels


if __name__ == "__main__":
    serve(_load_handler)
