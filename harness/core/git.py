"""Runs git. Every other module that needs git calls this one.

What a command does depends on its arguments, its folder and the repository only, and not on where it was started: a git
hook, for example, sets ``GIT_DIR`` and ``GIT_INDEX_FILE``, with which a command in another folder would change the
user's own branch and index. A reference or path from outside belongs behind ``--end-of-options`` or ``--``.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.record_text import clean_text

SETTINGS = {
    "core.hooksPath": os.devnull,  # a hook of the user's is about the user's own commits
    "core.fsmonitor": "false",  # the name of a program
    "commit.gpgSign": "false",
    "push.gpgSign": "false",
    "protocol.ext.allow": "never",  # such an address is a command
}
"""Settings of every command, which override those of the user and of the repository."""
IDENTITY = {
    "GIT_AUTHOR_NAME": "harness",
    "GIT_AUTHOR_EMAIL": "harness@localhost",
    "GIT_COMMITTER_NAME": "harness",
    "GIT_COMMITTER_EMAIL": "harness@localhost",
}
"""Author of the commits that the harness makes, also where the user has configured no name."""
INHERITED = frozenset(
    (
        "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_PROXY_COMMAND",
        "GIT_CEILING_DIRECTORIES", "GIT_TEST_ASSUME_DIFFERENT_OWNER",
    )
)  # fmt: skip
"""Variables of git that are kept, besides those that begin with ``GIT_SSL_``: they say how a remote is reached, or
which folders git must not look at."""


class GitError(ValueError):
    """A git command failed: the command, its folder, and what git wrote to standard error, in one line."""


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


def run(folder: Path, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> GitResult:
    """Run ``git ARGUMENTS`` in a folder; a failure is a result, not an exception.

    Args:
        folder: the working directory.
        arguments: git's, the subcommand first.
        env: the environment of the process, whose variables of git are not passed on; None: this process's.
        stdin: text for its standard input.

    Raises:
        GitError: git is not installed, or there is no such folder.
    """
    settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    try:
        done = subprocess.run(
            ["git", *settings, *arguments],
            cwd=folder,
            env=environment(os.environ if env is None else env),
            input=stdin.encode(),
            capture_output=True,
            check=False,
        )
    except (OSError, ValueError) as error:  # ValueError: a null character in an argument
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "" if folder.is_dir() else f"; {folder} is not a folder"
        raise GitError(f"git cannot be run in {folder}: {reason}{hint}; install git 2.31 or newer") from error
    return GitResult(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def output(folder: Path, *arguments: str, stdin: str = "") -> str:
    """What ``git ARGUMENTS`` writes to standard output, without surrounding white space.

    Raises:
        GitError: the command failed, or as for ``run``.
    """
    result = run(folder, *arguments, stdin=stdin)
    if not result.ok:
        raise GitError(f"git {arguments[0]} in {folder}: {clean_text(result.stderr.strip())}")
    return result.stdout.strip()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """These variables for a git process: no repository, index or setting from outside, no questions, our identity."""
    kept = {
        name: value
        for name, value in variables.items()
        if not name.startswith("GIT_") or name.startswith("GIT_SSL_") or name in INHERITED
    }
    return kept | IDENTITY | {"GIT_TERMINAL_PROMPT": "0"}
