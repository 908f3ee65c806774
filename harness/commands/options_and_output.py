"""Options and output that several subcommands have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from harness.gate.judge.judgement import Judgement

DEFAULT_SUITES = ("suites",)
Device = Annotated[str, typer.Option(help="Torch device, for example cpu, cuda or cuda:1.")]
SuiteOptions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="-- [SUITE OPTIONS]",
        help="Options for pytest: suites, --profile, --attention, -k and others. Default: the folder suites.",
    ),
]
CasePattern = Annotated[str, typer.Option(help="Only cases whose id matches this shell pattern.")]
Reading = Annotated[Path | None, typer.Option(help="Text file with paragraphs about the run, shown on its page.")]
Markdown = Annotated[Path | None, typer.Option(help="Write the verdicts to this file, as a Markdown comment.")]
Junit = Annotated[Path | None, typer.Option(help="Write the verdicts to this file, as JUnit XML.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the verdicts with all figures to this file, as JSON.")]


@contextmanager
def one_line_errors(*errors: type[Exception]) -> Iterator[None]:
    """End the command with a one-line message and exit code 2 if one of ``errors`` is raised."""
    try:
        yield
    except errors as error:
        print_error(str(error))
        raise typer.Exit(2) from error


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


def write_judgement(judgement: "Judgement", markdown: Path | None, junit: Path | None, json: Path | None) -> None:
    """Print the verdicts, and write each file whose path is not None."""
    from harness.gate.judge import outputs

    outputs.print_table(judgement)
    for path, to_text in ((markdown, outputs.markdown), (junit, outputs.junit), (json, outputs.as_json)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_text(judgement), encoding="utf-8")
