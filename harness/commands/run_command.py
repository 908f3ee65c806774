"""``harness run``."""

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from harness.commands.error_boundary import FAILED, INTERRUPTED, MeasuredRegression
from harness.commands.options_and_output import default_suites
from harness.core import writable

if TYPE_CHECKING:
    import pytest

OUTPUT_OPTIONS = ("-q", "--tb=short", "-rN", "-o", "console_output_style=classic")
"""pytest's own lines and list of failures are left out: ``RunProgress`` prints a line per case instead."""
PLUGIN = ("-p", "harness.pytest_plugin")
"""Loaded before pytest reads the command line, which has the plugin's options."""
CACHE_OPTIONS = frozenset(
    (
        *("--lf", "--last-failed", "--ff", "--failed-first", "--nf", "--new-first", "--lfnf", "--cache-show"),
        *("--cache-clear", "--last-failed-no-failures", "--sw", "--stepwise", "--sw-skip", "--stepwise-skip"),
        *("--sw-reset", "--stepwise-reset"),
    )
)
"""pytest's options about what an earlier run left in the folder ``.pytest_cache``."""
_PANEL = "What is measured, and how"


class RunCommand(TyperCommand):
    """Passes every option that it does not know to pytest; its help shows those of the harness, which pytest has."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, and the options that ``harness.pytest_plugin.options`` declares."""
        from rich.console import Console
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        from harness.pytest_plugin.options import options

        super().format_help(ctx, formatter)
        table = Table.grid(padding=(0, 1))
        for option in options():
            if option.in_run:
                default = f" Default: {option.default}." if option.default else ""
                name = Text(option.flag, "bold cyan").append(
                    f"\n  {option.metavar}" if option.metavar else "", "yellow"
                )
                table.add_row(name, Text(option.help + default))
        Console().print(Panel(table, title=_PANEL, title_align="left", border_style="dim"))


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITES] [OPTIONS OF PYTEST]",
            help="Suite files or folders, and any option of pytest, as -k. Default: the folder suites here, or else "
            "the harness's own.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Benchmark JSON to write.")] = Path("run.json"),
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write the report beside the JSON.")] = True,
) -> None:
    """Run the suites with pytest, print one line per case, and write the JSON and the report, one page.

    Exit code: 0 every case has a result or cannot run here, 1 a regression that --benchmark-compare-fail found, 2 a
    case failed, the run ended early or disturbed times cannot be compared, 130 interrupted.
    """
    import pytest
    from pytest_benchmark.session import PerformanceRegression

    given = arguments or []
    _check_outputs(out, page, given)
    own = [f"--out={out}", *([] if page else ["--no-page"])]
    again = shlex.join(["harness", "run", *_without_resume(given), *own])
    passed_on = [*OUTPUT_OPTIONS, *PLUGIN, f"--benchmark-json={out}", f"--harness-progress={again}"]
    watch = _RunWatch()
    before = _written(out)
    try:
        with TemporaryDirectory(prefix="harness-cache-") as cache:  # the user's folder gets what the user asked for
            code = pytest.main([*passed_on, "-o", f"cache_dir={cache}", *given], plugins=[watch])
    except PerformanceRegression:  # of --benchmark-compare-fail; pytest-benchmark has printed what is slower
        raise MeasuredRegression from None
    finally:
        if _written(out) != before:
            _report(out, page)
    raise typer.Exit(INTERRUPTED if watch.interrupted else FAILED if code else 0)


def _check_outputs(out: Path, page: bool, given: list[str]) -> None:
    """Refuse, before anything is measured, outputs that cannot be written or that would replace each other.

    Raises:
        ValueError: an option is wrong; the message says what was expected.
    """
    if out.suffix != ".json":
        raise ValueError(
            f"--out must be a file that ends in .json, got {out}; the report is written beside it, with .html"
        )
    if any(word.partition("=")[0] == "--benchmark-json" for word in given):
        raise ValueError("--benchmark-json is what harness run writes to --out; leave it out, and use --out")
    needs_cache = [word for word in given if word.partition("=")[0] in CACHE_OPTIONS]
    if needs_cache and not any("cache_dir=" in word for word in given):
        raise ValueError(
            f"{needs_cache[0]} needs pytest's cache, which harness run does not keep: choose cases by -k, continue an "
            "interrupted run with --resume, or add -o cache_dir=FOLDER to this run and to those before it"
        )
    files = [("--out", out), *([("the report of --out", out.with_suffix(".html"))] if page else [])]
    reasons = [reason for name, path in files if (reason := writable.reason_against(name, path))]
    if reasons:
        raise ValueError(reasons[0])


def _written(out: Path) -> int | None:
    """When the file was written, in nanoseconds; None if there is none."""
    return out.stat().st_mtime_ns if out.exists() else None


def _report(out: Path, is_wanted: bool) -> None:
    """Write the page of the run beside its JSON; otherwise name the command that does."""
    if not is_wanted:
        typer.echo(f"for the report: {shlex.join(['harness', 'report', str(out)])}")
        return
    from harness.core import store
    from harness.report.comparison import compare
    from harness.report.formats import html

    typer.echo(f"report: {html.write(compare([store.load(out)]), out.with_suffix('.html'))}")


def _without_resume(arguments: list[str]) -> list[str]:
    """The arguments without ``--resume`` and its value, which the next continuation has anew."""
    kept = [word for word in arguments if not word.startswith("--resume=")]
    while "--resume" in kept:
        place = kept.index("--resume")
        del kept[place : place + 2]
    return kept


class _RunWatch:
    """A plugin of pytest that names the default suites, and tells an interrupted run from one that was not collected:
    both have exit code 2."""

    interrupted = False

    def pytest_load_initial_conftests(self, early_config: "pytest.Config", args: list[str]) -> None:
        """Add the default suites where the command line names none, which only pytest's parser can tell."""
        given = early_config.known_args_namespace
        if not given.file_or_dir:
            suites = default_suites()
            args += suites
            given.pyargs = given.pyargs or "--pyargs" in suites
            given.file_or_dir += [word for word in suites if word != "--pyargs"]

    def pytest_keyboard_interrupt(self, excinfo: "pytest.ExceptionInfo[BaseException]") -> None:
        self.interrupted = isinstance(excinfo.value, KeyboardInterrupt)


def add_to(app: typer.Typer) -> None:
    """Add ``harness run``."""
    app.command(cls=RunCommand, context_settings={"ignore_unknown_options": True})(run)
