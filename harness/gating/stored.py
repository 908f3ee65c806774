"""One side of ``harness gate``: a stored run, or a folder of several of one commit, whose processes are its rounds."""

from pathlib import Path

from harness import store
from harness.gating import comparable
from harness.record import Run
from harness.store import StoreError


def load(path: Path) -> Run:
    """The run of a file; or one run with the records of all in a folder, in the order of their times.

    Raises:
        StoreError: a file is missing or no run; the folder has none, or runs of several commits, machines or settings.
    """
    if not path.is_dir():
        return store.load(path)
    files = sorted(path.glob("*.json"))
    if not files:
        raise StoreError(f"{path}: expected runs (*.json) in this folder, found none; harness run --out writes one")
    runs = {file.name: store.load(file) for file in files}
    (name, first), *others = sorted(runs.items(), key=lambda one: one[1].started)
    for other, run in others:
        found = comparable.differences(first, run, (name, other))
        if run.commit != first.commit:
            found.insert(0, f"commit: {name} has {first.commit}, {other} {run.commit}")
        if found:
            raise StoreError(f"{path}: expected runs of one commit, machine and settings; {'; '.join(found)}")
    if not others:
        return first
    records = [record for run in (first, *(run for _, run in others)) for record in run.records]
    return first.model_copy(
        update={"records": records, "session": None}
    )  # none of them took turns with the other side's
