"""Kills what a run has started when the run itself can no longer do it, because it was killed.

``python watcher.py PARENT TOKEN`` is the process, and PARENT the process ID of the one that starts it. It is started by
path and imports nothing of this package, so that it is small. Its standard input is a pipe that nobody writes to: its
end is the end of the process that holds the other end.
Then every process is killed whose environment has a mark that begins with the token (``owned_process``).
"""

import os
import select
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
    """Wait for the end of standard input, or for the end of the parent: a copy of it may keep the pipe open.

    No signal tells of the parent's end, because it could arrive after the wait and interrupt what follows.
    """
    inputs = [0]
    if hasattr(os, "pidfd_open"):  # on Linux
        with suppress(OSError):  # the kernel has none, or the parent has ended, which is seen below
            inputs.append(os.pidfd_open(parent))
    while os.getppid() == parent:
        ready = select.select(inputs, [], [])[0]
        if 0 not in ready or not os.read(0, 1):
            return


if __name__ == "__main__":
    for _ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(_ignored, signal.SIG_IGN)
    _wait_for_the_end_of(int(sys.argv[1]))
    kill_marked(sys.argv[2])
