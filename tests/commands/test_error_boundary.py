"""Whatever a command raises becomes one line and exit code 2; exit code 1 is a measured regression and nothing else."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from harness.commands.app import app
from harness.commands.error_boundary import CommandGroup, MeasuredRegression

RAISED = [
    KeyError("missing"), RecursionError("maximum recursion depth exceeded"), MemoryError(), OverflowError("too large"),
    UnicodeEncodeError("ascii", "\ud800", 0, 1, "surrogates"), BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.ENOSPC, "No space left on device", "out/gate.json"), ValueError("two\nlines"), AssertionError(),
    SystemExit("a message"), SystemExit(1), SystemExit(7), typer.Exit(1), typer.Exit(3), typer.Abort(),
    GeneratorExit(), BaseException("base"), ExceptionGroup("several", [KeyError("x")]),
]  # fmt: skip


def commands(error):
    """A command that raises this."""
    made = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)

    @made.command()
    def broken(number: int = 0) -> None:
        raise error

    @made.command()
    def other() -> None:
        pass

    return made


def call(error, *arguments):
    return CliRunner().invoke(commands(error), [*arguments])


@pytest.mark.parametrize("error", RAISED, ids=lambda error: f"{type(error).__name__}-{error}")
def test_whatever_is_raised_is_at_most_one_line_and_exit_code_2(error):
    done = call(error, "broken")
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert len(done.stderr.splitlines()) <= 1
    if not isinstance(error, SystemExit | typer.Exit | typer.Abort):
        assert done.stderr.startswith("error: ")


def test_the_line_names_a_file_or_the_kind_of_an_unexpected_error():
    assert call(RAISED[6], "broken").stderr == "error: out/gate.json: No space left on device\n"
    assert call(KeyError("missing"), "broken").stderr == (
        "error: KeyError: 'missing' (unexpected; --debug shows the traceback)\n"
    )
    assert call(ValueError("two\nlines"), "broken").stderr == "error: two lines\n"


@pytest.mark.parametrize("arguments", [("--debug", "broken"), ("broken", "--debug")])
def test_debug_shows_the_traceback(arguments):
    done = call(KeyError("missing"), *arguments)
    assert done.exit_code == 2
    assert "Traceback" in done.stderr
    assert "raise error" in done.stderr


def test_only_a_measured_regression_ends_with_1_and_only_the_user_with_130():
    assert call(MeasuredRegression(), "broken").exit_code == 1
    assert call(KeyboardInterrupt(), "broken").exit_code == 130
    assert call(typer.Exit(0), "broken").exit_code == 0


@pytest.mark.parametrize("arguments", [("--nope",), ("broken", "--number", "x"), ("broken", "more"), ("unknown",)])
def test_a_usage_error_reads_as_one(arguments):
    done = call(None, *arguments)
    assert done.exit_code == 2
    assert "Usage" in done.stderr


@pytest.mark.parametrize("command", ["gate", "report", "publish", "run", "history add", "history plot --store"])
def test_every_command_refuses_a_missing_file_with_one_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = ["nope.json"] * (2 if command == "gate" else 1)
    done = CliRunner().invoke(app, [*command.split(), *missing])
    assert done.exit_code == 2
    assert "nope.json" in done.output
    assert "unexpected" not in done.output


@pytest.mark.parametrize(("interrupted", "code"), [(True, 130), (False, 2)])
def test_an_interrupted_run_ends_with_130_and_one_that_cannot_be_collected_with_2(
    tmp_path, monkeypatch, interrupted, code
):
    def main(arguments, plugins):
        if interrupted:
            (watch,) = plugins
            watch.pytest_keyboard_interrupt(SimpleNamespace(value=KeyboardInterrupt()))
        return pytest.ExitCode.INTERRUPTED

    monkeypatch.setattr(pytest, "main", main)
    assert CliRunner().invoke(app, ["run", str(tmp_path), "--out", str(tmp_path / "o.json")]).exit_code == code


@pytest.mark.parametrize("code", [code for code in pytest.ExitCode if code])
def test_a_run_never_ends_with_1(tmp_path, monkeypatch, code):
    monkeypatch.setattr(pytest, "main", lambda arguments, plugins: code)
    assert CliRunner().invoke(app, ["run", str(tmp_path), "--out", str(tmp_path / "o.json")]).exit_code == 2


def test_output_that_cannot_be_written_or_encoded_is_exit_code_2_and_no_traceback(tmp_path):
    """In a real process, because Python flushes standard output once more at its end."""
    script = (
        "import typer\nfrom harness.commands.error_boundary import CommandGroup\n"
        "app = typer.Typer(cls=CommandGroup)\n"
        "@app.command()\ndef a():\n    print('\\u00b7 \\ud800')\n@app.command()\ndef b(): pass\napp(['a'])\n"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout) == (0, "\\xb7 \\ud800\n")
