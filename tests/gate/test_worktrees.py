"""Worktrees of killed processes, submodules, paths that were renamed between two commits, and errors of git."""

import os
import subprocess
import sys
import time
from pathlib import Path

import git_project
import psutil
import pytest

from harness.core import git
from harness.gate.commits import worktrees
from harness.gate.commits.worktrees import CommitError

TEXT = "".join(f"line {number}\n" for number in range(40))


@pytest.fixture
def checkouts(tmp_path):
    """A project whose suites were renamed between base and head; returns what ``follow_renames`` takes."""
    project = git_project.new(tmp_path / "project")
    files = {"suites__claims_dot_py": TEXT, "suites__old__a_dot_py": TEXT + "a", "suites__old__b_dot_py": TEXT + "b"}
    base = git_project.commit(project, **files, suites__same_dot_py="same", suites__removed_dot_py="removed")
    git_project.git(project, "rm", "--quiet", "suites/removed.py")
    (project / "suites" / "studies").mkdir()
    git_project.git(project, "mv", "suites/claims.py", "suites/studies/claims.py")
    git_project.git(project, "mv", "suites/old", "suites/new")
    head = git_project.commit(project, suites__studies__claims_dot_py=TEXT + "one more line", yoso__x_dot_py="x")
    folders = tmp_path / "base", tmp_path / "head"
    for folder, commit in zip(folders, (base, head), strict=True):
        git_project.git(project, "worktree", "add", "--quiet", "--detach", str(folder), commit)
    return project, (base, head), folders


@pytest.mark.parametrize(
    ("arguments", "base", "head"),
    [
        (["suites/studies/claims.py"], ["suites/claims.py"], ["suites/studies/claims.py"]),
        (["./suites/claims.py::test_x[a]"], ["./suites/claims.py::test_x[a]"], ["suites/studies/claims.py::test_x[a]"]),
        (["-x", "suites/new"], ["-x", "suites/old"], ["-x", "suites/new"]),
        (["suites/old/", "-q"], ["suites/old/", "-q"], ["suites/new", "-q"]),
        (["suites", "suites/same.py"], ["suites", "suites/same.py"], ["suites", "suites/same.py"]),
        (["suites", "--attention", "yoso", "-k", "no"], *[["suites", "--attention", "yoso", "-k", "no"]] * 2),
        (["suites/nowhere.py"], ["suites/nowhere.py"], ["suites/nowhere.py"]),
    ],
)
def test_each_commit_gets_the_path_that_it_has(checkouts, arguments, base, head):
    assert worktrees.follow_renames(*checkouts, arguments) == (base, head)


def test_a_path_without_a_rename_is_named_with_the_commit_that_lacks_it(checkouts):
    _, (base, head), _ = checkouts
    message = f"suites/removed.py is in commit {base[:12]} and not in head commit {head[:12]}, and git finds no rename"
    with pytest.raises(CommitError, match=message):
        worktrees.follow_renames(*checkouts, ["suites/removed.py"])
    with pytest.raises(CommitError, match=f"yoso is in commit {head[:12]} and not in base commit {base[:12]}"):
        worktrees.follow_renames(*checkouts, ["yoso"])


def test_a_project_in_a_folder_of_its_repository_has_its_own_paths(tmp_path):
    repository = git_project.new(tmp_path / "repository")
    commits = git_project.commit(repository, project__old_dot_py=TEXT), None
    git_project.git(repository, "mv", "project/old.py", "project/new.py")
    commits = commits[0], git_project.commit(repository)
    folders = []
    for name, commit in zip(("base", "head"), commits, strict=True):
        git_project.git(repository, "worktree", "add", "--quiet", "--detach", str(tmp_path / name), commit)
        folders.append(tmp_path / name / "project")
    found = worktrees.follow_renames(repository / "project", commits, tuple(folders), ["new.py"])
    assert found == (["old.py"], ["new.py"])


def test_an_error_of_git_has_its_command_and_its_own_words(tmp_path):
    project = git_project.new(tmp_path / "project")
    with pytest.raises(git.GitError, match=r"^git show in .*project: fatal: .*nope"):
        git.output(project, "show", "nope")
    result = git.run(project, "show", "nope")
    assert not result.ok
    assert result.exit_code == 128
    assert "nope" in result.stderr


HOLDER = """
import sys
from pathlib import Path
from harness.gate.commits import worktrees
here = Path.cwd()
with worktrees.scratch_folder(here) as scratch:
    with worktrees.checkout(here, sys.argv[1], scratch / "base"):
        print(scratch, flush=True)
        sys.stdin.read()
"""


def test_worktrees_of_a_killed_process_are_removed_by_the_next_and_those_of_a_living_one_are_not(tmp_path):
    project = git_project.new(tmp_path / "project")
    commit = git_project.commit(project, a="1")
    start = [sys.executable, "-c", HOLDER, commit]
    holders = [
        subprocess.Popen(start, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    killed, living = (Path(holder.stdout.readline().strip()) for holder in holders)
    assert f"-{holders[0].pid}-" in killed.name
    holders[0].kill()
    holders[0].communicate()
    user_worktree = tmp_path / "mine"
    git_project.git(project, "worktree", "add", "--quiet", "--detach", str(user_worktree), commit)
    user_worktree.rename(tmp_path / "on a drive that is not mounted")
    try:
        with worktrees.scratch_folder(project) as scratch:
            assert not killed.exists()
            listed = git_project.git(project, "worktree", "list")
            assert str(killed) not in listed
            assert str(living / "base") in listed
            assert str(user_worktree) in listed
            assert (living / "base" / "a").exists()
            with worktrees.checkout(project, commit, scratch / "head"):
                pass
        assert not scratch.exists()
    finally:
        holders[1].communicate("")
    assert not living.exists()
    assert git_project.git(project, "worktree", "list").count("\n") == 1  # the project and the user's own


def test_an_interrupted_checkout_leaves_no_worktree(tmp_path, monkeypatch):
    project = git_project.new(tmp_path / "project")
    commit = git_project.commit(project, a="1")
    run = git.run

    def interrupted(folder, *arguments, **options):
        result = run(folder, *arguments, **options)
        if arguments[:2] == ("worktree", "add"):
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(git, "run", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        worktrees.scratch_folder(project) as scratch,
        worktrees.checkout(project, commit, scratch / "base"),
    ):
        pass
    assert not scratch.exists()
    assert git_project.git(project, "worktree", "list").count("\n") == 0


def test_a_build_without_the_submodules_says_that_they_are_not_checked_out(tmp_path):
    library = git_project.new(tmp_path / "library")
    git_project.commit(library, kernel_dot_c="int main() { return 0; }")
    project = git_project.new(tmp_path / "project")
    git_project.git(project, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "libs/x")
    commit = git_project.commit(project, a="1")
    allowed = os.environ | {"GIT_ALLOW_PROTOCOL": "file"}
    with worktrees.scratch_folder(project) as scratch, worktrees.checkout(project, commit, scratch / "base") as folder:
        with pytest.raises(CommitError, match=r"its submodules are not checked out: libs/x; .*git submodule update"):
            worktrees.build(folder, commit, ["cat libs/x/kernel.c"], allowed)
        worktrees.build(folder, commit, [worktrees.INIT_SUBMODULES, "cat libs/x/kernel.c"], allowed)
        assert worktrees.missing_submodules(folder) is None
    assert git_project.git(project, "worktree", "list").count("\n") == 0


def test_git_says_itself_why_a_checkout_cannot_be_read(tmp_path, monkeypatch):
    project = git_project.new(tmp_path / "project")
    git_project.commit(project, a="1")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own tests make a foreign checkout like this
    with pytest.raises(CommitError, match=r"git says: fatal: detected dubious ownership .*safe\.directory"):
        worktrees.resolve(project, "HEAD")
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    with pytest.raises(CommitError, match=r"git says: fatal: not a git repository"):
        worktrees.resolve(tmp_path, "HEAD")


def test_a_build_that_leaves_a_process_ends_and_the_process_is_killed(tmp_path):
    command = "sh -c 'sleep 60 & echo $! > pid'"  # it keeps the standard output of the build open
    began = time.monotonic()
    worktrees.build(tmp_path, "0" * 40, [command], os.environ)
    assert time.monotonic() - began < 30
    left = [process for process in psutil.process_iter() if process.pid == int((tmp_path / "pid").read_text())]
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in left)
