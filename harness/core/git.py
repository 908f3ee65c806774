"""Runs git. Every other module that needs git calls this one."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class GitError(ValueError):
    """A git command failed: the command, its folder, and what git wrote to standard error."""


@dataclass(frozen=True)
class GitResult:
    """The exit code of a git command, and all that it wrote."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0


def run(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> GitResult:
    """Run ``git ARGUMENTS`` in a folder; a failure is a result, not an exception.

    Args:
        folder: the working directory.
        arguments: git's, the subcommand first.
        env: the whole environment of the process; None: this process's.

    Raises:
        FileNotFoundError: git is not installed, or there is no such folder.
    """
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=None if env is None else dict(env),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return GitResult(done.returncode, done.stdout, done.stderr)


def output(folder: Path, *arguments: str) -> str:
    """What ``git ARGUMENTS`` writes to standard output, without surrounding white space.

    Raises:
        GitError: the command failed.
        FileNotFoundError: git is not installed, or there is no such folder.
    """
    result = run(folder, *arguments)
    if not result.ok:
        raise GitError(f"git {arguments[0]} in {folder}: {result.stderr.strip()}")
    return result.stdout.strip()
