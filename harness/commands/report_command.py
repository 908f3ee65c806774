"""The commands that write reports: ``harness report`` and ``harness publish``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.core.record import Run

Reading = Annotated[Path | None, typer.Option(help="text file with paragraphs about the run, shown on its page")]


def report(
    run_files: Annotated[list[Path], typer.Argument(metavar="RUN...", help="benchmark JSONs or logs; first the base")],
    out: Annotated[Path, typer.Option("--out", "-o", help="an .html file, or a folder")] = Path("report.html"),
    reading: Reading = None,
) -> None:
    """Write the report of one run, of several machines, or of a run before and after a change.

    An .html file gets the page alone; a folder gets page, Markdown, CSV, LaTeX, PNG and SVG.
    """
    from harness.report.comparison import compare
    from harness.report.formats import folder, html, images, published_runs

    runs, notices = _load(run_files)
    compared = compare(runs, notices, published_runs.paragraphs(reading) if reading else ())
    try:
        written = [html.write(compared, out)] if out.suffix == ".html" else folder.write(compared, out)
    except images.NoBrowser as error:
        typer.echo(f"{out}: without pictures: {error}", err=True)
        raise typer.Exit(1) from error
    for path in written:
        typer.echo(path)
    if notices:
        raise typer.Exit(1)


def publish(
    run_file: Annotated[Path, typer.Argument(metavar="RUN", help="benchmark JSON or log of a run")],
    reports: Annotated[Path, typer.Option(help="folder of all published runs")] = Path("reports"),
    name: Annotated[str | None, typer.Option(help="the run's folder; default: device, profile and start")] = None,
    reading: Reading = None,
) -> None:
    """Add a run to the published ones: its data unchanged, its page, and the index."""
    from harness.report.formats import published_runs

    try:
        typer.echo(published_runs.publish(run_file, reports, name, reading))
    except (ValueError, OSError) as error:
        raise _end(error) from error


def _load(paths: list[Path]) -> tuple[list["Run"], list[str]]:
    """The runs that can be read, and why the others cannot; none at all ends the command."""
    from harness.core import store

    runs, notices = [], []
    for path in paths:
        try:
            runs.append(store.load(path))
        except store.StoreError as error:
            notices.append(f"Left out: {error}.")
            typer.echo(f"error: {error}", err=True)
    if not runs:
        raise typer.Exit(2)
    return runs, notices


def _end(error: Exception) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)
