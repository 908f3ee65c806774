"""Git commands depend on their arguments and their folder, and not on where they were started."""

import os

import git_project
import pytest

from harness.core import git


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GIT_DIR", "{other}/.git"),
        ("GIT_WORK_TREE", "{other}"),
        ("GIT_INDEX_FILE", "{other}/.git/index"),
        ("GIT_OBJECT_DIRECTORY", "{other}/.git/objects"),
        ("GIT_COMMON_DIR", "{other}/.git"),
        ("GIT_NAMESPACE", "other"),
        ("GIT_CONFIG_PARAMETERS", "'core.bare=true'"),
        ("GIT_CONFIG_GLOBAL", "{other}/settings"),
        ("GIT_EXTERNAL_DIFF", "false"),
        ("GIT_LITERAL_PATHSPECS", "1"),
    ],
)
def test_variables_of_git_have_no_effect(name, value, tmp_path, monkeypatch):
    here, other = git_project.new(tmp_path / "here"), git_project.new(tmp_path / "other")
    commit = git_project.commit(here, a="1")
    git_project.commit(other, b="2")
    (other / "settings").write_text("[core]\nworktree = /nowhere\n")
    (here / "a").write_text("changed")
    monkeypatch.setenv(name, value.format(other=other))
    for env in (None, dict(os.environ)):
        assert git.run(here, "rev-parse", "HEAD", env=env).stdout.strip() == commit
        assert git.run(here, "status", "--porcelain", env=env).stdout.strip() == "M a"
        assert "+changed" in git.run(here, "diff", env=env).stdout


def test_the_harness_signs_its_commits_with_its_own_name_and_runs_no_hook(tmp_path, monkeypatch):
    here = git_project.new(tmp_path / "here")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    hook = here / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    git_project.git(here, "config", "commit.gpgSign", "true")
    git.output(here, "commit", "--allow-empty", "-m", "text")
    assert git.output(here, "log", "--format=%an %cn %G?") == "harness harness N"


def test_an_error_is_gits_own_words_in_one_line(tmp_path, monkeypatch):
    here = git_project.new(tmp_path / "here")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(git.GitError, match=r"fatal: detected dubious ownership .* safe.directory") as error:
        git.output(here, "status")
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(git.GitError, match="is not a folder"):
        git.run(tmp_path / "nowhere", "status")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(git.GitError, match="install git"):
        git.run(here, "status")


def test_git_does_not_wait_for_an_answer(tmp_path):
    here = git_project.new(tmp_path / "here")
    assert git.output(here, "hash-object", "--stdin") == git.output(here, "hash-object", "--stdin", stdin="")
    assert git.environment({"PATH": "x", "GIT_SSH_COMMAND": "ssh -i key"}).items() >= {
        "PATH": "x", "GIT_SSH_COMMAND": "ssh -i key", "GIT_TERMINAL_PROMPT": "0"
    }.items()  # fmt: skip
