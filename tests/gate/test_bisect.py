import sys

import git_project
import pytest
from typer.testing import CliRunner

from harness.commands.app import app
from harness.gate.commits import bisection
from harness.gate.commits.worktrees import CommitError
from harness.gate.judge import judgement

# Replaces harness ab: the speed of a commit is a number in a file, and a commit without one cannot be judged.
STEP = """
import pathlib, sys
speed = pathlib.Path("speed.txt")
sys.exit(125 if not speed.read_text().strip() else int(float(speed.read_text()) > 1.05))
"""


@pytest.fixture
def repository(tmp_path):
    return git_project.new(tmp_path / "project")


def step(_):
    return [sys.executable, "-c", STEP]


def test_the_first_slow_commit_is_found_past_one_that_does_not_build(repository):
    speeds = ["1.0", "1.01", "1.0", "", "1.02", "1.2", "1.21", "1.19", "1.2"]
    commits = [git_project.commit(repository, speed_dot_txt=speed) for speed in speeds]
    found = bisection.run(repository, commits[0], "HEAD", step)
    assert found.first_bad == commits[5]
    assert git_project.git(repository, "status", "--porcelain") == ""
    assert git_project.git(repository, "rev-parse", "--abbrev-ref", "HEAD") == "main"
    assert len(git_project.git(repository, "worktree", "list").splitlines()) == 1


def test_no_commit_is_blamed_if_none_in_between_can_be_judged(repository):
    commits = [git_project.commit(repository, speed_dot_txt=speed) for speed in ("1.0", "", " ", "1.2")]
    assert bisection.run(repository, commits[0], commits[-1], step).first_bad is None


def test_swapped_and_unknown_commits_are_named(repository):
    commits = [git_project.commit(repository, speed_dot_txt=speed) for speed in ("1.0", "1.2")]
    with pytest.raises(CommitError, match="are they swapped"):
        bisection.run(repository, commits[1], commits[0], step)
    with pytest.raises(CommitError, match="'nope' is not in this repository"):
        bisection.run(repository, "nope", commits[0], step)


@pytest.mark.parametrize(
    ("weight", "code"), [("fine", 0), ("regression", 1), ("inconclusive", bisection.SKIP), ("error", bisection.SKIP)]
)
def test_the_exit_code_of_a_step_is_that_of_the_gate_or_skips_the_commit(repository, monkeypatch, weight, code):
    commit = git_project.commit(repository, a="1")

    def compare(base, head, options, minutes, timeout, case, progress, save):
        assert (base, head, options, case) == ("good", commit, ("suites", "-x"), "a case")
        if weight == "error":
            raise CommitError("commit does not build")
        finding = judgement.GateFinding("a case", None, "VERDICT", weight, "")
        return judgement.Judgement(base, head, (finding,), ())

    monkeypatch.chdir(repository)
    monkeypatch.setattr(bisection, "compare_commits", compare)
    assert bisection.main("good", "a case", ["suites", "-x"]) == code


def test_the_command_runs_the_steps_with_this_harness(repository, monkeypatch):
    """A step runs in a checkout that has no harness of its own, and finds no suites there."""
    commits = [git_project.commit(repository, a=str(number)) for number in range(3)]
    monkeypatch.chdir(repository)
    done = CliRunner().invoke(app, ["bisect", "operation/*", commits[0], commits[-1], "--", "suites"])
    assert done.exit_code == 2
    assert "pytest cannot collect its suites" in done.stdout
    assert "Inconclusive: git bisect could not name one commit" in done.stderr


@pytest.mark.parametrize("ends", ["raise KeyError('x')", "import no_such_module", "import os; os.kill(os.getpid(), 9)"])
def test_a_commit_whose_comparison_ends_in_an_error_is_skipped_and_not_blamed(repository, ends):
    """Python's exit code of an error is 1, which git would read as "worse"."""
    speeds = ["1.0", "1.0", "broken", "1.0", "1.2", "1.2"]
    commits = [git_project.commit(repository, speed_dot_txt=speed) for speed in speeds]
    script = (
        f"speed = open('speed.txt').read()\nif speed == 'broken': {ends}\n"
        f"raise SystemExit({bisection.WORSE} if float(speed) > 1.05 else 0)"
    )

    def step(good):
        command = bisection.step_command(good, "a case", [])
        shell = command[: command.index(sys.executable)]
        return [*shell, sys.executable, "-c", script]

    found = bisection.run(repository, commits[0], "HEAD", step)
    assert found.first_bad == commits[4]


def test_a_commit_that_does_not_have_the_case_is_skipped(repository, monkeypatch):
    git_project.commit(repository, a="1")
    monkeypatch.chdir(repository)
    gone = judgement.GateFinding("a case", None, "VANISHED", "regression", "base has this case and head does not")
    slower = judgement.GateFinding("other", None, "NEWLY FAILING", "regression", "")
    for findings, code in (((gone,), bisection.SKIP), ((gone, slower), 1)):
        judged = judgement.Judgement("good", "HEAD", findings, ())
        monkeypatch.setattr(bisection, "compare_commits", lambda *arguments, judged=judged: judged)
        assert bisection.main("good", "a case", []) == code
