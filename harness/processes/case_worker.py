"""Cases in one process beside this one, which is replaced when a case crashes in it or takes too long.

A CUDA fault ends all work of its process, so a run cannot go on where it happened; but a process a case would spend
more time on starting than on measuring.

``python -m harness.processes.case_worker`` is the process: it reads a case a line from
standard input, as JSON, and writes its record as a line. Whatever else is printed there goes to standard error.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict

from pydantic import TypeAdapter

from harness.core.record import Record
from harness.core.spec import AnySpec, Effort
from harness.processes.isolate import failure_of
from harness.processes.protocol import LineProcess, serve


class Worker:
    """Runs cases in a process that it starts with the first one.

    Args:
        timeout: seconds a case; None: as long as it takes.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._process: LineProcess | None = None

    def run(self, spec: AnySpec, effort: Effort) -> Record:
        """As ``runner.run``; or a record of status timeout, or of status crashed where the process died."""
        failed = failure_of(spec)
        try:
            if self._process is None:
                self._process = LineProcess([sys.executable, "-m", "harness.processes.case_worker"])
                self._process.wait_until_ready()
            self._process.send({"spec": spec.model_dump(), "effort": asdict(effort)})
            record = Record.model_validate_json(self._process.line(self._timeout))
        except TimeoutError as error:
            self.close()
            return failed("timeout", [str(error)])
        except EOFError as error:
            self.close()
            return failed("crashed", str(error).splitlines())
        if record.status == "crashed":
            self.close()  # a fault of the device stays with its process
        return record

    def close(self) -> None:
        """End the process; the next case starts another."""
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
        task = json.loads(line)
        spec: AnySpec = TypeAdapter(AnySpec).validate_python(task["spec"])
        record = runner.run(spec, Effort(**task["effort"])).model_dump_json()
        memory.release()  # for the process that counts kernels
        return record

    return answer


if __name__ == "__main__":
    main()
