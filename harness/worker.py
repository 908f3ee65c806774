"""Cases in one process beside this one, which is replaced when a case crashes in it or takes too long.

A CUDA fault ends all work of its process, so a run cannot go on where it happened; but a process a case would spend
more time on starting than on measuring. ``python -m harness.worker`` is the other side: it reads a case a line from
standard input, as JSON, and writes its record as a line. Whatever else is printed there goes to standard error.
"""

import json
import os
import selectors
import subprocess
import sys
import tempfile
from dataclasses import asdict
from time import monotonic
from typing import IO, Any

from pydantic import TypeAdapter

from harness.isolate import STDERR_LINES, ending, failure_of, stop
from harness.measuring.timing import Effort
from harness.record import Record
from harness.spec import AnySpec

START_SECONDS = 120.0
"""What a process may take to be ready; a case's own time begins then."""
READY = "ready"


class Worker:
    """Runs cases in a process that it starts with the first one.

    Args:
        timeout: seconds a case; None: as long as it takes.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._pending = b""

    def run(self, spec: AnySpec, effort: Effort) -> Record:
        """As ``runner.run``; or a record of status timeout, or of status crashed where the process died."""
        failed = failure_of(spec)
        try:
            if self._process is None:
                self._start()
            self._send({"spec": spec.model_dump(), "effort": asdict(effort)})
            record = Record.model_validate_json(self._line(self._timeout))
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
            stop(self._process)
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout, self._said):
                if pipe is not None:
                    _close(pipe)
        self._process, self._pending = None, b""

    def _start(self) -> None:
        self._said = tempfile.TemporaryFile(prefix="harness-")  # noqa: SIM115  it is closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,  # so that what it starts is stopped with it
        )
        if self._line(START_SECONDS).strip() != READY.encode():
            raise EOFError("its process did not start as expected")

    def _send(self, task: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise EOFError(self._last_words()) from error

    def _line(self, timeout: float | None) -> bytes:
        """The next line that the process writes.

        Raises:
            TimeoutError: none came in time.
            EOFError: the process ended; the message says how.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        stdout = self._process.stdout.fileno()
        end = None if timeout is None else monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                left = None if end is None else max(end - monotonic(), 0.0)
                if not selector.select(left):
                    raise TimeoutError(f"stopped after {timeout:g} s")
                part = os.read(stdout, 2**16)
                if not part:
                    raise EOFError(self._last_words())
                self._pending += part
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _last_words(self) -> str:
        assert self._process is not None
        assert self._said is not None
        code = self._process.wait()
        self._said.seek(0)
        tail = self._said.read().decode(errors="replace").strip().splitlines()[-STDERR_LINES:]
        return "\n".join([ending(code), *tail])


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # what was written last was never read
        return


def main() -> None:
    """The process of the cases."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a plugin prints is no record
    from harness import runner  # torch: not for the parent's import

    print(READY, file=answers, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        spec: AnySpec = TypeAdapter(AnySpec).validate_python(task["spec"])
        print(runner.run(spec, Effort(**task["effort"])).model_dump_json(), file=answers, flush=True)


if __name__ == "__main__":
    main()
