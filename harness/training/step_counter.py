"""How far a training is, told from the process that trains to the one that shows it, by a small file."""

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic

from harness.training import STEPS

WRITE_SECONDS = 0.5
"""The file is written at most this often."""


class StepCounter:
    """A ``ProgressCallback`` that writes ``DONE TOTAL`` into the file that the variable ``STEPS`` names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0

    @classmethod
    def of_environment(cls) -> "StepCounter | None":
        """The counter of this process; None where nobody asks for one."""
        path = os.environ.get(STEPS)
        return cls(Path(path)) if path else None

    def __call__(self, done: int, total: int) -> None:
        """Write the file; a file that cannot be written does not end a training."""
        now = monotonic()
        if now >= self._next or done == total:
            self._next = now + WRITE_SECONDS
            with suppress(OSError):
                self._path.write_text(f"{done} {total}", encoding="ascii")


def read_steps(path: Path) -> tuple[int, int] | None:
    """The steps that are done, and all; None where no training has begun, or a write is just under way."""
    try:
        done, total = map(int, path.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return None
    return done, total
