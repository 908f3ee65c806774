"""Commits checked out side by side, and built."""

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LAST_LINES = 15
"""Of a failed build's output, in its error."""


class CommitError(ValueError):
    """A commit that is not there, or does not check out or build."""


def resolve(folder: Path, revision: str) -> str:
    """The full id of a commit.

    Raises:
        CommitError: ``folder`` is in no git checkout, or has no such commit.
    """
    done = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode != 0:
        inside = _git(folder, "rev-parse", "--git-dir").returncode == 0
        raise CommitError(
            f"commit {revision!r} is not in this repository; a shallow clone lacks it: git fetch --unshallow"
            if inside
            else f"{folder} is in no git checkout; run it from your project's root"
        )
    return done.stdout.strip()


@contextmanager
def checkout(folder: Path, commit: str, into: Path) -> Iterator[Path]:
    """A worktree of ``commit``, removed at the end.

    Args:
        folder: where in the repository the project is.
        commit: its full id.
        into: the worktree's folder; it must not be there yet.

    Yields:
        The folder in the worktree that ``folder`` is in its repository.
    """
    done = _git(folder, "worktree", "add", "--quiet", "--detach", str(into), commit)
    if done.returncode != 0:
        raise CommitError(f"commit {commit[:12]} does not check out: {done.stderr.strip()}")
    try:
        yield into / _git(folder, "rev-parse", "--show-prefix").stdout.strip()
    finally:
        _git(folder, "worktree", "remove", "--force", str(into))


def build(folder: Path, commit: str, commands: Sequence[str], env: Mapping[str, str]) -> None:
    """Run the build commands in a checkout, ``{python}`` in them being this interpreter.

    Raises:
        CommitError: one of them failed; the message has its last lines.
    """
    for command in commands:
        words = [word.replace("{python}", sys.executable) for word in shlex.split(command)]
        try:
            done = subprocess.run(words, cwd=folder, env=dict(env), capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise CommitError(f"commit {commit[:12]} does not build: {command}: {error.strerror}") from error
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:])
            raise CommitError(f"commit {commit[:12]} does not build: {command} ended with {done.returncode}\n{tail}")


def _git(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
