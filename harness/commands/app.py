"""The ``harness`` command. Heavy imports are inside the commands, so that ``--help`` is quick."""

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.commands import gate_commands, report_command

app = typer.Typer(
    help="Compare attentions by speed, memory and accuracy.", no_args_is_help=True, pretty_exceptions_enable=False
)
gate_commands.add_to(app)
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1")]
LIST_LENGTH = 1024
"""The sequence length that ``list`` asks the plugins about."""


app.command()(report_command.report)
app.command()(report_command.publish)


@app.command("list")
def list_attentions(
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "float32",
    why: Annotated[bool, typer.Option("--why", help="print every reason why something does not run")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print docs/attentions.md instead")] = False,
) -> None:
    """Every attention, whether it runs on this device, and the matrix of what it can do."""
    from harness.core import registry
    from harness.profiles.selection import Selection

    if markdown:
        from harness.commands import catalogue

        typer.echo(catalogue.markdown(_or_exit(registry.get, name) for name in registry.names()), nl=False)
        return
    selection = _or_exit(Selection, device=device, dtype=dtype)
    table = _table("attention", "forward", "forward+backward", "what it is")
    plugins: list[Any] = []
    reasons: list[str] = []
    for name in registry.names():
        try:
            plugin = registry.get(name)
        except registry.RegistryError as error:
            table.add_row(name, "no", "no", "does not load")
            reasons.append(f"{name}: {error}")
            continue
        runs, its_reasons = _runs(plugin, selection)
        table.add_row(name, *runs, plugin.summary)
        reasons += its_reasons
        plugins.append(plugin)
    _print(table)
    matrix, its_reasons = _capabilities(plugins)
    for line in matrix:
        typer.echo(line)
    typer.echo()
    if why:
        for reason in reasons + its_reasons:
            typer.echo(reason)
    elif reasons:
        typer.echo("`harness list --why` prints the reason for every no")


@app.command()
def doctor() -> None:
    """What this machine has: hardware, versions, compilers, and whether the native kernels can be built."""
    import shutil

    from harness.measure import machine
    from yoso.build import jit

    table = _table("what", "found")
    for name, value in machine.fingerprint().items():
        table.add_row(name, "none" if value is None else str(value))
    for program in ("c++", "ninja", "nvcc"):
        table.add_row(program, shutil.which(program) or "not on PATH")
    for name, words in jit.status().items():
        table.add_row(f"yoso kernels: {name}", words)
    _print(table)


@app.command()
def run(
    suites: Annotated[list[Path] | None, typer.Argument(help="suite files or folders; default: suites")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="benchmark JSON to write")] = Path("run.json"),
    profile: Annotated[str, typer.Option(help="quick, standard, full, gpu or paper")] = "quick",
    device: Device = "cpu",
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; default: the profile's")] = None,
    seq_len: Annotated[list[str] | None, typer.Option(help="a comma list, or repeat the option")] = None,
    attention: Annotated[list[str] | None, typer.Option(help="a comma list, or repeat the option")] = None,
    keyword: Annotated[str | None, typer.Option("-k", help="as pytest's -k")] = None,
    isolate: Annotated[bool, typer.Option("--isolate", help="every case in a process of its own")] = False,
    case_timeout: Annotated[float | None, typer.Option(help="seconds a case; implies --isolate")] = None,
    resume: Annotated[Path | None, typer.Option(help="log of the same run, broken off: go on with it")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="folder of real data sets, see docs/tasks.md")] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="keep trainings in this folder, and resume them")] = None,
) -> None:
    """Run the suites with pytest, a line a case, and write the JSON."""
    import pytest

    paths = suites or [Path("suites")]
    for path in paths:
        if not path.exists():
            raise typer.BadParameter(f"{path} does not exist; run from the project's root or name your suites")
    out.parent.mkdir(parents=True, exist_ok=True)
    arguments = [*map(str, paths), "-v", f"--benchmark-json={out}", f"--profile={profile}", f"--device={device}"]
    arguments += [f"--dtype={dtype}"] if dtype else []
    arguments += [f"--seq-len={one}" for one in seq_len or []]
    arguments += [f"--attention={one}" for one in attention or []]
    arguments += ["-k", keyword] if keyword else []
    arguments += ["--isolate"] if isolate else []
    arguments += [f"--case-timeout={case_timeout}"] if case_timeout is not None else []
    arguments += [f"--resume={resume}"] if resume else []
    arguments += [f"--data-dir={data_dir}"] if data_dir else []
    arguments += [f"--checkpoints={checkpoints}"] if checkpoints else []
    raise typer.Exit(pytest.main(arguments))


def _runs(plugin: Any, selection: Any) -> tuple[list[str], list[str]]:
    """``yes`` or ``no`` a mode, and the reasons."""
    from harness.core.spec import OperationSpec

    runs, reasons = [], []
    for mode in ("forward", "forward_backward"):
        spec = OperationSpec(
            attention=plugin.name,
            seq_len=LIST_LENGTH,
            device=selection.device,
            dtype=selection.dtypes[0],
            mode=mode,
        )
        try:
            found = plugin.unsupported(spec)
        except Exception as error:  # somebody else's code: whatever it raises is the reason
            found = [f"its `unsupported` raises {type(error).__name__}: {error}"]
        runs.append("no" if found else "yes")
        reasons += [f"{plugin.name}, {mode}: {reason}" for reason in found]
    return runs, reasons


def _capabilities(plugins: list[Any]) -> tuple[list[str], list[str]]:
    """The lines of the matrix, and every reason for a no or a limit with the attentions that give it."""
    from harness.core.capabilities import HEADINGS
    from harness.pytest_plugin.terminal import aligned

    who: dict[tuple[str, str], list[str]] = {}
    for plugin in plugins:
        for name, heading in HEADINGS.items():
            if reason := plugin.capabilities.reason(name):
                who.setdefault((heading, reason), []).append(plugin.name)
    # Plain lines and no table: in a narrow terminal a table of so many columns loses its words.
    matrix = aligned(
        [["attention", *HEADINGS.values()], *([one.name, *one.capabilities.table_cells()] for one in plugins)]
    )
    return matrix, [f"{heading}: {reason} ({', '.join(names)})" for (heading, reason), names in sorted(who.items())]


def _or_exit(call: Any, *arguments: Any, **options: Any) -> Any:
    """The call's value; what it finds wrong with the user's words ends the command in one line."""
    try:
        return call(*arguments, **options)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD)


def _print(table: Any) -> None:
    from rich.console import Console

    Console().print(table)
