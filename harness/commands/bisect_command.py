"""``harness bisect``."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.ab_command import DEFAULT_SUITES


def bisect(
    case: Annotated[str, typer.Argument(help="case id, or a shell pattern of them")],
    good: Annotated[str, typer.Argument(help="commit before the change")],
    bad: Annotated[str, typer.Argument(help="commit after it")],
    suite_options: Annotated[
        list[str] | None, typer.Argument(metavar="-- [SUITE OPTIONS]", help="pytest's; default: suites")
    ] = None,
) -> None:
    """Find the commit that made a case worse. Exit code 0: found, 2: it cannot be said."""
    from harness.gate.commits import bisection as bisection
    from harness.gate.commits.worktrees import CommitError

    try:
        options = suite_options or DEFAULT_SUITES
        found = bisection.run(Path.cwd(), good, bad, lambda commit: bisection.question(commit, case, options))
    except CommitError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(found.said)
    if found.commit is None:
        typer.echo("INVALID: the commit cannot be told", err=True)
        raise typer.Exit(2)
    typer.echo(f"first commit that is worse: {found.commit}")
