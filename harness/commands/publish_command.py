"""``harness publish``."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options_and_output import Reading


def publish(
    run_file: Annotated[Path, typer.Argument(metavar="RUN", help="Benchmark JSON or log of a run.")],
    reports: Annotated[Path, typer.Option(help="Folder of all published runs.")] = Path("reports"),
    name: Annotated[
        str | None, typer.Option(help="Folder of this run. Default: made of device, profile and start time.")
    ] = None,
    reading: Reading = None,
) -> None:
    """Add a run to the published runs: its data unchanged, its page, and the index of all runs."""
    from harness.report.formats import published_runs

    typer.echo(published_runs.publish(run_file, reports, name, reading))


def add_to(app: typer.Typer) -> None:
    """Add ``harness publish``."""
    app.command()(publish)
