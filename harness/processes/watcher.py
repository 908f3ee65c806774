"""Kills what a run has started when the run itself can no longer do it, because it was killed.

``python watcher.py TOKEN`` is the process; it is started by path and imports nothing of this package, so that it is
small. Its standard input is a pipe that nobody writes to: its end is the end of the process that holds the other end.
Then every process is killed whose environment has a mark that begins with the token (``owned_process``).
"""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

import psutil

VARIABLE = "HARNESS_STARTED_BY"
"""The environment variable with the marks of a process: one per process that started it, its owner's last."""
ROUNDS = 50
"""How often the processes are listed at most: one that is just being killed may have started another."""
ROUND_SECONDS = 0.01
"""Time between two lists: a killed process needs a moment to disappear."""


def kill_marked(mark: str) -> None:
    """Kill every process with a mark that begins with ``mark``; other users' processes cannot be seen."""
    for _ in range(ROUNDS):
        found = [process for process in psutil.process_iter() if _is_marked(process, mark)]
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        if not found:
            return
        time.sleep(ROUND_SECONDS)


def _is_marked(process: psutil.Process, mark: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        marks = process.environ().get(VARIABLE, "").split()
    except (psutil.Error, OSError):  # it has ended, or is another user's
        return False
    return any(word == mark or word.startswith(f"{mark}.") for word in marks)


def _wait_for_the_end_of(parent: int) -> None:
    """Wait for the end of standard input, or for the end of the parent: a copy of it may keep the pipe open."""
    with suppress(KeyboardInterrupt):
        while os.getppid() == parent and os.read(0, 1):
            pass


def _interrupt_with_parent(parent: int) -> None:
    """Let the system interrupt ``os.read`` when the thread that started this process ends. On Linux only."""

    def parent_may_have_ended(*_: object) -> None:
        if os.getppid() != parent:
            raise KeyboardInterrupt

    signal.signal(signal.SIGUSR1, parent_may_have_ended)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)


_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    _parent = os.getppid()
    for _ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(_ignored, signal.SIG_IGN)
    _interrupt_with_parent(_parent)
    _wait_for_the_end_of(_parent)
    kill_marked(sys.argv[1])
