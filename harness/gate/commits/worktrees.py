"""Commits checked out in worktrees, built, and asked which cases their suites have."""

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.core import git
from harness.core.spec import AnySpec

LAST_LINES = 15
"""Lines of a failed command's output that its error quotes, from the end."""


class CommitError(ValueError):
    """A commit that does not exist, or whose checkout, build or collection of cases fails."""


class Collection(BaseModel):
    """The cases of a commit's suites in their order, by case id; and the profile and device that they were made for."""

    profile: str
    device: str
    specs: dict[str, AnySpec]


def resolve(folder: Path, revision: str) -> str:
    """The full id of a commit.

    Raises:
        CommitError: ``folder`` is not in a git checkout, or the repository has no such commit.
    """
    result = git.run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if not result.ok:
        raise CommitError(
            f"commit {revision!r} is not in this repository; if the clone is shallow, run git fetch --unshallow"
            if git.run(folder, "rev-parse", "--git-dir").ok
            else f"{folder} is not in a git checkout; run the command from your project's root"
        )
    return result.stdout.strip()


@contextmanager
def checkout(folder: Path, commit: str, into: Path) -> Iterator[Path]:
    """A worktree of ``commit``, which is removed at the end.

    Args:
        folder: the project's folder in the user's checkout.
        commit: full id.
        into: folder of the new worktree; it must not exist yet.

    Yields:
        The project's folder in the worktree.
    """
    result = git.run(folder, "worktree", "add", "--quiet", "--detach", str(into), commit)
    if not result.ok:
        raise CommitError(f"commit {commit[:12]} cannot be checked out: {result.stderr.strip()}")
    try:
        yield into / git.run(folder, "rev-parse", "--show-prefix").stdout.strip()
    finally:
        git.run(folder, "worktree", "remove", "--force", str(into))


def build(folder: Path, commit: str, commands: Sequence[str], env: Mapping[str, str]) -> None:
    """Run the build commands in a checkout; ``{python}`` in a command is replaced by this interpreter.

    Raises:
        CommitError: a command failed; the message has the last lines of its output.
    """
    for command in commands:
        words = [word.replace("{python}", sys.executable) for word in shlex.split(command)]
        try:
            done = subprocess.run(words, cwd=folder, env=dict(env), capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise CommitError(f"commit {commit[:12]} does not build: {command}: {error.strerror}") from error
        if done.returncode != 0:
            raise CommitError(
                f"commit {commit[:12]} does not build: {command} ended with exit code {done.returncode}\n{_tail(done)}"
            )


def collect(folder: Path, commit: str, arguments: Sequence[str], env: Mapping[str, str]) -> Collection:
    """The cases of a checkout's suites: its own pytest collects them and runs none.

    Args:
        folder: the checkout.
        commit: full id, for error messages.
        arguments: pytest's: suites and the harness's options.
        env: environment of the pytest process.

    Raises:
        CommitError: pytest cannot collect, or the commit's harness is too old to have ``--harness-cases``.
    """
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        answer = Path(scratch) / "cases.json"
        options = ["-p", "harness.pytest_plugin", "--collect-only", "-q", f"--harness-cases={answer}"]
        command = [sys.executable, "-m", "pytest", *options, *arguments]
        done = subprocess.run(command, cwd=folder, env=dict(env), capture_output=True, text=True, errors="replace")
        if done.returncode != 0 or not answer.exists():
            raise CommitError(f"commit {commit[:12]}: pytest cannot collect its suites:\n{_tail(done)}")
        collected = json.loads(answer.read_text())
        try:
            specs = [TypeAdapter(AnySpec).validate_python(spec) for spec in collected["specs"]]
        except ValidationError as error:
            raise CommitError(
                f"commit {commit[:12]} has a case that this version of the harness cannot read: {error}"
            ) from error
    by_id: dict[str, AnySpec] = {spec.case_id: spec for spec in specs}
    return Collection(profile=collected["profile"], device=collected["device"], specs=by_id)


def follow_renames(
    folder: Path, commits: tuple[str, str], checkouts: tuple[Path, Path], arguments: Sequence[str]
) -> tuple[list[str], list[str]]:
    """pytest's arguments for two checkouts, where a path that was renamed between them has the name of each.

    An argument counts as a path if it exists in one of the checkouts. A path may be a file, a folder, or a file with a
    test's name behind ``::``.

    Args:
        folder: the project's folder in the user's checkout.
        commits: full ids of base and head.
        checkouts: the project's folder in the worktrees of base and head.
        arguments: pytest's, with paths relative to the project's folder.

    Returns:
        The arguments for base and for head.

    Raises:
        CommitError: a path exists in only one of the commits and git finds no rename of it.
    """
    results: tuple[list[str], list[str]] = (list(arguments), list(arguments))
    renames: dict[str, str] | None = None
    for place, argument in enumerate(arguments):
        path, separator, test = argument.partition("::")
        exists = [not argument.startswith("-") and (checkout / path).exists() for checkout in checkouts]
        if exists[0] == exists[1]:
            continue
        missing = exists.index(False)
        if renames is None:
            renames = _renames(folder, *commits)
        new_path = _renamed(path, renames if missing == 1 else {new: old for old, new in renames.items()})
        if new_path is not None:
            results[missing][place] = new_path + separator + test
        elif place == 0 or not arguments[place - 1].startswith("-"):  # else it may be an option's value, as in -k yoso
            raise CommitError(
                f"{path} is in commit {commits[1 - missing][:12]} and not in {('base', 'head')[missing]} commit "
                f"{commits[missing][:12]}, and git finds no rename of it; name a suite that both commits have"
            )
    return results


def _renames(folder: Path, base: str, head: str) -> dict[str, str]:
    """New paths by old path of the files renamed from base to head, relative to ``folder``."""
    listing = git.output(folder, "diff", "--find-renames", "--name-status", "--relative", "-z", base, head)
    fields = iter(listing.split("\0"))
    renames = {}
    for status in fields:
        if status.startswith(("R", "C")):  # these have two paths
            old, new = next(fields), next(fields)
            if status.startswith("R"):
                renames[old] = new
        elif status:
            next(fields)
    return renames


def _renamed(path: str, renames: Mapping[str, str]) -> str | None:
    """The other name of a file; or of a folder, if all its renamed files went to one folder under their own names."""
    path = PurePosixPath(path).as_posix()
    if path in renames:
        return renames[path]
    folders = set()
    for old, new in renames.items():
        if old.startswith(path + "/"):
            inner = old.removeprefix(path)
            folders.add(new.removesuffix(inner) if new.endswith(inner) else None)
    return folders.pop() if len(folders) == 1 else None


def _tail(done: "subprocess.CompletedProcess[str]") -> str:
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:])
