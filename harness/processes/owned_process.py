"""Starts processes that do not outlive the process that started them, and neither does anything that they start.

Each has a session of its own, so that Ctrl-C reaches it only through its parent, and a mark in its environment, which
everything that it starts inherits. ``OwnedProcess.kill_whole`` kills its process group, its descendants and whatever
has its mark: a background process may leave the group and lose its parent, and keeps its environment.

SIGKILL leaves this process no time to do that. So ``harness.processes.watcher`` is started before the first such
process. It waits until this process has ended, however it ended, and kills what has a mark of it.
"""

import atexit
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO
from uuid import uuid4

import psutil

from harness.processes import watcher

WATCHER_SECONDS = 5.0
"""How long the watcher may take, when this process ends, to look for processes that are still running."""


class _Owner:
    """This process as the owner of others: what their marks begin with, and the watcher."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.token = uuid4().hex
        self._numbers = count()
        self._watcher = subprocess.Popen(
            [sys.executable, watcher.__file__, str(self.pid), self.token],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=os.path.sep,  # it must not keep a folder in use
            start_new_session=True,
        )
        atexit.register(self._end_watcher)

    def new_mark(self) -> str:
        """A mark that no other process has."""
        return f"{self.token}.{next(self._numbers)}"

    def _end_watcher(self) -> None:
        if os.getpid() != self.pid:  # a copy that was forked has not started it
            return
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._watcher.wait(WATCHER_SECONDS)


_owner: _Owner | None = None


def _new_mark() -> str:
    global _owner
    if _owner is None or _owner.pid != os.getpid():
        _owner = _Owner()
    return _owner.new_mark()


class OwnedProcess(subprocess.Popen[bytes]):
    """A child process with a session of its own, which ends with this process at the latest.

    Args:
        command: its command line.
        folder: its working directory; None: that of this process.
        env: its whole environment; None: that of this process.
        stdin: as for ``subprocess.Popen``, as are the other two.
        stdout: see ``stdin``.
        stderr: see ``stdin``.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
    ) -> None:
        env = os.environ if env is None else env
        self._mark = _new_mark()
        # The marks of the processes around this one stay, so that their owners find this process too.
        marks = " ".join([*filter(None, [env.get(watcher.VARIABLE)]), self._mark])
        super().__init__(
            list(command),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=folder,
            env={**env, watcher.VARIABLE: marks},
            start_new_session=True,
        )

    def kill_whole(self) -> None:
        """Kill the process, if it is running, and everything that it has started; it has ended when this returns."""
        children: list[psutil.Process] = []
        with suppress(psutil.Error):  # it has ended
            children = psutil.Process(self.pid).children(recursive=True)
        with suppress(ProcessLookupError, PermissionError):  # also where it has ended itself: its group may be running
            os.killpg(self.pid, signal.SIGKILL)
        for child in children:  # those that left the process group, and may have removed the mark
            with suppress(psutil.Error):
                child.kill()
        self.wait()
        watcher.kill_marked(self._mark)


@dataclass(frozen=True)
class Finished:
    """The exit code of a command (negative: the signal that killed it), and all that it wrote."""

    exit_code: int
    stdout: str
    stderr: str

    def last_lines(self, number: int) -> str:
        """The last lines that it wrote."""
        return "\n".join((self.stdout + self.stderr).strip().splitlines()[-number:])


def run_to_end(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Finished:
    """Run a command; what it started in the background is killed when it ends, or when this process is interrupted.

    Its output goes to files, because a background process may keep a pipe open for as long as it runs.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = OwnedProcess(command, folder, env, stdout=stdout, stderr=stderr)
        try:
            exit_code = process.wait()
        finally:
            process.kill_whole()
        stdout.seek(0)
        stderr.seek(0)
        return Finished(exit_code, stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace"))
