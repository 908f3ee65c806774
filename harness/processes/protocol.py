"""A process that answers a line of JSON with a line: started, asked, and stopped with all that it started."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import IO, Any

START_SECONDS = 120.0
"""What a process may take to be ready; the time of what it is asked begins then."""
READY = "ready"
"""The first line that it writes."""
STDERR_LINES = 5
"""Last lines of a dead process's standard error that its record keeps."""


class LineProcess:
    """One process; what it prints past its answers is kept for the words that it dies with.

    Args:
        command: what to start.
        cwd: its folder; None: this one's.
        env: its environment; None: this one's.
    """

    def __init__(self, command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self._pending = b""
        self._said = tempfile.TemporaryFile(prefix="harness-")  # noqa: SIM115  it is closed with the process
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=True,  # so that what it starts is stopped with it
        )

    def wait_until_ready(self) -> None:
        """Read its first line.

        Raises:
            TimeoutError: it took longer than ``START_SECONDS``.
            EOFError: it ended, or said something else.
        """
        if self.line(START_SECONDS).strip() != READY.encode():
            raise EOFError("its process did not start as expected")

    def send(self, task: Mapping[str, Any]) -> None:
        """Ask; ``line`` has the answer.

        Raises:
            EOFError: the process has ended; the message says how.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(task).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise EOFError(self._last_words()) from error

    def line(self, timeout: float | None) -> bytes:
        """The next line that the process writes.

        Raises:
            TimeoutError: none came in ``timeout`` seconds.
            EOFError: the process ended; the message says how.
        """
        assert self.process.stdout is not None
        stdout = self.process.stdout.fileno()
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

    def close(self) -> None:
        """Kill the process and wait for its end."""
        stop(self.process)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._said):
            if pipe is not None:
                _close(pipe)

    def _last_words(self) -> str:
        code = self.process.wait()
        self._said.seek(0)
        tail = self._said.read().decode(errors="replace").strip().splitlines()[-STDERR_LINES:]
        return "\n".join([ending(code), *tail])


def serve(load: Callable[[], Callable[[str], str]]) -> None:
    """The process itself: say that it is ready, and answer every line of standard input with one.

    Args:
        load: imports what takes long, and returns what answers. What both print goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answer = load()
    print(READY, file=answers, flush=True)
    for line in sys.stdin:
        print(answer(line), file=answers, flush=True)


def stop(process: "subprocess.Popen[Any]") -> None:
    """Kill a process and what it started, if it runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def ending(code: int) -> str:
    """How a process ended that left no record."""
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    return f"its process ended with code {code} and no record"


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # what was written last was never read
        return
