"""The store of runs as a git branch of its own, which has no ancestor in common with the code.

Commits are made from git's objects alone, without a checkout or an index: so nothing of the user's changes but the
remote's branch, and no setting of git, such as an ignored name or a filter, decides what is in a commit.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.core import git
from harness.core.record import Run
from harness.core.record_text import clean_text
from harness.gate.history import run_history
from harness.gate.history.run_history import HistoryError

ATTEMPTS = 5
"""How often a push is tried when other machines push to the branch at the same time."""
MARKER = "README.md"
"""The file whose text, ``run_history.README``, shows that the harness made a branch."""
_HELPER = re.compile(r"[A-Za-z0-9+.-]+::")
"""How an address begins for which git runs another program."""
_STORED = re.compile(r"[a-z0-9][a-z0-9-]*/[A-Za-z0-9][A-Za-z0-9._-]*\.json")
"""Paths of runs in a branch, as ``run_history.stored_path`` makes them."""


def push(repository: Path, remote: str, branch: str, runs: Sequence[Run]) -> list[str]:
    """Add runs to a branch of a remote, and create the branch if it does not exist.

    Returns:
        The paths of the runs' files in the branch.

    Raises:
        GitError: a git command failed.
        HistoryError: the harness did not make the branch; it holds another run under the same name; the remote does not
            accept the push; or other machines pushed first in all ``ATTEMPTS`` attempts.
    """
    address = _address(repository, remote)
    _check_name(repository, branch)
    files = {run_history.stored_path(run).as_posix(): run_history.stored_text(run) for run in runs}
    for _ in range(ATTEMPTS):
        tip = _tip(repository, address, branch)
        if tip is None:
            _check_not_the_users(repository, branch)
            stored = {}
        else:
            stored = _fetched_runs(repository, address, branch, tip)
        new = {path: text for path, text in files.items() if path not in stored}
        for path in files.keys() & stored.keys():
            if _content(repository, stored[path]) != files[path]:
                raise HistoryError(f"{path} of branch {branch} holds a different run: the store is append-only")
        if not new:
            return [*files]
        commit = _commit(repository, tip, new)
        options = ("--quiet", "--no-verify", "--no-follow-tags", "--recurse-submodules=no")
        pushed = git.run(repository, "push", *options, "--", address, f"{commit}:refs/heads/{branch}")
        if pushed.ok:
            return [*files]
        if _tip(repository, address, branch) == tip:  # nobody else pushed, so the reason is another
            raise HistoryError(f"git push to {branch} of {remote}: {clean_text(pushed.stderr.strip())}")
    raise HistoryError(f"other machines pushed to branch {branch} of {remote} {ATTEMPTS} times in a row; try again")


def pull(repository: Path, remote: str, branch: str, into: Path) -> int:
    """Copy into a folder those runs of a branch that it does not have.

    Returns:
        The number of copied runs.

    Raises:
        GitError: a git command failed.
        HistoryError: the branch does not exist, has no runs, or the harness did not make it.
    """
    address = _address(repository, remote)
    _check_name(repository, branch)
    tip = _tip(repository, address, branch)
    stored = {} if tip is None else _fetched_runs(repository, address, branch, tip)
    if not stored:
        raise HistoryError(f"branch {branch} of {remote} has no runs; push one first")
    new = {path: blob for path, blob in stored.items() if not (into / path).exists()}
    for path, blob in new.items():
        run_history.write(into / path, _content(repository, blob))
    return len(new)


def _address(repository: Path, remote: str) -> str:
    """The remote's name or address for git; a relative path is made absolute, because git starts at the top folder.

    Raises:
        GitError: ``repository`` is not in a git checkout.
        HistoryError: git would take the remote for an option or a command.
    """
    if not remote or remote.startswith("-") or _HELPER.match(remote):
        raise HistoryError(f"--remote must be the name, address or path of a git remote, got {remote!r}")
    names = git.output(repository, "remote").splitlines()
    path = repository / remote
    return str(path.resolve()) if remote not in names and path.exists() else remote


def _check_name(repository: Path, branch: str) -> None:
    """Refuse what is not the plain name of a branch, such as an option, ``@{-1}``, or the ref ``refs/heads/main``."""
    if branch.startswith(("-", "refs/")) or git.output(repository, "check-ref-format", "--branch", branch) != branch:
        raise HistoryError(f"--branch must be the name of a branch, got {branch!r}; see git help check-ref-format")


def _check_not_the_users(repository: Path, branch: str) -> None:
    """Refuse to create a branch at the remote that the user has here: he has not pushed it yet."""
    head = git.run(repository, "symbolic-ref", "--quiet", "HEAD").stdout.strip()  # it has no commit in a new repository
    is_here = git.run(repository, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}").ok
    if head == f"refs/heads/{branch}" or is_here:
        raise HistoryError(_not_ours(branch, "it is a branch of this repository"))


def _not_ours(branch: str, why: str) -> str:
    return (
        f"branch {branch} was not made by harness history ({why}), and is left alone; name one that does not exist "
        "yet, or leave out --branch"
    )


def _tip(repository: Path, address: str, branch: str) -> str | None:
    """The commit that the branch has at the remote; None if there is no such branch."""
    for line in git.output(repository, "ls-remote", "--heads", "--", address, f"refs/heads/{branch}").splitlines():
        commit, _, name = line.partition("\t")
        if name == f"refs/heads/{branch}":  # git also lists names that only end with it
            return commit
    return None


def _fetched_runs(repository: Path, address: str, branch: str, tip: str) -> dict[str, str]:
    """Fetch the branch; the ids of its runs' contents by path.

    Raises:
        HistoryError: the harness did not make the branch.
    """
    options = ("--quiet", "--no-tags", "--recurse-submodules=no")
    git.output(repository, "fetch", *options, "--", address, f"refs/heads/{branch}")
    files = {path: item.split()[2] for path, item in _listing(repository, "-r", tip).items() if item.startswith("100")}
    if MARKER not in files or _content(repository, files[MARKER]) != run_history.README.strip():
        raise HistoryError(_not_ours(branch, f"its {MARKER} is missing or another"))
    return {path: blob for path, blob in files.items() if _STORED.fullmatch(path)}


def _listing(repository: Path, *tree: str) -> dict[str, str]:
    """Mode, kind and id by path of a tree's entries, as ``git ls-tree`` writes them."""
    entries = git.output(repository, "ls-tree", "-z", "--full-tree", *tree).split("\0")
    return {path: item for item, _, path in (entry.partition("\t") for entry in entries) if path}


def _content(repository: Path, blob: str) -> str:
    return git.output(repository, "cat-file", "blob", blob)


def _commit(repository: Path, parent: str | None, files: Mapping[str, str]) -> str:
    """The id of a new commit: that of ``parent`` and these files, by path. No branch points to it yet."""
    top = {MARKER: _blob(repository, run_history.README)} if parent is None else _listing(repository, parent)
    for folder in sorted({path.partition("/")[0] for path in files}):
        entries = _listing(repository, f"{parent}:{folder}") if folder in top else {}
        for path, text in files.items():
            if path.partition("/")[0] == folder:
                entries[path.partition("/")[2]] = _blob(repository, text)
        top[folder] = f"040000 tree {_tree(repository, entries)}"
    parents = ("-p", parent) if parent else ()
    message = f"Add {len(files)} run{'s' if len(files) > 1 else ''}"
    return git.output(repository, "commit-tree", _tree(repository, top), *parents, "-m", message)


def _blob(repository: Path, text: str) -> str:
    blob = git.output(repository, "hash-object", "-w", "--no-filters", "--stdin", stdin=text)
    return f"100644 blob {blob}"


def _tree(repository: Path, entries: Mapping[str, str]) -> str:
    listing = "".join(f"{item}\t{name}\0" for name, item in entries.items())
    return git.output(repository, "mktree", "-z", stdin=listing)
