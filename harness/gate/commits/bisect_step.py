"""The question that ``git bisect run`` asks of a commit: is the case worse here than at the good one?

``python -m harness.gate.commits.bisect_step GOOD CASE -- [SUITE OPTIONS]`` in the bisection's worktree ends with 0 for
no, 1 for yes and 125 for a commit that cannot be judged: one that does not build, or one that the noise hides.
"""

import sys
from pathlib import Path

from harness.gate.commits import worktrees
from harness.gate.commits.bisection import SKIP
from harness.gate.commits.two_commits import compare_commits
from harness.gate.judge.outputs import print_table
from harness.gate.judge.thresholds import SettingsError
from harness.processes.protocol import ProcessFailure

MINUTES = 10.0
TIMEOUT = 300.0


def main(good: str, case: str, suite_options: list[str]) -> int:
    """The exit code."""
    here = Path.cwd()
    try:
        commit = worktrees.resolve(here, "HEAD")
        found = compare_commits(good, commit, tuple(suite_options), MINUTES, TIMEOUT, case, print, lambda *runs: None)
    except (worktrees.CommitError, SettingsError, ProcessFailure) as error:
        print(error)
        return SKIP
    print_table(found)
    return SKIP if found.exit_code == 2 else found.exit_code


if __name__ == "__main__":
    split = sys.argv.index("--")
    good_commit, case_pattern = sys.argv[1:split]
    sys.exit(main(good_commit, case_pattern, sys.argv[split + 1 :]))
