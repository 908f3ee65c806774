"""One side of ``harness gate``: a stored run, or a folder of several of one commit, whose processes are its rounds."""

from pathlib import Path

from harness.core import comparability, store
from harness.core.record import Run
from harness.core.store import StoreError


def load(path: Path, anyway: bool = False) -> Run:
    """The run of a file; or one run with the records of all in a folder, in the order of their times.

    Args:
        path: a benchmark JSON or a log; or a folder of JSONs.
        anyway: take runs of several machines or settings too.

    Raises:
        StoreError: a file is missing or no run; the folder has none, the same one twice, or runs of several commits,
            machines or settings.
    """
    if not path.is_dir():
        return store.load(path)
    files = sorted(path.glob("*.json"))
    if not files:
        raise StoreError(
            f"{path}: expected runs (*.json) in this folder, found none; harness run --out writes one, and a log is "
            "given by its own name"
        )
    (name, first), *others = sorted(((file.name, store.load(file)) for file in files), key=lambda one: one[1].started)
    earlier = {name: first}
    for other, run in others:
        same = [its for its, one in earlier.items() if one.records == run.records]
        if same:
            raise StoreError(f"{path}: expected every run once, {same[0]} and {other} hold the same; remove one")
        found = [] if anyway else comparability.run_differences(first, run, (name, other))
        if run.commit != first.commit:
            found.insert(0, f"commit: {name} has {first.commit}, {other} {run.commit}")
        if found:
            raise StoreError(f"{path}: expected runs of one commit, machine and settings; {'; '.join(found)}")
        earlier[other] = run
    if not others:
        return first
    records = [one for run in earlier.values() for one in run.records]
    begun = {one.case_id for one in records if not one.not_begun}
    records = [one for one in records if not (one.not_begun and one.case_id in begun)]
    # Whatever they took turns with, it was not the other side of this comparison.
    return first.model_copy(update={"records": records, "session": None})
