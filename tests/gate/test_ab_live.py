"""``harness ab`` on commits of a small project: one real comparison, and commits that cannot be compared."""

import json
import os
from pathlib import Path

import git_project
import pytest
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.store import load

ROOT = Path(__file__).parents[2]

PLANTED = """
import torch
from harness import AttentionPlugin

EXTRA = {extra}

class Planted(AttentionPlugin):
    name = "planted"
    summary = "softmax attention that may waste time and memory"
    source = "this test"

    def build(self, spec):
        return Module()

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        return torch.softmax(q[..., rows, :] @ k.mT / q.shape[-1] ** 0.5, -1) @ v

class Module(torch.nn.Module):
    def forward(self, q, k, v, key_padding_mask):
        wasted = torch.zeros(EXTRA)
        out = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v
        for _ in range(EXTRA // 50000):
            out = out + 0 * (q @ k.mT).sum()
        return out
"""
SUITE = """
import pytest
from harness.core.spec import OperationSpec

pytest_plugins = ["harness.pytest_plugin"]

def specs(selection):
    return [OperationSpec(attention="planted", seq_len=n, heads=2) for n in (128, 256)]

@pytest.mark.operation(specs=specs)
def test_operation(case):
    assert case.record.timing is not None
"""
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "planted-attention"
version = "1"
[project.entry-points."harness.attentions"]
planted = "planted:Planted"
[tool.setuptools]
py-modules = ["planted"]
[tool.harness.gate]
build = ["{python} -m py_compile planted.py", "{python} -c 'from setuptools import setup; setup()' -q egg_info"]
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    cores = os.sched_getaffinity(0)
    folder = git_project.new(tmp_path / "project")
    monkeypatch.chdir(folder)
    git_project.commit(
        folder, planted_dot_py=PLANTED.format(extra=1), suites__test_mine_dot_py=SUITE, pyproject_dot_toml=PROJECT,
        _dot_gitignore="__pycache__\n*.egg-info\nout\n",
    )  # fmt: skip
    yield folder
    os.sched_setaffinity(0, cores)
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def call(*arguments):
    return CliRunner().invoke(app, ["ab", *arguments])


@pytest.mark.alone
def test_a_planted_regression_is_found_and_a_renamed_suite_is_followed(repository):
    git_project.git(repository, "mv", "suites/test_mine.py", "suites/test_renamed.py")
    git_project.commit(repository, planted_dot_py=PLANTED.format(extra=200000))
    options = ("--out", "out/ab", "--minutes", "1", "--markdown", "out/gate.md")
    done = call("HEAD~1", "HEAD", *options, "--", "suites/test_renamed.py")
    assert done.exit_code == 1, done.output
    words = (repository / "out" / "gate.md").read_text()
    for verdict in ("SLOWER", "LARGER", "MORE"):
        assert words.count(f"regression: {verdict}") == 2  # cases
    assert words.count("<br>operators ") == 2
    head = load(repository / "out" / "ab" / "head.json")
    assert head.commit == git_project.git(repository, "rev-parse", "HEAD")
    assert {record.spec.attention for record in head.records} == {"planted"}
    assert len(git_project.git(repository, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("HEAD", "HEAD~1"), "does not build"),
        (("nope", "HEAD"), "commit 'nope' is not in this repository"),
        (("HEAD~1", "HEAD~1", "--", "no-suites"), "cannot collect its suites"),
        (("HEAD~1", "HEAD~1", "--case", "nothing/*"), "neither commit has a case that fits"),
    ],
)
def test_commits_that_cannot_be_compared_are_named_and_do_not_pass(repository, arguments, words):
    git_project.commit(repository, planted_dot_py="this is no Python")
    options = ("--json", "out/found.json")
    done = call(*arguments[:2], *options, *arguments[2:])
    assert done.exit_code == 2, done.output
    (finding,) = json.loads((repository / "out" / "found.json").read_text())["findings"]
    assert finding["verdict"] == "INVALID"
    assert words in finding["reason"]
    assert len(git_project.git(repository, "worktree", "list").splitlines()) == 1
