"""``harness bisect``: find the first commit that made a case worse, with ``git bisect run`` and ``harness ab``.

The bisection runs in its own worktree, and the user's checkout is left alone. Every commit is compared with the good
one, so that several small regressions are found where their sum exceeds the floor.

``python -m harness.gate.commits.bisection GOOD CASE -- [SUITE OPTIONS]`` is what git runs in the worktree for every
commit, through a shell. The shell's exit code is 0 if the case is not worse than at GOOD, 1 if it is worse, and 125 if
the commit cannot be judged: it does not build, it does not have the case, the comparison is inconclusive, or anything
went wrong. So no commit is blamed for an error: Python's own exit code of an error is 1, which git would read as
"worse".
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core import git
from harness.core.record_text import exception_text
from harness.gate.commits import worktrees
from harness.gate.commits.two_commits import compare_commits
from harness.gate.judge.outputs import print_judgement
from harness.processes.owned_process import run_to_end

WORSE = 64
"""The exit code of the module for a case that is worse, which Python has for nothing else."""
STEP = f'"$@"; case $? in 0) exit 0 ;; {WORSE}) exit 1 ;; *) exit 125 ;; esac'
"""Shell code that runs its arguments and translates their exit code for git."""
SKIP = 125
"""The exit code by which ``git bisect run`` skips a commit."""
MINUTES = 10.0
"""Time limit of one comparison; see ``two_commits.compare``."""
TIMEOUT = 300.0
"""Seconds to wait for one answer of a process; see ``two_commits.compare_commits``."""
FIRST_BAD = re.compile(r"^([0-9a-f]{40}) is the first (?:bad|'?\w+'?) commit", re.MULTILINE)


@dataclass(frozen=True)
class BisectResult:
    """The first bad commit, or None if git could not determine it; and everything that git and the steps printed."""

    first_bad: str | None
    log: str


def step_command(good: str, case: str, suite_options: Sequence[str]) -> list[str]:
    """The command that ``git bisect run`` runs for every commit: this module, through a shell."""
    module = [sys.executable, "-P", "-m", "harness.gate.commits.bisection", good, case, "--", *suite_options]
    return ["sh", "-c", STEP, "sh", *module]


def run(folder: Path, good: str, bad: str, step: Callable[[str], list[str]]) -> BisectResult:
    """Bisect.

    Args:
        folder: the project's folder.
        good: a commit before the change.
        bad: a commit after the change.
        step: returns, for the good commit's full id, the command whose exit code in a checkout is 0, 1 or 125.

    Raises:
        CommitError: a commit does not exist, or good is not an ancestor of bad.
    """
    good_id, bad_id = worktrees.resolve(folder, good), worktrees.resolve(folder, bad)
    if not git.run(folder, "merge-base", "--is-ancestor", good_id, bad_id).ok:
        raise worktrees.CommitError(f"good commit {good!r} is not an ancestor of bad commit {bad!r}; are they swapped?")
    with (
        worktrees.scratch_folder(folder) as scratch,
        worktrees.checkout(folder, bad_id, scratch / "tree") as tree,
    ):
        started = git.run(tree, "bisect", "start", bad_id, good_id)
        if not started.ok:
            raise worktrees.CommitError(f"git bisect start: {started.stderr.strip()}")
        # Not `git.run`: its steps take minutes, and must end with this process.
        done = run_to_end(["git", "bisect", "run", *step(good_id)], tree, _environment())
    first_bad = FIRST_BAD.search(done.stdout)
    return BisectResult(first_bad.group(1) if first_bad else None, done.stdout + done.stderr)


def main(good: str, case: str, suite_options: list[str]) -> int:
    """Compare the commit that is checked out here with ``good``; the exit code for git."""
    here = Path.cwd()
    try:
        commit = worktrees.resolve(here, "HEAD")
        found = compare_commits(good, commit, tuple(suite_options), MINUTES, TIMEOUT, case, print, lambda *runs: None)
    except Exception as error:  # whatever it is, it says nothing about the speed of this commit
        print(f"this commit is skipped: {exception_text(error)}")
        return SKIP
    print_judgement(found)
    if any(finding.verdict != "VANISHED" or finding.metric for finding in found.with_weight("regression")):
        return 1
    return 0 if found.exit_code == 0 else SKIP


def _environment() -> dict[str, str]:
    """An environment in which this harness is imported, and not that of the commit that is checked out."""
    here = str(Path(__file__).resolve().parents[3])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


if __name__ == "__main__":
    split = sys.argv.index("--")
    good_commit, case_pattern = sys.argv[1:split]
    code = main(good_commit, case_pattern, sys.argv[split + 1 :])
    sys.exit(WORSE if code == 1 else code)
