"""The ``harness`` command: its output, its exit codes, and how fast its help is."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import synthetic
from _pytest.assertion.rewrite import AssertionRewritingHook
from typer.main import get_command
from typer.testing import CliRunner

import harness.commands
from harness.commands.app import app
from harness.core import registry
from harness.core.store import load
from harness.pytest_plugin.options import options

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
    assert found.stderr == "error: --device must be cpu or cuda, or cuda: and a number, got 'gpu'\n"


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
    options = ["--attention", "sdpa,softmax", "--only", "--seq-len", "32", "--seq-len", "64", "-o", "out/run.json"]
    done = subprocess.run([*command, "run", *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 cases\nall operation cases: " in done.stdout
    assert "8/8 operation softmax n64 fwdbwd: " in done.stdout
    assert done.stdout.endswith("report: out/run.html\n")
    assert {path.name for path in tmp_path.iterdir()} == {"suites", "out"}, "no .benchmarks, no .pytest_cache"
    assert "softmax" in (tmp_path / "out" / "run.html").read_text()
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
        (["run", "no-such-suite"], "ERROR: file or directory not found: no-such-suite"),
        (["run", "--heads", "0"], "ERROR: --heads must be a whole number of 1 or more, got '0'"),
        (["run", "--batch", "x"], "ERROR: --batch must be a whole number of 1 or more, got 'x'"),
        (["run", "--rounds", "2", "--worker"], "ERROR: --rounds 2 times each case in so many processes, and --worker"),
        (
            ["run", "--padding", "1.5"],
            "ERROR: --padding must be a fraction of each sequence from 0 to below 1, such as",
        ),
        (["run", "--inputs", "nope"], "ERROR: --inputs must be matched, clustered, normal or recorded, or a .safe"),
        (["run", "-k", "no_such_case"], "ERROR: no case is left: -k, -m or --deselect leaves none of the "),
        (
            ["run", "suites/test_models.py", "--attention", "linear"],
            "ERROR: --attention: nothing to measure of linear: none of the collected suites has a case of it alone in "
            "profile 'quick'; --all adds models and tasks",
        ),
        (["run", "--device", "mps"], "ERROR: --device must be cpu or cuda, or cuda: and a number, got 'mps'"),
        (["run", "-o", "run.html"], "error: --out must be a file that ends in .json, got run.html; the report is"),
        (["run", "--benchmark-json=a.json"], "error: --benchmark-json is what harness run writes to --out; leave it"),
        (["run", "-o", __file__ + "/a.json"], "test_cli.py/a.json: " + __file__ + " is no folder; choose another path"),
        (["run", "-k", "sdpa and n512 and fp32", "-m", "operation", "--benchmark-skip"], "--benchmark-skip, --benchm"),
        (
            ["run", "-m", "quality", "--benchmark-save=a", "--benchmark-storage=/proc/none"],
            "ERROR: --benchmark-storage must be a folder that can be written, got /proc/none: No such file",
        ),
        (["run", "--lf"], "error: --lf needs pytest's cache, which harness run does not keep: choose cases by -k, "),
        (["run", "--inputs", "nope.safetensors"], "nope.safetensors: expected a safetensors file, got No such file"),
    ],
)
def test_a_wrong_argument_ends_with_one_line_and_exit_code_2(arguments, words):
    found = call(*arguments)
    assert found.exit_code == 2
    assert words in " ".join(found.stderr.split())


def test_the_help_of_run_has_the_options_that_pytest_knows_with_their_units(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = call("run", "--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for option in options():
        assert (f"{option.flag} " in text) == option.in_run
    for words in ("--seq-len Sequence lengths in tokens", "TOKENS", "--case-timeout", "SECONDS", "Default: quick."):
        assert words in text


def test_run_passes_every_option_on_to_pytest(monkeypatch):
    passed = []
    monkeypatch.setattr(pytest, "main", lambda arguments, plugins: passed.append(arguments) or 0)
    given = ["suites", "-k", "yoso and fwd", "--heads", "12", "--resume", "a.jsonl", "-x", "--benchmark-save=mine"]
    assert call("run", *given, "-o", "out.json").exit_code == 0
    (arguments,) = passed
    assert arguments[-len(given) :] == given
    assert "--benchmark-json=out.json" in arguments
    again = "harness run suites -k 'yoso and fwd' --heads 12 -x --benchmark-save=mine --out=out.json"
    assert f"--harness-progress={again}" in arguments


def test_a_run_writes_its_page_unless_the_user_wants_none_or_there_is_no_new_json(monkeypatch, tmp_path):
    out = tmp_path / "run.json"

    def measured(arguments, plugins):
        out.write_text(json.dumps({"harness": synthetic.run([]).model_dump(mode="json")}))
        return 0

    monkeypatch.setattr(pytest, "main", measured)
    assert call("run", "--no-page", "-o", out).stdout == f"for the report: harness report {out}\n"
    assert not out.with_suffix(".html").exists()
    assert call("run", "-o", out).stdout == f"report: {out.with_suffix('.html')}\n"
    assert out.with_suffix(".html").exists()
    monkeypatch.setattr(pytest, "main", lambda arguments, plugins: 4)
    failed = call("run", "-o", out)
    assert (failed.exit_code, failed.stdout) == (2, "")


def test_the_version_is_that_of_the_installed_package():
    assert call("--version").stdout.strip() == version("yoso-harness")


def test_help_and_import_load_no_torch():
    code = "import sys, harness, harness.commands.app; assert not {'torch', 'pytest', 'rich.table'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_command_module_adds_its_command():
    files = Path(harness.commands.__path__[0]).glob("*_command.py")
    assert {path.stem.removesuffix("_command") for path in files} == set(get_command(app).commands)
