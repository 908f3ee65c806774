"""``harness ab``: measures two commits of this repository, interleaved, and judges the second."""

import json as jsonlib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.error_boundary import message
from harness.commands.options_and_output import (
    CasePattern,
    Json,
    Junit,
    Markdown,
    ReportPlace,
    SuiteOptions,
    end_with_judgement,
    require_writable,
)

if TYPE_CHECKING:
    from harness.core.record import Run


def ab(
    base: Annotated[str, typer.Argument(help="Commit to compare with.")],
    head: Annotated[str, typer.Argument(help="Commit to judge.")],
    suite_options: SuiteOptions = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for base.json and head.json.")] = Path("out/ab"),
    minutes: Annotated[
        float, typer.Option(help="Start no round that would end later than this, once five rounds are done.")
    ] = 14.0,
    case: CasePattern = "*",
    case_timeout: Annotated[float, typer.Option(help="Seconds in which a case must be prepared.")] = 300.0,
    markdown: Markdown = None,
    junit: Junit = None,
    json: Json = None,
    report: ReportPlace = None,
) -> None:
    """Measure two commits on this machine, interleaved, and judge head. Uncommitted changes are not measured.

    In the repository of an attention of your own, harness init writes what this command needs.

    Exit code: 0 pass, 1 regression, 2 inconclusive or nothing could be judged.
    """
    from harness.gate.commits import project_suites, two_commits
    from harness.gate.judge import judgement

    require_writable(out / "base.json", out / "head.json", markdown, junit, json)
    unsaved: dict[str, OSError] = {}

    def keep(base_run: "Run", head_run: "Run", complete: bool) -> None:
        for name, run in (("base", base_run), ("head", head_run)):
            # What `harness gate` would judge has every case. A part of the cases has another name.
            path = out / f"{name}{'' if complete else '.partial'}.json"
            try:
                _save(run, path)
                unsaved.pop(name, None)
                if complete:
                    (out / f"{name}.partial.json").unlink(missing_ok=True)
            except OSError as error:  # minutes of measurements must not be lost for it
                unsaved[name] = error

    cause: Exception | None = None
    arguments = tuple(suite_options or ())
    try:
        arguments = project_suites.arguments(Path.cwd(), arguments)
        found = two_commits.compare_commits(base, head, arguments, minutes, case_timeout, case, typer.echo, keep)
    except Exception as error:  # a commit that does not build, for example; the files must say so, too
        cause, found = error, judgement.not_judged(base, head, message(error))
    options = ["--case", case] if case != "*" else []
    command = shlex.join(["harness", "ab", base, head, *options, *(["--", *arguments] if arguments else [])])
    saved = [str(out / "base.json"), str(out / "head.json")]
    found = replace(
        found, command=command, report=report or ("" if cause else shlex.join(["harness", "report", *saved]))
    )
    end_with_judgement(found, markdown, junit, json, [*unsaved.values()], cause)


def add_to(app: typer.Typer) -> None:
    """Add ``harness ab``."""
    app.command()(ab)


def _save(run: "Run", path: Path) -> None:
    from harness.pytest_plugin.benchmark_json import of_stored_run

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")  # replaces `path` only when complete, so an interruption keeps the older file
    partial.write_text(jsonlib.dumps(of_stored_run(run)), encoding="utf-8")
    partial.replace(path)
