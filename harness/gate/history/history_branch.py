"""The store of runs as a git branch of its own, with no ancestor in common with the code."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.core.record import Run
from harness.gate.history import run_history
from harness.gate.history.run_history import HistoryError

ATTEMPTS = 5
"""Pushes that another machine's may have come before."""


def push(repository: Path, remote: str, branch: str, runs: Sequence[Run]) -> list[str]:
    """Add runs to the branch of a remote, and make the branch where it is not there.

    Returns:
        The files' paths in the branch.

    Raises:
        HistoryError: git says no, or others were faster five times.
    """
    for _ in range(ATTEMPTS):
        with _branch(repository, remote, branch) as folder:
            (folder / "README.md").write_text(run_history.README, encoding="utf-8")
            paths = [run_history.add(run, folder).relative_to(folder).as_posix() for run in runs]
            _git(folder, "add", "README.md", *paths)
            if not _git(folder, "status", "--porcelain"):
                return paths
            _git(folder, "commit", "--quiet", "-m", f"Add {len(paths)} run{'s' if len(paths) > 1 else ''}")
            refused = _push(folder, remote, branch)
            if refused is None:
                return paths
            if "rejected" not in refused and "fetch first" not in refused:
                raise HistoryError(f"git push to {branch} of {remote}: {refused}")
    raise HistoryError(f"branch {branch} of {remote} was pushed to by others {ATTEMPTS} times in a row; try again")


def pull(repository: Path, remote: str, branch: str, into: Path) -> int:
    """Copy the branch's runs that a folder lacks into it.

    Returns:
        How many were new.

    Raises:
        HistoryError: there is no such branch.
    """
    with _branch(repository, remote, branch) as folder:
        found = sorted(folder.glob("*/*.json"))
        if not found:
            raise HistoryError(f"branch {branch} of {remote} has no runs; push one first")
        new = [path for path in found if not (into / path.relative_to(folder)).exists()]
        for path in new:
            target = into / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return len(new)


@contextmanager
def _branch(repository: Path, remote: str, branch: str) -> Iterator[Path]:
    """The branch as it is at the remote, in a worktree; an empty one where it is not there."""
    _git(repository, "check-ref-format", "--branch", branch)
    with tempfile.TemporaryDirectory(prefix="harness-history-") as scratch:
        folder = Path(scratch) / "branch"
        there = bool(_git(repository, "ls-remote", "--heads", remote, f"refs/heads/{branch}"))
        if there:
            _git(repository, "fetch", "--quiet", remote, f"refs/heads/{branch}")
            _git(repository, "worktree", "add", "--quiet", "--detach", str(folder), "FETCH_HEAD")
        else:
            _git(repository, "worktree", "add", "--quiet", "--detach", "--no-checkout", str(folder), "HEAD")
            _git(folder, "symbolic-ref", "HEAD", f"refs/heads/{folder.parent.name}")
            _git(folder, "read-tree", "--empty")
        try:
            yield folder
        finally:
            _git(repository, "worktree", "remove", "--force", str(folder))
            if not there:  # the branch that held the first commit until it was pushed, if there was one
                subprocess.run(
                    ["git", "branch", "-D", folder.parent.name], cwd=repository, capture_output=True, check=False
                )


def _push(folder: Path, remote: str, branch: str) -> str | None:
    done = subprocess.run(
        ["git", "push", "--quiet", remote, f"HEAD:refs/heads/{branch}"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return None if done.returncode == 0 else done.stderr.strip()


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HistoryError(f"git {arguments[0]} in {folder}: {done.stderr.strip()}")
    return done.stdout.strip()
