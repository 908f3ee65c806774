"""``harness history``: runs over time, in a folder or a git branch."""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Runs over time, in a folder or a git branch: files are added and never changed.")
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="benchmark JSON or log of a run")]
Folder = Annotated[Path, typer.Option("--store", help="folder of the store")]
Branch = Annotated[str, typer.Option(help="git branch of the store")]
Remote = Annotated[str, typer.Option(help="git remote of the branch")]
HERE, BRANCH, REMOTE = Path("history"), "harness-history", "origin"


@app.command()
def add(runs: Runs, folder: Folder = HERE) -> None:
    """Put runs into a folder."""
    from harness.core import store
    from harness.gate.history import run_history

    with _errors():
        for run in [store.load(path) for path in runs]:
            typer.echo(run_history.add(run, folder))


@app.command()
def push(runs: Runs, branch: Branch = BRANCH, remote: Remote = REMOTE) -> None:
    """Put runs into the branch of a remote."""
    from harness.core import store
    from harness.gate.history import history_branch

    with _errors():
        for path in history_branch.push(Path.cwd(), remote, branch, [store.load(path) for path in runs]):
            typer.echo(path)


@app.command()
def pull(folder: Folder = HERE, branch: Branch = BRANCH, remote: Remote = REMOTE) -> None:
    """Copy the branch's runs that a folder lacks into it."""
    from harness.gate.history import history_branch

    with _errors():
        typer.echo(f"{history_branch.pull(Path.cwd(), remote, branch, folder)} new runs in {folder}")


@app.command()
def plot(
    folder: Folder = HERE,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write")] = Path("history.html"),
    case: Annotated[str, typer.Option(help="shell pattern of case ids")] = "*",
) -> None:
    """Draw every case's metrics over the runs, and mark where their level changes."""
    from harness.gate.history import history_page, run_history, trend

    with _errors():
        series = trend.series(run_history.read(folder))
        chosen = {key: points for key, points in series.items() if fnmatchcase(key[1], case)}
        if not chosen:
            raise run_history.HistoryError(f"no case in {folder} fits {case!r}")
        marked = history_page.write(chosen, out)
        typer.echo(f"{len(chosen)} series, {marked} changes of level: {out}")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
