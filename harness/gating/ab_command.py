"""``harness ab``: two commits of this repository, measured in turns."""

import json as jsonlib
import shlex
import tempfile
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.gating.gate_command import Json, Junit, Markdown, write

if TYPE_CHECKING:
    from harness.gating.ab import Keep
    from harness.gating.judgement import Judgement
    from harness.record import Run

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
    from harness.gating import judgement
    from harness.gating.settings import SettingsError
    from harness.gating.worktrees import CommitError

    def keep(base_run: "Run", head_run: "Run") -> None:
        for run, name in ((base_run, "base"), (head_run, "head")):
            _save(run, out / f"{name}.json")

    try:
        found = compare_commits(base, head, tuple(suite_options or DEFAULT_SUITES), minutes, case_timeout, case, keep)
    except (CommitError, SettingsError, EOFError, TimeoutError) as error:
        found = judgement.Judgement(base, head, (judgement.invalid(str(error)),), ())
    write(found, markdown, junit, json)
    raise typer.Exit(found.exit_code)


def compare_commits(
    base: str, head: str, arguments: tuple[str, ...], minutes: float, timeout: float, case: str, keep: "Keep"
) -> "Judgement":
    """Check out, build, measure and judge two commits of the repository around the current folder.

    ``keep`` is given what base and head have, after the first pass and again after every round.

    Raises:
        CommitError: a commit is not there, does not check out, build or collect, or neither has the case.
        SettingsError: the thresholds are wrong.
        EOFError, TimeoutError: a side's process does not start.
    """
    from harness.gating import ab as orchestration
    from harness.gating import collection, quiet_cores, settings, worktrees
    from harness.gating.side_process import SideProcess

    here = Path.cwd()
    thresholds = settings.load(here)
    env = orchestration.environment()
    sides: list[orchestration.Commit] = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-ab-")))
        for name, revision in (("base", base), ("head", head)):
            commit = worktrees.resolve(here, revision)
            typer.echo(f"{name}: {commit[:12]}, checked out and built")
            folder = stack.enter_context(worktrees.checkout(here, commit, scratch / name))
            worktrees.build(folder, commit, thresholds.build, env)
            cases = collection.collect(folder, commit, arguments, env)
            # A cache in common would let one side find what the other has compiled.
            side = SideProcess(folder, {"TORCHINDUCTOR_CACHE_DIR": str(scratch / f"{name}-inductor")}, timeout)
            stack.callback(side.close)
            sides.append(orchestration.Commit(commit, side, cases))
        for one in sides:
            one.cases.specs = {name: spec for name, spec in one.cases.specs.items() if fnmatchcase(name, case)}
        if not any(one.cases.specs for one in sides):
            raise worktrees.CommitError(f"neither commit has a case that fits {case!r} in: {shlex.join(arguments)}")
        cores = quiet_cores.stay_on_them()
        typer.echo(f"measured on cores: {'all' if cores is None else ', '.join(map(str, cores))}")
        command = f"harness ab {base} {head} -- {shlex.join(arguments)}"
        return orchestration.compare(sides[0], sides[1], thresholds, command, minutes, typer.echo, keep)


def _save(run: "Run", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".part")  # a half-written file is never in the place of one that was whole
    whole.write_text(jsonlib.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")}), encoding="utf-8")
    whole.replace(path)
