"""The first commit that made a case worse: ``git bisect run`` with ``harness ab`` as its question.

Git's bisection happens in a worktree of its own; the user's checkout is left alone. Every commit is held against the
good one, so that a creep of small steps ends where it passes the floor.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.gate.commits import worktrees

SKIP = 125
"""What ``git bisect run`` takes for: this commit cannot be judged."""
FOUND = re.compile(r"^([0-9a-f]{40}) is the first (?:bad|'?\w+'?) commit", re.MULTILINE)


@dataclass(frozen=True)
class Bisected:
    """The first bad commit, or None where git could not say; and all that was printed."""

    commit: str | None
    said: str


def question(good: str, case: str, suite_options: Sequence[str]) -> list[str]:
    """The command that ``git bisect run`` asks of every commit; see ``bisect_step``."""
    return [sys.executable, "-P", "-m", "harness.gate.commits.bisect_step", good, case, "--", *suite_options]


def run(folder: Path, good: str, bad: str, ask: Callable[[str], list[str]]) -> Bisected:
    """Bisect.

    Args:
        folder: the project's.
        good: a commit before the change.
        bad: a commit after it.
        ask: from the good commit's id to the command that ends with 0, 1 or 125 in a checkout.

    Raises:
        CommitError: one of the commits is not there, or good is no ancestor of bad.
    """
    ids = [worktrees.resolve(folder, one) for one in (good, bad)]
    if _git(folder, "merge-base", "--is-ancestor", *ids).returncode != 0:
        raise worktrees.CommitError(f"good commit {good!r} is no ancestor of bad commit {bad!r}; are they swapped?")
    with (
        tempfile.TemporaryDirectory(prefix="harness-bisect-") as scratch,
        worktrees.checkout(folder, ids[1], Path(scratch) / "tree") as tree,
    ):
        started = _git(tree, "bisect", "start", ids[1], ids[0])
        if started.returncode != 0:
            raise worktrees.CommitError(f"git bisect start: {started.stderr.strip()}")
        done = subprocess.run(
            ["git", "bisect", "run", *ask(ids[0])],
            cwd=tree, env=_environment(), capture_output=True, text=True, errors="replace",
        )  # fmt: skip
    found = FOUND.search(done.stdout)
    return Bisected(found.group(1) if found else None, done.stdout + done.stderr)


def _environment() -> dict[str, str]:
    """With this harness to be found, and not that of the commit that is checked out."""
    here = str(Path(__file__).resolve().parents[3])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _git(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
