"""Paths that were renamed between two commits, and errors of git."""

import git_project
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
