"""Counts the kernels of cases in a process beside the one that times them: torch's profiler slows what follows it.

``python -m harness.processes.launch_counter`` is the process: it reads a spec a line from standard input, as JSON, and
answers with a line, a number or null.
"""

import json
import sys
from collections.abc import Callable

from pydantic import TypeAdapter

from harness.core.record import Record
from harness.core.spec import AnySpec, ModelSpec
from harness.processes.protocol import LineProcess, serve

SECONDS = 60.0
"""What an answer is waited for: no more than a case that is built and called twice."""


class LaunchCounter:
    """A process that is started with the first case that has kernels, and replaced where it dies or takes too long.

    Args:
        timeout: seconds an answer.
    """

    def __init__(self, timeout: float = SECONDS) -> None:
        self._timeout = timeout
        self._process: LineProcess | None = None

    def counted(self, record: Record) -> Record:
        """A record of a case that was timed, with ``kernel_launches``; another one as it is.

        They stay None where they cannot be counted: what was measured is not lost with them.
        """
        spec = record.spec
        if record.status != "ok" or spec.kind not in ("operation", "model") or not spec.device.startswith("cuda"):
            return record
        if isinstance(spec, ModelSpec) and record.batch is not None:
            spec = spec.model_copy(update={"batch": record.batch, "largest_batch": False})
        try:
            if self._process is None:
                self._process = LineProcess([sys.executable, "-m", "harness.processes.launch_counter"])
                self._process.wait_until_ready()
            self._process.send(spec.model_dump(mode="json"))
            found = json.loads(self._process.line(self._timeout))
        except (TimeoutError, EOFError):
            self.close()
            return record
        return record.model_copy(update={"kernel_launches": found})

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
        self._process = None


def main() -> None:
    """The process of the cases."""
    serve(_load)


def _load() -> Callable[[str], str]:
    from harness.cases import runner  # torch: not for the parent's import
    from harness.measure import memory

    def answer(line: str) -> str:
        spec: AnySpec = TypeAdapter(AnySpec).validate_python(json.loads(line))
        found = json.dumps(runner.kernel_launches(spec))
        memory.release()  # for the process that times
        return found

    return answer


if __name__ == "__main__":
    main()
