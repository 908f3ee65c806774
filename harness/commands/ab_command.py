"""``harness ab``: two commits of this repository, measured in turns."""

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.gate_command import Json, Junit, Markdown, write

if TYPE_CHECKING:
    from harness.core.record import Run

DEFAULT_SUITES = ("suites",)


def ab(
    base: Annotated[str, typer.Argument(help="commit to hold head against")],
    head: Annotated[str, typer.Argument(help="commit that is judged")],
    suite_options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- [SUITE OPTIONS]", help="pytest's: suites, --profile, --attention, -k; default: suites"
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for base.json and head.json")] = Path("out/ab"),
    minutes: Annotated[float, typer.Option(help="no more than five fresh rounds where they would end later")] = 14.0,
    case: Annotated[str, typer.Option(help="shell pattern of case ids")] = "*",
    case_timeout: Annotated[float, typer.Option(help="seconds that a case may take to be prepared")] = 300.0,
    markdown: Markdown = None,
    junit: Junit = None,
    json: Json = None,
) -> None:
    """Measure two commits in turns and judge head. Exit code 0: pass, 1: a regression, 2: nobody can judge.

    Only what is committed is measured.
    """
    from harness.gate.commits import two_commits as orchestration
    from harness.gate.commits.worktrees import CommitError
    from harness.gate.judge import judgement
    from harness.gate.judge.thresholds import SettingsError

    def keep(base_run: "Run", head_run: "Run") -> None:
        for run, name in ((base_run, "base"), (head_run, "head")):
            _save(run, out / f"{name}.json")

    try:
        found = orchestration.compare_commits(
            base, head, tuple(suite_options or DEFAULT_SUITES), minutes, case_timeout, case, typer.echo, keep
        )
    except (CommitError, SettingsError, EOFError, TimeoutError) as error:
        found = judgement.Judgement(base, head, (judgement.invalid(str(error)),), ())
    write(found, markdown, junit, json)
    raise typer.Exit(found.exit_code)


def _save(run: "Run", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".part")  # a half-written file is never in the place of one that was whole
    whole.write_text(jsonlib.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")}), encoding="utf-8")
    whole.replace(path)
