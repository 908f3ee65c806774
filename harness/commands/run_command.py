"""``harness run``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.error_boundary import FAILED, INTERRUPTED
from harness.commands.options_and_output import Device, default_suites

if TYPE_CHECKING:
    import pytest

OUTPUT_OPTIONS = ("-q", "--tb=short", "-rN", "-o", "console_output_style=classic")
"""pytest's own lines and list of failures are left out: ``RunProgress`` prints a line per case instead."""


def run(
    suites: Annotated[
        list[Path] | None,
        typer.Argument(help="Suite files or folders. Default: the folder suites here, or else the harness's own."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Benchmark JSON to write.")] = Path("run.json"),
    profile: Annotated[str, typer.Option(help="Which cases run: quick, standard, full, gpu or paper.")] = "quick",
    device: Device = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="Dtype: float32, bfloat16 or float16. Default: the profile's.")
    ] = None,
    seq_len: Annotated[
        list[str] | None,
        typer.Option(help="Sequence lengths, comma-separated; the option may be repeated. Default: the profile's."),
    ] = None,
    attention: Annotated[
        list[str] | None,
        typer.Option(help="Attentions, comma-separated; the option may be repeated. Default: the profile's."),
    ] = None,
    keyword: Annotated[
        str | None, typer.Option("-k", help="Only tests that match this expression, as pytest's -k.")
    ] = None,
    isolate: Annotated[bool, typer.Option("--isolate", help="Run every case in a fresh process.")] = False,
    worker: Annotated[bool, typer.Option("--worker", help="Run all cases in one other process.")] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run all cases in this process instead of one process per attention.")
    ] = False,
    case_timeout: Annotated[float | None, typer.Option(help="Stop a case after this many seconds.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue an interrupted run from its log; finished cases are kept.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the real data sets of the tasks, see docs/tasks.md.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="A .safetensors file with query, key and value, [B, H, N, D] each: errors are measured on these "
            "in place of RXNMapper's, see docs/errors.md."
        ),
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Save trainings in this folder, and continue those that were interrupted.")
    ] = None,
) -> None:
    """Run the suites with pytest, print one line per case, and write the JSON.

    Exit code: 0 every case has a result or cannot run here, 2 a case failed or the run ended early, 130 interrupted.
    """
    import pytest

    for path in suites or ():
        if not path.exists():
            raise ValueError(
                f"{path} does not exist: name files or folders with suites, or none to run the harness's own"
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    options = [f"--profile={profile}", f"--device={device}"]
    options += [f"--dtype={dtype}"] if dtype else []
    options += [f"--seq-len={length}" for length in seq_len or []]
    options += [f"--attention={name}" for name in attention or []]
    options += ["-k", keyword] if keyword else []
    options += ["--isolate"] if isolate else []
    options += ["--worker"] if worker else []
    options += ["--in-process"] if in_process else []
    options += [f"--case-timeout={case_timeout}"] if case_timeout is not None else []
    options += [f"--data-dir={data_dir}"] if data_dir else []
    options += [f"--inputs={inputs}"] if inputs else []
    options += [f"--checkpoints={checkpoints}"] if checkpoints else []
    arguments = [*map(str, suites or default_suites()), *OUTPUT_OPTIONS, f"--benchmark-json={out}", *options]
    arguments += [f"--resume={resume}"] if resume else []
    again = shlex.join(["harness", "run", *map(str, suites or ()), f"--out={out}", *options])
    arguments += [f"--harness-progress={again}"]
    watch = _InterruptWatch()
    code = pytest.main(arguments, plugins=[watch])
    raise typer.Exit(INTERRUPTED if watch.interrupted else FAILED if code else 0)


class _InterruptWatch:
    """A plugin of pytest that tells an interrupted run from one that could not be collected: both have exit code 2."""

    interrupted = False

    def pytest_keyboard_interrupt(self, excinfo: "pytest.ExceptionInfo[BaseException]") -> None:
        self.interrupted = isinstance(excinfo.value, KeyboardInterrupt)


def add_to(app: typer.Typer) -> None:
    """Add ``harness run``."""
    app.command()(run)
