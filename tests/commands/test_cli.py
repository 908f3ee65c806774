"""The ``harness`` command: its output, its exit codes, and how fast its help is."""

import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook
from typer.main import get_command
from typer.testing import CliRunner

import harness.commands
from harness.commands.app import app
from harness.core import registry
from harness.core.store import load

SUITE = """
import pytest
pytest_plugins = ["harness.pytest_plugin"]

@pytest.mark.operation
def test_operation(case):
    pass
"""


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_shows_what_runs_and_why_the_rest_does_not():
    found = call("list", "--why")
    assert found.exit_code == 0
    assert "sdpa_cudnn, forward: torch's cudnn backend runs on CUDA, not on cpu" in found.stdout
    row = next(line for line in found.stdout.splitlines() if line.strip().startswith("softmax"))
    assert row.split()[1:3] == ["yes", "yes"]


def test_list_refuses_what_is_no_device():
    found = call("list", "--device", "gpu")
    assert found.exit_code == 2
    assert found.stderr == "error: --device must be a torch device such as cpu or cuda, got 'gpu'\n"


def test_list_survives_a_plugin_that_exits():
    class Exits(type(registry.get("softmax"))):
        name = "exits"

        def unsupported(self, spec):
            raise SystemExit("bye")

    registry.add(Exits())
    try:
        found = call("list", "--why")
    finally:
        registry.remove("exits")
    assert found.exit_code == 0
    assert "exits, forward: its `unsupported` raises: raised SystemExit" in found.stdout


def test_pytest_does_not_warn_that_the_packages_are_imported_already(pytestconfig):
    """``harness run`` starts pytest after it has imported them, and pytest rewrites the packages of its plugins."""
    AssertionRewritingHook(pytestconfig).mark_rewrite("harness", "yoso")


def test_doctor_shows_the_versions_and_the_kernels():
    found = call("doctor")
    assert found.exit_code == 0
    for word in ("torch", "c++", "ninja", "nvcc", "yoso kernels"):
        assert word in found.stdout


def test_a_run_of_a_users_suite_can_be_reported(tmp_path):
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "conftest.py").write_text('pytest_plugins = ["harness.pytest_plugin"]')
    (tmp_path / "suites" / "test_mine.py").write_text(SUITE.replace('pytest_plugins = ["harness.pytest_plugin"]', ""))
    command = [sys.executable, "-c", "from harness.commands.app import app; app()"]
    options = ["--attention", "sdpa,softmax", "--seq-len", "32", "--seq-len", "64", "-o", "out/run.json"]
    done = subprocess.run([*command, "run", *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 cases\nall operation cases: " in done.stdout
    assert "8/8 operation softmax n64 fwdbwd: " in done.stdout
    assert "for the report: harness report out/run.json\n" in done.stdout
    run = load(tmp_path / "out" / "run.json")
    assert len(run.records) == 8
    done = call("report", tmp_path / "out" / "run.json", "-o", tmp_path / "report.html")
    assert done.exit_code == 0
    assert "sdpa" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--dtype", "int8"], "unknown dtype 'int8'; known: float32"),
        (["report", "nope.json"], "nope.json: cannot read it"),
        (["run", "no-such-suite"], "error: no-such-suite does not exist"),
        (["run", "--inputs", "nope.safetensors"], "nope.safetensors: expected a safetensors file, got No such file"),
    ],
)
def test_a_wrong_argument_ends_with_one_line_and_exit_code_2(arguments, words):
    found = call(*arguments)
    assert found.exit_code == 2
    assert words in " ".join(found.stderr.split())


def test_help_and_import_load_no_torch():
    code = "import sys, harness, harness.commands.app; assert not {'torch', 'pytest', 'rich.table'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_command_module_adds_its_command():
    files = Path(harness.commands.__path__[0]).glob("*_command.py")
    assert {path.stem.removesuffix("_command") for path in files} == set(get_command(app).commands)
