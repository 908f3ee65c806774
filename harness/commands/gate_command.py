"""``harness gate``: runs that are stored."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.gate.judge.judgement import Judgement

Markdown = Annotated[Path | None, typer.Option(help="write a Markdown comment here")]
Junit = Annotated[Path | None, typer.Option(help="write JUnit XML here")]
Json = Annotated[Path | None, typer.Option("--json", help="write everything as JSON here")]


def gate(
    base: Annotated[Path, typer.Argument(help="benchmark JSON or log to hold head against, or a folder")],
    head: Annotated[Path, typer.Argument(help="benchmark JSON or log that is judged, or a folder")],
    anyway: Annotated[bool, typer.Option("--anyway", help="compare runs of other machines or settings too")] = False,
    markdown: Markdown = None,
    junit: Junit = None,
    json: Json = None,
) -> None:
    """Judge stored runs. Exit code 0: pass, 1: a regression, 2: nobody can judge.

    A folder has runs of one commit, each a round: from five on they show how far apart two processes of it are.
    Thresholds are in pyproject.toml's table tool.harness.gate.
    """
    from harness.core import store
    from harness.gate.judge import judgement, stored_runs, thresholds

    try:
        settings = thresholds.load(Path.cwd())
        found = judgement.judge(stored_runs.load(base, anyway), stored_runs.load(head, anyway), settings, anyway)
    except (store.StoreError, thresholds.SettingsError) as error:
        found = judgement.Judgement(str(base), str(head), (judgement.invalid(str(error)),), ())
    write(found, markdown, junit, json)
    raise typer.Exit(found.exit_code)


def write(found: "Judgement", markdown: Path | None, junit: Path | None, json: Path | None) -> None:
    """Print a judgement and write the files that were asked for."""
    from harness.gate.judge import outputs

    outputs.print_table(found)
    for path, text in ((markdown, outputs.markdown), (junit, outputs.junit), (json, outputs.as_json)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(found), encoding="utf-8")
