"""``harness report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.error_boundary import FAILED
from harness.commands.options_and_output import Reading, print_error

if TYPE_CHECKING:
    from harness.core.record import Run


def report(
    run_files: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Benchmark JSON files or logs. The first one is the base.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="An .html file or a folder.")] = Path("report.html"),
    reading: Reading = None,
) -> None:
    """Write the report of one run, of several machines, or of a run before and after a change.

    Runs of one commit with equal machine, software and settings are rounds of one run.

    An .html file gets the page only; a folder gets the page, Markdown, CSV, LaTeX, PNG and SVG.

    Exit code: 0 all was written, 2 a run or the pictures were left out, or no run could be read.
    """
    from harness.core.merged_runs import merge_repeats
    from harness.report.comparison import compare
    from harness.report.formats import folder, html, images, published_runs

    named, left_out = _load(run_files)
    runs, about_repeats = merge_repeats(named)
    compared = compare(runs, [*left_out, *about_repeats], published_runs.paragraphs(reading) if reading else ())
    try:
        written = [html.write(compared, out)] if out.suffix == ".html" else folder.write(compared, out)
    except images.NoBrowser as error:
        print_error(f"{out}: without pictures: {error}")
        raise typer.Exit(FAILED) from error
    for path in written:
        typer.echo(path)
    if left_out:
        raise typer.Exit(FAILED)


def add_to(app: typer.Typer) -> None:
    """Add ``harness report``."""
    app.command()(report)


def _load(paths: list[Path]) -> tuple[list[tuple[str, "Run"]], list[str]]:
    """The runs that can be read, with their files, and a notice for each of the others; ends the command if no run can
    be read."""
    from harness.core import store

    runs, notices = [], []
    for path in paths:
        try:
            runs.append((str(path), store.load(path)))
        except store.StoreError as error:
            notices.append(f"Left out: {error}.")
            print_error(str(error))
    if not runs:
        raise typer.Exit(FAILED)
    return runs, notices
