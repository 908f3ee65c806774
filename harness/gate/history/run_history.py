"""An append-only store of runs: plain files, ``MACHINE/STARTED-COMMIT.json``, in a folder or a git branch."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core import store
from harness.core.record import Run

HARDWARE = (
    "cpu", "architecture", "cores", "logical_cores", "isa", "memory_bytes",
    "cuda_device", "cuda_devices", "cuda_memory_bytes", "cuda_power_limit_watts",
)  # fmt: skip
"""What makes a machine another one. A new torch is the same machine: its step is what a trend should show."""
README = "Runs of `harness`, one file a run, by machine. Files are added and never changed.\n"


class HistoryError(ValueError):
    """A store that cannot be written or read: what was expected, what came."""


@dataclass(frozen=True)
class Stored:
    """One run of the store and where it is."""

    path: Path
    run: Run


def machine_name(run: Run) -> str:
    """A folder name: the device in words, and a digest of the hardware."""
    hardware = {name: run.machine.get(name) for name in HARDWARE}
    digest = hashlib.sha256(json.dumps(hardware, sort_keys=True).encode()).hexdigest()[:8]
    words = str(run.machine.get("cuda_device") or run.machine.get("cpu") or "unknown")
    return f"{re.sub(r'[^a-z0-9]+', '-', words.lower()).strip('-')}-{digest}"


def add(run: Run, folder: Path) -> Path:
    """Put a run into the store.

    Returns:
        Its file; one that is there already with the same run is left alone.

    Raises:
        HistoryError: the run has no commit, or another run has its file.
    """
    if run.commit is None:
        raise HistoryError("a run without a commit has no place in a history; run it in a git checkout")
    started = re.sub(r"[^0-9TZ]", "", run.started.partition("+")[0])
    path = folder / machine_name(run) / f"{started}-{run.commit.replace('+', '-')}.json"
    text = json.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")})
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise HistoryError(f"{path} holds another run; the store is append-only and keeps it")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)  # a reader never sees half of it
    return path


def read(folder: Path) -> Iterator[Stored]:
    """Every run, machine by machine, in the order of their times.

    Raises:
        HistoryError: there is no such folder.
        StoreError: a file is not a run.
    """
    if not folder.is_dir():
        raise HistoryError(f"{folder}: expected a folder of runs, found none; fill it with harness history add or pull")
    for path in sorted(folder.glob("*/*.json")):
        yield Stored(path, store.load(path))
