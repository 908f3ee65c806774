"""The store of runs as a git branch of its own, which has no ancestor in common with the code."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.core import git
from harness.core.record import Run
from harness.gate.commits import worktrees
from harness.gate.history import run_history
from harness.gate.history.run_history import HistoryError

ATTEMPTS = 5
"""How often a push is tried when other machines push to the branch at the same time."""


def push(repository: Path, remote: str, branch: str, runs: Sequence[Run]) -> list[str]:
    """Add runs to a branch of a remote, and create the branch if it does not exist.

    Returns:
        The paths of the runs' files in the branch.

    Raises:
        GitError: a git command failed.
        HistoryError: the push was rejected, or other machines pushed first in all ``ATTEMPTS`` attempts.
    """
    for _ in range(ATTEMPTS):
        with _branch(repository, remote, branch) as folder:
            (folder / "README.md").write_text(run_history.README, encoding="utf-8")
            paths = [run_history.add(run, folder).relative_to(folder).as_posix() for run in runs]
            git.output(folder, "add", "README.md", *paths)
            if not git.output(folder, "status", "--porcelain"):
                return paths
            git.output(folder, "commit", "--quiet", "-m", f"Add {len(paths)} run{'s' if len(paths) > 1 else ''}")
            pushed = git.run(folder, "push", "--quiet", remote, f"HEAD:refs/heads/{branch}")
            if pushed.ok:
                return paths
            if "rejected" not in pushed.stderr and "fetch first" not in pushed.stderr:
                raise HistoryError(f"git push to {branch} of {remote}: {pushed.stderr.strip()}")
    raise HistoryError(f"other machines pushed to branch {branch} of {remote} {ATTEMPTS} times in a row; try again")


def pull(repository: Path, remote: str, branch: str, into: Path) -> int:
    """Copy into a folder those runs of a branch that it does not have.

    Returns:
        The number of copied runs.

    Raises:
        GitError: a git command failed.
        HistoryError: the branch does not exist or has no runs.
    """
    with _branch(repository, remote, branch) as folder:
        paths = sorted(folder.glob("*/*.json"))
        if not paths:
            raise HistoryError(f"branch {branch} of {remote} has no runs; push one first")
        new = [path for path in paths if not (into / path.relative_to(folder)).exists()]
        for path in new:
            target = into / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return len(new)


@contextmanager
def _branch(repository: Path, remote: str, branch: str) -> Iterator[Path]:
    """A worktree of the branch as it is at the remote; an empty one if the branch does not exist."""
    git.output(repository, "check-ref-format", "--branch", branch)
    with worktrees.scratch_folder(repository) as scratch:
        folder = scratch / "branch"
        exists = bool(git.output(repository, "ls-remote", "--heads", remote, f"refs/heads/{branch}"))
        first_branch = folder.parent.name  # local name of a new branch until it is pushed
        if exists:
            git.output(repository, "fetch", "--quiet", remote, f"refs/heads/{branch}")
            git.output(repository, "worktree", "add", "--quiet", "--detach", str(folder), "FETCH_HEAD")
        else:
            git.output(repository, "worktree", "add", "--quiet", "--detach", "--no-checkout", str(folder), "HEAD")
            git.output(folder, "symbolic-ref", "HEAD", f"refs/heads/{first_branch}")
            git.output(folder, "read-tree", "--empty")
        try:
            yield folder
        finally:
            git.output(repository, "worktree", "remove", "--force", str(folder))
            if not exists:
                git.run(repository, "branch", "-D", first_branch)  # fails if nothing was committed to it
