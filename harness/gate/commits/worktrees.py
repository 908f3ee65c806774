"""Commits checked out in worktrees, built, and asked which cases their suites have."""

import fcntl
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import psutil
from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.core import git
from harness.core.spec import AnySpec
from harness.processes.owned_process import Finished, run_to_end

LAST_LINES = 15
"""Lines of a failed command's output that its error quotes, from the end."""
SCRATCH_PREFIX = "harness-worktrees-"
"""Beginning of the name of a folder of worktrees; its owner's process id and start time follow."""
LOCK = "owner.lock"
"""The file in such a folder that its owner keeps locked. The lock ends with the process, however it ends."""
NEW_SECONDS = 60.0
"""A folder without that file is not abandoned before this age: its owner may be about to write it."""
INIT_SUBMODULES = "git submodule update --init --recursive"


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
        repository = git.run(folder, "rev-parse", "--git-dir")
        raise CommitError(
            f"commit {revision!r} is not in this repository; if the clone is shallow, run git fetch --unshallow"
            if repository.ok
            else f"{folder} cannot be read as a git checkout; run the command from your project's root. "
            f"git says: {' '.join(repository.stderr.split())}"
        )
    return result.stdout.strip()


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder for worktrees of the repository around ``folder``, which is removed at the end with them.

    What killed processes have left of such folders and worktrees is removed at the start.
    """
    for abandoned in filter(_is_abandoned, {*_all_scratch_folders(), *_worktrees_by_scratch(folder)}):
        _remove_scratch(folder, abandoned)
    owner = psutil.Process()
    prefix = f"{SCRATCH_PREFIX}{owner.pid}-{owner.create_time():.0f}-"
    scratch = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    lock = os.open(scratch / LOCK, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield scratch
    finally:
        _remove_scratch(folder, scratch)
        os.close(lock)


def _all_scratch_folders() -> list[Path]:
    return [path.resolve() for path in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*")]


def _worktrees_by_scratch(folder: Path) -> dict[Path, list[Path]]:
    """The repository's worktrees in folders of this module, by folder; also those that no longer exist."""
    found: dict[Path, list[Path]] = {}
    for line in git.run(folder, "worktree", "list", "--porcelain", "-z").stdout.split("\0"):
        path = Path(line.removeprefix("worktree "))
        if line.startswith("worktree ") and path.parent.name.startswith(SCRATCH_PREFIX):
            found.setdefault(path.parent, []).append(path)
    return found


def _is_abandoned(scratch: Path) -> bool:
    """Whether the process that made a folder has ended."""
    try:
        lock = os.open(scratch / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return not scratch.exists() or time.time() - scratch.stat().st_mtime > NEW_SECONDS
    except OSError:  # another user's
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove_scratch(folder: Path, scratch: Path) -> None:
    for worktree in _worktrees_by_scratch(folder).get(scratch, []):
        # Twice: a killed `git worktree add` leaves its worktree locked.
        git.run(folder, "worktree", "remove", "--force", "--force", str(worktree))
    git.run(folder, "branch", "-D", scratch.name)  # that of a first push of the history, if it was killed
    shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def checkout(folder: Path, commit: str, into: Path) -> Iterator[Path]:
    """A worktree of ``commit``, which is removed at the end. Submodules are not checked out in it.

    Args:
        folder: the project's folder in the user's checkout.
        commit: full id.
        into: folder of the new worktree, in a ``scratch_folder``; it must not exist yet.

    Yields:
        The project's folder in the worktree.
    """
    try:
        result = git.run(folder, "worktree", "add", "--quiet", "--detach", str(into), commit)
        if not result.ok:
            raise CommitError(f"commit {commit[:12]} cannot be checked out: {result.stderr.strip()}")
        yield into / git.run(folder, "rev-parse", "--show-prefix").stdout.strip()
    finally:
        git.run(folder, "worktree", "remove", "--force", "--force", str(into))


def missing_submodules(folder: Path) -> str | None:
    """A sentence that names the submodules of a checkout that are not checked out; None if none is missing."""
    root = Path(git.run(folder, "rev-parse", "--show-toplevel").stdout.strip())
    if not (root / ".gitmodules").exists():
        return None
    lines = git.run(root, "submodule", "status", "--recursive").stdout.splitlines()
    names = [line.split()[1] for line in lines if line.startswith("-")]
    if not names:
        return None
    return (
        f"its submodules are not checked out: {', '.join(names)}; if its code needs them, let the first command of "
        f'`build` in [tool.harness.gate] be "{INIT_SUBMODULES}"'
    )


def build(folder: Path, commit: str, commands: Sequence[str], env: Mapping[str, str]) -> None:
    """Run the build commands in a checkout; ``{python}`` in a command is replaced by this interpreter.

    Raises:
        CommitError: a command failed; the message has the last lines of its output.
    """
    for command in commands:
        words = [word.replace("{python}", sys.executable) for word in shlex.split(command)]
        try:
            done = run_to_end(words, folder, env)
        except OSError as error:
            raise CommitError(f"commit {commit[:12]} does not build: {command}: {error.strerror}") from error
        if done.exit_code != 0:
            raise CommitError(
                f"commit {commit[:12]} does not build: {command} ended with exit code {done.exit_code}\n"
                f"{_explained(done, folder)}"
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
        done = run_to_end(command, folder, env)
        if done.exit_code != 0 or not answer.exists():
            raise CommitError(f"commit {commit[:12]}: pytest cannot collect its suites:\n{_explained(done, folder)}")
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


def _explained(done: Finished, folder: Path) -> str:
    """The last lines of a failed command in a checkout, and what the checkout lacks."""
    return "\n".join(filter(None, [done.last_lines(LAST_LINES), missing_submodules(folder)]))
