"""``harness bisect``."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options_and_output import SuiteOptions


def bisect(
    case: Annotated[str, typer.Argument(help="Id of the case, or a shell pattern of case ids.")],
    good: Annotated[str, typer.Argument(help="Commit before the change.")],
    bad: Annotated[str, typer.Argument(help="Commit after the change.")],
    suite_options: SuiteOptions = None,
) -> None:
    """Find the commit that made a case worse, by git bisect with harness ab.

    Exit code: 0 found, 2 inconclusive.
    """
    from harness.gate.commits import bisection, project_suites

    options = project_suites.arguments(Path.cwd(), suite_options or ())
    result = bisection.run(Path.cwd(), good, bad, lambda commit: bisection.step_command(commit, case, options))
    typer.echo(result.log)
    if result.first_bad is None:
        typer.echo("Inconclusive: git bisect could not name one commit", err=True)
        raise typer.Exit(2)
    typer.echo(f"first commit that is worse: {result.first_bad}")


def add_to(app: typer.Typer) -> None:
    """Add ``harness bisect``."""
    app.command()(bisect)
