"""Options and output that several subcommands have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness.commands.error_boundary import FAILED, MeasuredRegression, message
from harness.core.writable import try_to_write

if TYPE_CHECKING:
    from rich.table import Table

    from harness.gate.judge.judgement import Judgement

Device = Annotated[str, typer.Option(help="Torch device, for example cpu, cuda or cuda:1.")]
SuiteOptions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="-- [SUITE OPTIONS]",
        help="Options for pytest: suites, --profile, --attention, -k and others. Default: suite_options in "
        "tool.harness.gate of pyproject.toml, else the folder suites here.",
    ),
]
CasePattern = Annotated[str, typer.Option(help="Only cases whose id matches this shell pattern.")]
Reading = Annotated[Path | None, typer.Option(help="Text file with paragraphs about the run, shown on its page.")]
Markdown = Annotated[Path | None, typer.Option(help="Write the verdicts to this file, as a Markdown comment.")]
Junit = Annotated[Path | None, typer.Option(help="Write the verdicts to this file, as JUnit XML.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the verdicts with all figures to this file, as JSON.")]

ReportPlace = Annotated[
    str | None,
    typer.Option("--report", help="Link or path of the report, which the output then names beside the verdicts."),
]


def default_suites() -> tuple[str, ...]:
    """pytest's arguments where no suites are named: the folder ``suites`` here, or else the suites of the harness."""
    from harness.gate.commits.project_suites import shipped_suites

    if Path("suites").is_dir():
        return ("suites",)
    folder = shipped_suites()
    # By its name, pytest does not take the folder of an installed package for the one where the project begins.
    return ("--pyargs", f"harness.{folder.name}") if folder.parent == Path(__file__).parents[1] else (str(folder),)


def print_error(message: str) -> None:
    """Print a message to standard error."""
    typer.echo(f"error: {message}", err=True)


def new_table(*columns: str) -> "Table":
    """A table for the terminal."""
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD)


def print_table(table: "Table") -> None:
    """Print a table to standard output."""
    from rich.console import Console

    Console().print(table)


def require_writable(*paths: Path | None) -> None:
    """Refuse paths of files that cannot be written, before minutes of measurements; None is no path.

    Raises:
        OSError: the first that cannot be written. Files that exist keep their content.
    """
    for path in filter(None, paths):
        try_to_write(path)


def end_with_judgement(
    judgement: "Judgement",
    markdown: Path | None,
    junit: Path | None,
    json: Path | None,
    unsaved: Sequence[OSError] = (),
    cause: Exception | None = None,
) -> NoReturn:
    """Print the verdicts, write each file whose path is not None, and end the command with the judgement's exit code.

    All files are written even if one of them, or the terminal, cannot be: then the exit code is 2. So it is if
    ``unsaved`` has an error of a file that should have been written before. ``cause`` is why nothing was judged.
    """
    from harness.gate.judge import outputs

    failures = [*unsaved]
    try:
        outputs.print_judgement(judgement)
    except OSError as error:
        failures.append(error)
    for path, to_text in ((markdown, outputs.markdown), (junit, outputs.junit), (json, outputs.as_json)):
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(to_text(judgement), encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                failures.append(error)
    if cause is not None:
        print_error(message(cause))
    for failure in failures:
        print_error(f"cannot be written: {message(failure)}")
    if failures or judgement.exit_code not in (0, 1):
        raise typer.Exit(FAILED) from cause
    if judgement.exit_code == 1:
        raise MeasuredRegression
    raise typer.Exit(0)
