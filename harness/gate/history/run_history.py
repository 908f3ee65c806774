"""An append-only store of runs: plain files named ``MACHINE/STARTED-COMMIT.json``, in a folder or a git branch."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.core import store
from harness.core.record import Run

HARDWARE = (
    "cpu", "architecture", "cores", "logical_cores", "isa", "memory_bytes",
    "cuda_device", "cuda_devices", "cuda_memory_bytes", "cuda_power_limit_watts",
)  # fmt: skip
"""Fields of the fingerprint that identify a machine. Software is not among them: a trend should show what a new torch
changes."""
NAME_LENGTH = 80
"""Most characters that a part of a path has of one text of a run."""
README = "Runs of `harness`, one file per run, in one folder per machine. Files are added and never changed.\n"
"""The text of the file that every branch of runs has; by it the harness knows its own branches."""


class HistoryError(ValueError):
    """A store that cannot be written or read: what was expected, and what was found."""


@dataclass(frozen=True)
class StoredRun:
    """One run of the store and the path of its file."""

    path: Path
    run: Run


def machine_name(run: Run) -> str:
    """The folder's name for the run's machine: the device's name, and a digest of the hardware."""
    hardware = {name: run.machine.get(name) for name in HARDWARE}
    digest = hashlib.sha256(json.dumps(hardware, sort_keys=True).encode()).hexdigest()[:8]
    device = str(run.machine.get("cuda_device") or run.machine.get("cpu") or "")
    name = re.sub(r"[^a-z0-9]+", "-", device.lower())[:NAME_LENGTH].strip("-")
    return f"{name or 'unknown'}-{digest}"


def stored_path(run: Run) -> PurePosixPath:
    """The path of a run's file in a store; texts of the run have no effect on the folder that it is in.

    Raises:
        HistoryError: the run has no commit.
    """
    if run.commit is None:
        raise HistoryError("a run without a commit cannot be added to a history; measure it in a git checkout")
    started = re.sub(r"[^0-9TZ]", "", run.started.partition("+")[0])[:NAME_LENGTH]
    commit = re.sub(r"[^A-Za-z0-9._-]+", "-", run.commit)[:NAME_LENGTH]
    return PurePosixPath(machine_name(run), f"{started or 'unknown'}-{commit}.json")


def stored_text(run: Run) -> str:
    """The content of a run's file: a benchmark JSON."""
    return json.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")})


def add(run: Run, folder: Path) -> Path:
    """Add a run to the store.

    Returns:
        The run's file. If it exists already and holds the same run, it is left alone.

    Raises:
        HistoryError: the run has no commit, its file exists and holds a different run, or it cannot be written.
    """
    path = folder / stored_path(run)
    text = stored_text(run)
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise HistoryError(f"{path} holds a different run, which is kept: the store is append-only")
        return path
    write(path, text)
    return path


def write(path: Path, text: str) -> None:
    """Write a run's file at once, so that a reader never sees a half-written one.

    Raises:
        HistoryError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")  # two processes may add at the same time
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise HistoryError(f"{path}: cannot write the run: {error.strerror}; choose another --store") from error


def read(folder: Path) -> Iterator[StoredRun]:
    """Every run, machine by machine, in the order in which they started.

    Raises:
        HistoryError: the folder does not exist.
        StoreError: a file is not a run.
    """
    if not folder.is_dir():
        raise HistoryError(f"{folder}: expected a folder of runs, found none; harness history add or pull makes one")
    for path in sorted(folder.glob("*/*.json")):
        yield StoredRun(path, store.load(path))
