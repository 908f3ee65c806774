"""``harness publish``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options_and_output import Reading

if TYPE_CHECKING:
    from harness.core.record import Run


def publish(
    run_file: Annotated[Path, typer.Argument(metavar="RUN", help="Benchmark JSON or log of a run.")],
    reports: Annotated[Path, typer.Option(help="Folder of all published runs.")] = Path("reports"),
    name: Annotated[
        str | None, typer.Option(help="Folder of this run. Default: made of device, profile and start time.")
    ] = None,
    reading: Reading = None,
) -> None:
    """Add a run to the published runs: its data unchanged, its page, and the index of all runs."""
    from harness.pytest_plugin.benchmark_json import of_stored_run
    from harness.report.formats import published_runs

    def as_json(run: "Run") -> str:
        return json.dumps(of_stored_run(run), indent=4, allow_nan=False)

    typer.echo(published_runs.publish(run_file, reports, name, reading, as_json))


def add_to(app: typer.Typer) -> None:
    """Add ``harness publish``."""
    app.command()(publish)
