"""``harness gate``: judges stored runs."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.error_boundary import message
from harness.commands.options_and_output import Json, Junit, Markdown, ReportPlace, end_with_judgement


def gate(
    base: Annotated[Path, typer.Argument(help="Run to compare with: a benchmark JSON, a log, or a folder of them.")],
    head: Annotated[Path, typer.Argument(help="Run to judge: a benchmark JSON, a log, or a folder of them.")],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Judge the runs even if their machines or settings differ.")
    ] = False,
    markdown: Markdown = None,
    junit: Junit = None,
    json: Json = None,
    report: ReportPlace = None,
) -> None:
    """Judge a stored run by comparing it with another one.

    Exit code: 0 pass, 1 regression, 2 inconclusive or nothing could be judged.

    A folder has several runs of one commit; from five runs on, they show how much its processes differ.

    Thresholds are in the table tool.harness.gate of pyproject.toml, as it is in base's commit.
    """
    from harness.gate.judge import judgement, stored_runs, thresholds

    cause: Exception | None = None
    try:
        base_run, head_run = stored_runs.load(base, anyway), stored_runs.load(head, anyway)
        settings, notes = thresholds.of_commits(Path.cwd(), base_run.commit, head_run.commit)
        found = judgement.judge(base_run, head_run, settings, anyway).with_notes(notes)
    except Exception as error:  # a file that is not a run, for example; the files that are written must say so, too
        cause, found = error, judgement.not_judged(str(base), str(head), message(error))
    words = ["harness", "gate", str(base), str(head), *(["--anyway"] if anyway else [])]
    found = replace(found, command=shlex.join(words), report=report or _report_command(base, head))
    end_with_judgement(found, markdown, junit, json, cause=cause)


def _report_command(base: Path, head: Path) -> str:
    """The command that makes the report of both runs; empty where one of them is a folder of runs."""
    if not (base.is_file() and head.is_file()):
        return ""
    return shlex.join(["harness", "report", str(base), str(head)])


def add_to(app: typer.Typer) -> None:
    """Add ``harness gate``."""
    app.command()(gate)
