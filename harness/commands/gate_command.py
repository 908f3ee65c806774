"""``harness gate``: judges stored runs."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options_and_output import Json, Junit, Markdown, write_judgement


def gate(
    base: Annotated[Path, typer.Argument(help="Run to compare with: a benchmark JSON, a log, or a folder of them.")],
    head: Annotated[Path, typer.Argument(help="Run to judge: a benchmark JSON, a log, or a folder of them.")],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Judge the runs even if their machines or settings differ.")
    ] = False,
    markdown: Markdown = None,
    junit: Junit = None,
    json: Json = None,
) -> None:
    """Judge a stored run by comparing it with another one.

    Exit code: 0 pass, 1 regression, 2 inconclusive.

    A folder has several runs of one commit; from five runs on, they show how much its processes differ.

    Thresholds are in the table tool.harness.gate of pyproject.toml.
    """
    from harness.core import store
    from harness.gate.judge import judgement, stored_runs, thresholds

    try:
        settings = thresholds.load(Path.cwd())
        found = judgement.judge(stored_runs.load(base, anyway), stored_runs.load(head, anyway), settings, anyway)
    except (store.StoreError, thresholds.SettingsError) as error:
        found = judgement.Judgement(str(base), str(head), (judgement.invalid(str(error)),), ())
    write_judgement(found, markdown, junit, json)
    raise typer.Exit(found.exit_code)


def add_to(app: typer.Typer) -> None:
    """Add ``harness gate``."""
    app.command()(gate)
