"""``harness history``: runs over time, in a folder or in a git branch."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options_and_output import CasePattern

history = typer.Typer(help="Store runs over time, in a folder or in a git branch. Stored files are never changed.")
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Benchmark JSON files or logs of runs.")]
Folder = Annotated[Path, typer.Option("--store", help="Folder with the stored runs.")]
Branch = Annotated[str, typer.Option(help="Git branch with the stored runs.")]
Remote = Annotated[str, typer.Option(help="Git remote of the branch.")]
FOLDER, BRANCH, REMOTE = Path("history"), "harness-history", "origin"


@history.command()
def add(runs: Runs, folder: Folder = FOLDER) -> None:
    """Add runs to a folder."""
    from harness.core import store
    from harness.gate.history import run_history

    for run in [store.load(path) for path in runs]:
        typer.echo(run_history.add(run, folder))


@history.command()
def push(runs: Runs, branch: Branch = BRANCH, remote: Remote = REMOTE) -> None:
    """Add runs to a branch of a git remote."""
    from harness.core import store
    from harness.gate.history import history_branch

    for path in history_branch.push(Path.cwd(), remote, branch, [store.load(path) for path in runs]):
        typer.echo(path)


@history.command()
def pull(folder: Folder = FOLDER, branch: Branch = BRANCH, remote: Remote = REMOTE) -> None:
    """Copy the runs of a branch that a folder does not have into the folder."""
    from harness.gate.history import history_branch

    typer.echo(f"{history_branch.pull(Path.cwd(), remote, branch, folder)} new runs in {folder}")


@history.command()
def plot(
    folder: Folder = FOLDER,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("history.html"),
    case: CasePattern = "*",
) -> None:
    """Draw the metrics of every case over the commits, and list where their level changes."""
    from harness.gate.history import history_page, run_history, trends

    series = trends.series(run_history.read(folder))
    chosen = {key: points for key, points in series.items() if fnmatchcase(key[1], case)}
    if not chosen:
        raise run_history.HistoryError(f"no case in {folder} matches {case!r}")
    changes = history_page.write(chosen, out)
    counts = {
        "regressions": sum(change.is_regression for change in changes),
        "improvements": sum(change.is_improvement for change in changes),
        "not clear": sum(not change.is_clear for change in changes),
    }
    words = ", ".join(f"{kind}: {count}" for kind, count in counts.items())
    typer.echo(f"{len(chosen)} series, {words}: {out}")


def add_to(app: typer.Typer) -> None:
    """Add ``harness history``."""
    app.add_typer(history, name="history")
