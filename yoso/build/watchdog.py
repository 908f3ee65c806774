"""Ends the compilers of a build when the process that builds ends early.

ninja and the compilers would go on for minutes after their parent was killed, and ninja gives each compiler a process
group of its own, so that no signal to a group reaches them all. What they have in common is their working directory,
the build's own temporary folder. So a small process waits for the end of the parent and then kills what runs there.
Linux only: elsewhere the compilers end by themselves.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DONE = b"done"
_CODE = f"""
import os, shutil, signal, sys, time
folder = sys.argv[1]
if sys.stdin.buffer.read() != {_DONE!r}:
    running = True
    while running:
        running = False
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                inside = os.readlink(f"/proc/{{process}}/cwd").startswith(folder)
                if inside and int(process) != os.getpid():
                    os.kill(int(process), signal.SIGKILL)
                    running = True
            except OSError:
                pass
        time.sleep(0.01)
    shutil.rmtree(folder, ignore_errors=True)
"""


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """While this is entered, the end of this process, or an exception, ends what runs in ``folder`` and removes it."""
    if not Path("/proc/self/cwd").exists():
        yield
        return
    command = [sys.executable, "-I", "-S", "-c", _CODE, str(folder.resolve())]
    # A session of its own, so that a signal to the group of this process, such as Ctrl-C, does not end it first.
    with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, cwd="/", start_new_session=True) as process:
        assert process.stdin is not None
        yield  # after an exception the input is closed without the word
        with suppress(BrokenPipeError):  # somebody has killed it, and the build is complete
            process.stdin.write(_DONE)
