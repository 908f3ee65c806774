"""The wire protocol of all child processes: one line of JSON per request and one line of JSON per answer.

A process writes ``ready`` as its first line when its imports are done. ``serve`` is the loop inside the process;
``ProcessClient`` starts the process, sends the requests, and kills it together with everything that it started
(``owned_process``).
"""

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import IO, ClassVar, Literal

from harness.core.record_text import clean_reasons
from harness.processes.owned_process import OwnedProcess

START_SECONDS = 120.0
"""Timeout for the ready line. The timeout of a request begins only when the process is ready."""
READY = "ready"
"""The first line that a process writes."""
STDERR_LINES = 5
"""How many of the last lines of its standard error are reported when a process has ended."""
STDERR_BYTES = 2**16
"""How many of the last bytes of its standard error are read for that."""
STDERR_LIMIT = 2**26
"""Bytes of its standard error that may lie on disk; when there are more, they are discarded."""
LINE_LIMIT = 2**28
"""Most bytes of one line that a process writes: more is not an answer, and would fill the memory of this process."""
POLL_SECONDS = 1.0
"""How often it is checked whether a silent process has ended. The end of its output alone does not show this: a child
that it forked may keep the pipe open."""
EXIT_SECONDS = 2.0
"""How long a process that has closed its pipes may take to end; then it is killed, for no answer can come any more."""
LATE_SECONDS = 1.0
"""How long an answer that has arrived in part when the time is over may take to arrive whole."""
PART_SECONDS = 0.1
"""How long the next part of such an answer may take."""
Handler = Callable[[str], str]
"""Answers one request: takes a line of JSON and returns a line of JSON."""


class ProcessFailure(Exception):
    """A process gave no answer; ``status`` and ``reasons`` are those of the case's record."""

    status: ClassVar[Literal["crashed", "timeout"]]

    @property
    def reasons(self) -> list[str]:
        """The lines of the message."""
        return clean_reasons(str(self).split("\n"))


class ProcessEnded(ProcessFailure):
    """The process ended without an answer. The message says how, with the last lines of its standard error."""

    status = "crashed"


class AnswerTimeout(ProcessFailure):
    """The process did not answer in time and was killed. The message has the timeout."""

    status = "timeout"


class ProcessClient:
    """Sends requests to one child process, which starts with the first request.

    A process that ends or exceeds a timeout is killed with all that it started; the next request starts a new one.

    Args:
        command: the command line of the process.
        folder: its working directory; None: that of this process.
        extra_env: variables that are added to this process's environment when the process starts.
    """

    process: OwnedProcess | None = None
    """The process; None while none is running."""

    def __init__(
        self, command: Sequence[str], folder: Path | None = None, extra_env: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._folder = folder
        self._extra_env = dict(extra_env or {})

    def start(self) -> None:
        """Start the process unless it is running, without waiting until it is ready."""
        if self.process is not None:
            return
        self._ready = False
        self._unread = bytearray()
        self._stderr: IO[bytes] = tempfile.TemporaryFile(prefix="harness-")  # noqa: SIM115  `close` closes it
        self.process = OwnedProcess(
            self._command,
            self._folder,
            os.environ | self._extra_env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def request(self, request: Mapping[str, object], timeout: float | None) -> bytes:
        """Send a request and return its answer.

        Args:
            request: what is sent, as a JSON object.
            timeout: seconds for the answer, not counting the start of the process; None: no limit.

        Raises:
            ProcessEnded: the process did not start, or ended without an answer.
            AnswerTimeout: it was not ready after ``START_SECONDS``, or did not answer within ``timeout``.
        """
        self.send(request)
        return self.receive(timeout)

    def send(self, request: Mapping[str, object]) -> None:
        """Send a request when the process is ready, without waiting for the answer; raises as ``request`` does."""
        self.start()
        with self._closed_on_failure():
            if not self._ready:
                self._await_ready()
            self._write_line(json.dumps(request))

    def receive(self, timeout: float | None) -> bytes:
        """The answer to the request that was sent last; raises as ``request`` does, also where ``send`` has failed."""
        if self.process is None:
            raise ProcessEnded("its process did not start")
        with self._closed_on_failure():
            return self._read_line(timeout)

    def close(self) -> None:
        """Kill the process, if it is running, and everything that it started."""
        if self.process is None:
            return
        self.process.kill_whole()
        for file in (self.process.stdin, self.process.stdout, self._stderr):
            with suppress(BrokenPipeError):  # closing standard input writes what a dead process has not read
                if file is not None:
                    file.close()
        self.process = None

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except ProcessFailure:
            self.close()
            raise

    def _write_line(self, line: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise ProcessEnded(self._how_it_ended()) from error

    def _read_line(self, timeout: float | None) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        stdout = self.process.stdout.fileno()
        deadline = None if timeout is None else monotonic() + timeout
        late_since: float | None = None
        searched = 0
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while (end := self._unread.find(b"\n", searched)) < 0:
                searched = len(self._unread)
                if searched > LINE_LIMIT:
                    raise ProcessEnded(f"its process wrote {searched:,} bytes to the pipe of its answers, in one line")
                now = monotonic()
                wait = POLL_SECONDS if deadline is None else min(deadline - now, POLL_SECONDS)
                # When the time is over, an answer that is in the pipe is still read: this process may have been late.
                if wait <= 0:
                    late_since = late_since or now
                    wait = PART_SECONDS if self._unread else 0.0
                    if now - late_since > LATE_SECONDS:
                        raise AnswerTimeout(f"stopped after {timeout:g} s")
                has_ended = self.process.poll() is not None
                self._limit_stderr()
                if not selector.select(wait):
                    if has_ended:
                        raise ProcessEnded(self._how_it_ended())
                    if late_since is not None:
                        raise AnswerTimeout(f"stopped after {timeout:g} s")
                    continue
                part = os.read(stdout, 2**16)
                if not part:
                    raise ProcessEnded(self._how_it_ended())
                self._unread += part
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        return line

    def _await_ready(self) -> None:
        """Read lines until the process is ready; a start-up file of Python may have printed others before."""
        deadline = monotonic() + START_SECONDS
        while not self._ready:
            left = deadline - monotonic()
            try:
                self._ready = left > 0 and self._read_line(left).strip() == READY.encode()
            except AnswerTimeout:
                left = 0.0
            if left <= 0:
                raise AnswerTimeout(f"its process was not ready after {START_SECONDS:g} s")

    def _limit_stderr(self) -> None:
        """Discard what a process has written to standard error, if it would fill the disk."""
        if os.fstat(self._stderr.fileno()).st_blocks * 512 > STDERR_LIMIT:
            os.ftruncate(self._stderr.fileno(), 0)  # it goes on at the same offset, and a hole takes no space

    def _how_it_ended(self) -> str:
        assert self.process is not None
        try:
            how = describe_exit(self.process.wait(EXIT_SECONDS))
        except subprocess.TimeoutExpired:
            how = "its process closed the pipes of its requests and answers, and was killed"
        self._stderr.seek(max(self._stderr.seek(0, os.SEEK_END) - STDERR_BYTES, 0))
        written = self._stderr.read(STDERR_BYTES).replace(b"\0", b"")  # a hole is read as zeros
        tail = written.decode(errors="replace").strip().split("\n")[-STDERR_LINES:]
        return "\n".join([how, *(line for line in tail if line.strip())])


def describe_exit(code: int) -> str:
    """How a process without an answer ended, from its exit code (negative: the signal that killed it)."""
    if code < 0:
        known = {number.value: number.name for number in signal.Signals}  # real-time signals have no name
        return f"its process was killed by {known.get(-code, f'signal {-code}')}"
    return f"its process ended with code {code} and no record"


def serve(load_handler: Callable[[], Handler]) -> None:
    """The loop inside the process: write the ready line, then answer every line of standard input with one line.

    Args:
        load_handler: imports what takes long and returns the handler. Whatever it and the handler print goes to
            standard error, so that standard output has the answers only.
    """
    _end_with_parent()
    process = os.getpid()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    handler = load_handler()
    print(READY, file=answers, flush=True)
    for line in sys.stdin:
        answer = handler(line)
        if os.getpid() != process:  # a copy that a plugin forked has come back from the plugin, too
            os._exit(0)
        print(answer, file=answers, flush=True)


def _end_with_parent() -> None:
    """Let the system kill this process when the thread that started it ends, and make it the parent of its orphans.

    The end of standard input would show the same only between two requests, and a plugin may take hours. Orphans are
    what a plugin starts in the background: as descendants, they are found when the process is closed. Both exist on
    Linux only.
    """
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(_PR_SET_CHILD_SUBREAPER, 1)


_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
