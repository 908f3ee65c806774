"""``harness init`` in the repository of an attention of one's own: what it writes, keeps and refuses."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import git_project
import pytest
from typer.testing import CliRunner

from harness.commands import init_command
from harness.commands.app import app
from harness.gate.commits import project_suites
from harness.gate.judge.thresholds import SettingsError

ROOT = Path(__file__).parents[2]
EGG_INFO = "{python} -c 'from setuptools import setup; setup(packages=[])' -q egg_info"
SEARCHING = EGG_INFO.replace("packages=[]", "")
ENTRY = '[project.entry-points."harness.attentions"]\nsigmoid = "sigmoid_attention:Sigmoid"\n'
PROJECT = f'[project]\nname = "mine"\nversion = "1"\n{ENTRY}'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The example's files in a git repository of their own, which is the current folder."""
    folder = git_project.new(tmp_path / "package")
    for name in ("pyproject.toml", "sigmoid_attention.py"):
        shutil.copy(ROOT / "examples" / "attention_package" / name, folder)
    monkeypatch.chdir(folder)
    return folder


def init(*arguments):
    return CliRunner().invoke(app, ["init", *arguments])


def gate_table(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["harness"]["gate"]


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts[:1])
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_it_writes_the_table_and_the_workflow_and_a_second_run_changes_nothing(package):
    git_project.git(package, "remote", "add", "origin", "git@github.com:me/gitlab-like.git")
    before = (package / "pyproject.toml").read_text()
    done = init()
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[:3] == [
        "changed: pyproject.toml: suite_options and build in [tool.harness.gate]",
        "written: .github/actions/harness-gate/action.yml",
        "written: .github/workflows/harness-gate.yml",
    ]
    assert done.stdout.splitlines()[3].startswith("next: git add -A && git commit -m ")
    assert (package / "pyproject.toml").read_text().startswith(before)
    assert gate_table(package)["build"] == [EGG_INFO]
    workflow = (package / ".github" / "workflows" / "harness-gate.yml").read_text()
    assert "pip uninstall --quiet --yes sigmoid-attention\n" in workflow
    written = files(package)
    again = init()
    assert "unchanged: pyproject.toml\n" in again.stdout
    assert again.stdout.splitlines()[3] == "nothing was changed"
    assert again.stdout.splitlines()[4].startswith("next: harness ab HEAD HEAD")
    assert files(package) == written


def test_gitlabs_own_file_is_never_replaced_and_the_line_to_add_is_said(package):
    assert init("--ci", "gitlab").exit_code == 0
    main = package / ".gitlab-ci.yml"
    assert main.read_text() == "include:\n  - local: .gitlab/harness-gate.yml\n"
    assert "unchanged: .gitlab-ci.yml" in init().stdout  # it is also guessed from the file
    main.write_text("test:\n  script: [make]\n")
    for options in ((), ("--force",)):
        assert "left: .gitlab-ci.yml: add to its include: local: .gitlab/harness-gate.yml" in init(*options).stdout
    assert main.read_text() == "test:\n  script: [make]\n"


def test_a_file_that_differs_is_left_and_force_replaces_it(package):
    workflow = package / ".github" / "workflows" / "harness-gate.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text("mine")
    done = init()
    assert "left: .github/workflows/harness-gate.yml: it differs; --force replaces it" in done.stdout
    assert done.exit_code == 0
    assert workflow.read_text() == "mine"
    assert "changed: .github/workflows/harness-gate.yml" in init("--force").stdout
    assert workflow.read_text().startswith("# For a pull request")


def test_without_a_known_server_no_file_of_one_is_written(package):
    done = init()
    assert "skipped: files for CI: neither the files nor the remote of this repository name one; --ci" in done.stdout
    assert {*files(package)} == {"pyproject.toml", "sigmoid_attention.py"}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_table_that_exists_keeps_its_thresholds_and_comments(package, ending):
    table = '[tool.harness.gate] # ours\ntime = { floor = 0.1 } # slow machine\nbuild = [\n  "make]" # a bracket\n]\n'
    end = "[tool.other]\nbuild = 1"
    text = f"{PROJECT}{table}{end}".replace("\n", ending).encode()
    path = package / "pyproject.toml"
    path.write_bytes(text)
    done = init("--ci", "none")
    assert done.stdout.splitlines()[:2] == [
        "changed: pyproject.toml: suite_options in [tool.harness.gate]",
        "left: pyproject.toml: its build in [tool.harness.gate] differs; --force replaces it",
    ]
    assert gate_table(package)["build"] == ["make]"]
    assert init("--ci", "none", "--force").exit_code == 0
    assert gate_table(package)["build"] == [EGG_INFO]
    assert gate_table(package)["time"] == {"floor": 0.1}
    after = path.read_bytes().decode()
    assert after.endswith(end.replace("\n", ending))
    assert "[tool.harness.gate] # ours" in after
    assert "time = { floor = 0.1 } # slow machine" in after
    assert after.count("\n") == after.count(ending)
    assert "unchanged: pyproject.toml" in init("--ci", "none").stdout


def test_a_file_that_ends_in_the_tables_header_without_a_line_break(package):
    (package / "pyproject.toml").write_text(f"{PROJECT}[tool.harness.gate]")
    assert init().exit_code == 0
    assert set(gate_table(package)) == {"suite_options", "build"}


@pytest.mark.parametrize(
    ("text", "module", "build"),
    [
        (PROJECT, "src/sigmoid_attention.py", [SEARCHING, "copytree"]),
        (PROJECT, "src/sigmoid_attention/__init__.py", [SEARCHING, "copytree"]),
        (PROJECT + '[tool.setuptools.package-dir]\n"" = "lib"', "lib/sigmoid_attention.py", [SEARCHING, '("lib"']),
        (
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n' + PROJECT,
            "src/sigmoid_attention.py",
            [EGG_INFO, "copytree"],
        ),
        (PROJECT, "setup.py", ["{python} setup.py -q egg_info", "{python} setup.py -q build_ext --inplace"]),
    ],
    ids=["src module", "src package", "named folder", "hatchling", "setup.py"],
)
def test_the_build_fits_the_layout_of_the_project(package, text, module, build):
    (package / "pyproject.toml").write_text(text)
    if module != "setup.py":
        (package / "sigmoid_attention.py").unlink()
    (package / module).parent.mkdir(parents=True, exist_ok=True)
    (package / module).touch()
    assert init().exit_code == 0
    written = gate_table(package)["build"]
    assert len(written) == len(build)
    assert all(words in command for words, command in zip(build, written, strict=True))


def test_a_table_that_has_only_patterns_of_cases_is_completed(package):
    (package / "pyproject.toml").write_text(
        PROJECT + '[[tool.harness.gate.cases]]\npattern = "model/*"\ntime = false\n'
    )
    assert init().exit_code == 0
    assert set(gate_table(package)) == {"suite_options", "build", "cases"}


def test_a_project_with_suites_of_its_own_keeps_them(package):
    (package / "suites").mkdir()
    assert init().exit_code == 0
    assert set(gate_table(package)) == {"build"}
    assert project_suites.arguments(package, ()) == ("suites",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "expected this file, found none; run harness init in the folder of your package"),
        ("[project", "not TOML"),
        ("[project]\nname = 'mine'", "expected the entry point of your attention, found none; add [project.entry-po"),
        (PROJECT.replace(":Sigmoid", ""), "expected in [project.entry-points.\"harness.attentions\"] \"module:obj"),
        (PROJECT.replace("sigmoid_attention:", "absent:"), "expected absent.py or a folder absent here or in src"),
        (PROJECT.replace('name = "mine"', 'name = "a;b"'), "expected the name of the package as project.name, got"),
        (PROJECT + "[tool]\nharness = { gate = { time = false } }", "found it written in another way, which"),
        (PROJECT + "[tool.harness.gate]\nspeed = 1", "tool.harness.gate.speed"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line_and_nothing_is_written(package, text, words):
    path = package / "pyproject.toml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    before = files(package)
    done = init("--ci", "github")
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert words in line
    assert "pyproject.toml" in line
    assert files(package) == before


def test_a_folder_outside_a_repository_and_one_that_cannot_be_written_are_named(package, tmp_path, monkeypatch):
    (package / ".github").write_text("a file")
    before = files(package)
    done = init("--ci", "github")
    assert (done.exit_code, done.stdout) == (2, "")
    assert ".github is not a folder; move it away" in done.stderr
    assert files(package) == before
    monkeypatch.setattr(init_command.os, "access", lambda path, mode: False)
    done = init("--ci", "none")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "pyproject.toml is read-only for you; nothing was written" in done.stderr
    inner = package / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text(PROJECT)
    (inner / "sigmoid_attention.py").touch()
    monkeypatch.chdir(inner)
    assert "expected to be at the root of the git repository" in init("--ci", "gitlab").stderr
    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.chdir(outside)
    done = init()
    assert done.exit_code == 2
    assert "expected a git repository, because harness ab compares its commits" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_words_in_braces_are_the_suites_that_ship_and_the_attentions_of_the_checkout(package):
    words = project_suites.expanded(["{suites}/test_attention.py", "--attention={attentions}"], package, "HEAD")
    assert Path(words[0]).is_file()
    assert words[1] == "--attention=sigmoid"
    (package / "pyproject.toml").write_text(PROJECT.replace(ENTRY, ""))
    with pytest.raises(SettingsError, match=r"^commit HEAD: expected an attention in .*compare commits that have one"):
        project_suites.expanded(["--attention={attentions}"], package, "HEAD")
    assert project_suites.expanded(["suites"], package, "HEAD") == ["suites"]


def test_without_it_ab_says_in_one_line_that_it_writes_what_is_missing(package):
    git_project.commit(package)
    done = CliRunner().invoke(app, ["ab", "HEAD", "HEAD"])
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        f"error: {package}/pyproject.toml: expected suite_options in [tool.harness.gate], which say what is measured "
        "of sigmoid, or a folder suites beside it, found neither; harness init writes what is missing"
    ]
    (package / "pyproject.toml").unlink()
    for command in (["ab", "HEAD", "HEAD"], ["bisect", "a case", "HEAD", "HEAD"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2
        assert done.stderr.splitlines() == [
            f"error: {package}: no attention is registered by this repository, and it has no folder suites; run "
            "harness init, or name suites behind --"
        ]


@pytest.mark.parametrize(
    ("command", "words"), [("init", "writes the table tool.harness.gate"), ("ab", "suite_options in")]
)
def test_the_help_names_the_table(command, words):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300"}).output
    text = " ".join(shown.replace("│", " ").split())
    assert words in text
    assert "tool.harness.gate" in text


@pytest.mark.alone
def test_a_commit_of_a_new_package_passes_against_itself_without_another_edit(package):
    """Only its errors are measured here: they are equal in every run, and a time may be inconclusive beside tests."""
    harness = [sys.executable, "-c", "from harness.commands.app import app; app()"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    git_project.commit(package)  # a commit before `harness init` can be compared, too
    for arguments in (["init", "--ci", "github"], ["ab", "HEAD~1", "HEAD", "--case", "quality/*n256-*normal*"]):
        done = subprocess.run([*harness, *arguments], cwd=package, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        git_project.commit(package)
    assert "Pass: none of 1 case is worse" in done.stdout
