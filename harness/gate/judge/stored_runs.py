"""What ``harness gate`` reads: a stored run, or a folder with several runs of one commit, each of which is a round."""

from pathlib import Path

from harness.core import comparability, store
from harness.core.merged_runs import as_rounds
from harness.core.record import Run
from harness.core.store import StoreError


def load(path: Path, anyway: bool = False) -> Run:
    """The run in a file; or one run with the records of all runs in a folder, in the order in which they started.

    Args:
        path: a benchmark JSON or a log; or a folder of JSONs.
        anyway: accept runs of different machines or settings in one folder.

    Raises:
        StoreError: a file is missing or is not a run; the folder has no run, the same run twice, or runs of several
            commits, machines or settings.
    """
    if not path.is_dir():
        return store.load(path)
    files = sorted(path.glob("*.json"))
    if not files:
        raise StoreError(
            f"{path}: expected runs (*.json) in this folder, found none; harness run --out writes one, and the path of "
            "a log must be given itself"
        )
    named = [(file.name, store.load(file)) for file in files]
    (first_name, first), *later = sorted(named, key=lambda name_and_run: name_and_run[1].started)
    runs = {first_name: first}
    for name, run in later:
        same = [earlier for earlier, earlier_run in runs.items() if earlier_run.records == run.records]
        if same:
            raise StoreError(f"{path}: expected every run once, but {same[0]} and {name} hold the same; remove one")
        differences = [] if anyway else comparability.run_differences(first, run, (first_name, name))
        if run.commit != first.commit:
            differences.insert(0, f"commit: {first_name} has {first.commit}, {name} {run.commit}")
        if differences:
            raise StoreError(f"{path}: expected runs of one commit, machine and settings; {'; '.join(differences)}")
        runs[name] = run
    if not later:
        return first
    return as_rounds([*runs.values()])
