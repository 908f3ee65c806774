"""What ``harness run`` shows while it runs: a line per case, how many cases are left, and about how long they take.

On a terminal a bar below the lines shows this all the time, with the case that is being measured and the steps of a
training. Anywhere else there are the lines only, without control characters. ``pytest`` itself keeps its own output.
"""

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, get_args

import pytest

from harness.core.case_words import names_of_cases
from harness.core.quantities import remaining_words
from harness.core.record import Status
from harness.core.spec import AnySpec
from harness.core.time_left import TimeLeft
from harness.pytest_plugin.collected import SESSION, round_of, spec_of
from harness.training import STEPS
from harness.training.step_counter import read_steps

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

PLUGIN_NAME = "harness-progress"
"""The name under which pytest knows the plugin."""
REFRESHES_PER_SECOND = 1.0
"""Of the bar. A refresh takes a millisecond of a core, which the measured process may want."""
BAR_COLUMNS = 24
FAILURES = frozenset(get_args(Status)) - {"ok", "unsupported"}


class RunProgress:
    """A plugin of pytest, for ``--harness-progress``.

    Args:
        command: the command line that, with ``--resume``, continues the run.
        live: whether the bar is also refreshed while a case runs, by a thread. False where cases run in this process,
            whose times it would disturb.
    """

    def __init__(self, command: str, live: bool) -> None:
        self._command = command
        self._is_live = live
        self._left = TimeLeft()
        self._waiting: dict[str, AnySpec] = {}
        self._names: dict[str, str] = {}
        self._rounds: dict[str, int] = {}
        self._of_log: frozenset[str] = frozenset()
        self._reporter: pytest.TerminalReporter | None = None
        self._total = 0
        self._now: AnySpec | None = None
        self._began = self._case_began = monotonic()
        self._live: Live | None = None
        self._terminal: IO[str] | None = None
        self._steps: Path | None = None

    def resume_line(self, log: Path) -> str:
        """The command line that continues this run."""
        return f"{self._command} {shlex.join(['--resume', str(log)])}"

    def other_failures(self) -> list[str]:
        """The tracebacks of tests and files that failed although no case of theirs did."""
        if self._reporter is None:
            return []
        reports = [*self._reporter.stats.get("failed", []), *self._reporter.stats.get("error", [])]
        return [f"{report.nodeid}\n{report.longreprtext}" for report in reports if not _is_of_failed_case(report)]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say what is about to be measured, and start the bar."""
        self._reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        specs = {item.nodeid: spec for item in session.items if (spec := spec_of(item)) is not None}
        shared, self._names = names_of_cases([*{spec.case_id: spec for spec in specs.values()}.values()])
        self._rounds = {item.nodeid: round_of(item) for item in session.items}
        self._waiting, self._total = specs, len(specs)
        self._of_log = session.config.stash[SESSION].cases_of_log
        if not specs or session.config.option.collectonly:
            return
        self._steps = Path(tempfile.mkdtemp(prefix="harness-steps-"), "steps")
        os.environ[STEPS] = str(self._steps)
        self._start_bar()
        self._began = self._case_began = monotonic()
        for line in [self._total_words(session.config.stash[SESSION].rounds), *shared, ""]:
            self._write(line)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A case begins."""
        self._now, self._case_began = self._waiting.get(nodeid), monotonic()
        if self._steps is not None:
            self._steps.unlink(missing_ok=True)
        self._refresh()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count a case as pytest does, but let pytest print nothing about it: its line is printed here."""
        if isinstance(report, pytest.TestReport) and report.when == "call" and _words_of(report):
            return report.outcome, "", ""
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the line of a case; pytest captures what is written while a test runs, and does not here."""
        words = _words_of(report)
        spec = self._waiting.get(report.nodeid)
        if report.when != "call" or words is None or spec is None:
            return
        del self._waiting[report.nodeid]
        if spec.case_id not in self._of_log:
            self._left.add(spec.kind, monotonic() - self._case_began)
        ended = self._total - len(self._waiting)
        left = self._left_words()
        tail = f" ({left})" if left and self._live is None else ""
        count = f"{ended:>{len(str(self._total))}}/{self._total}"
        number = self._rounds[report.nodeid]
        in_round = f", round {number}" if number > 1 else ""
        self._write(f"{count} {self._names[spec.case_id]}{in_round}: {words}{tail}")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A case has ended, whatever its result."""
        self._waiting.pop(nodeid, None)
        self._now = None
        self._refresh()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """The bar makes room for the summary, which has the tracebacks of ``other_failures`` and no others."""
        self.close()
        session.config.option.tbstyle = "no"

    def pytest_unconfigure(self) -> None:
        """As above, where pytest ends without that."""
        self.close()

    def close(self) -> None:
        """Remove the bar, so that pytest can print its summary."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None
        if self._steps is not None:
            shutil.rmtree(self._steps.parent, ignore_errors=True)
            self._steps = None
            os.environ.pop(STEPS, None)

    def _total_words(self, rounds: int) -> str:
        cases = len(self._names)
        words = f"{cases:,} {'case' if cases == 1 else 'cases'}"
        return words if rounds == 1 else f"{words}, those with a time in {rounds} rounds: {self._total:,} measurements"

    def _left_words(self) -> str:
        waiting = [spec.kind for spec in self._waiting.values() if spec.case_id not in self._of_log]
        seconds = self._left.seconds(waiting)
        return "" if not waiting or seconds is None else f"about {remaining_words(seconds)} left"

    def _start_bar(self) -> None:
        if not sys.stdout.isatty() or os.environ.get("TERM") in (None, "", "dumb", "unknown"):
            return  # a log file, or a terminal on which nothing can be drawn
        # Another file for the same terminal: while a case runs, pytest captures what is written to standard output.
        self._terminal = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", errors="backslashreplace")
        from rich.console import Console
        from rich.live import Live

        self._live = Live(
            console=Console(file=self._terminal, force_terminal=True),
            get_renderable=self._bar,
            auto_refresh=self._is_live,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _bar(self) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        ended = self._total - len(self._waiting)
        grid = Table.grid(padding=(0, 1))
        counted = f"{ended}/{self._total} cases"
        spent = f"{remaining_words(monotonic() - self._began)} so far"
        bar = ProgressBar(total=max(1, self._total), completed=ended, width=BAR_COLUMNS)
        grid.add_row(Text(counted), bar, Text(", ".join(filter(None, [spent, self._left_words()]))))
        rows = Table.grid()
        rows.add_row(grid)
        if self._now is not None:
            rows.add_row(Text(self._now_words(self._now), overflow="fold"))
        return rows

    def _now_words(self, spec: AnySpec) -> str:
        spent = monotonic() - self._case_began
        words = f"now, {remaining_words(spent)}"
        steps = None if self._steps is None else read_steps(self._steps)
        if steps is not None:
            done, total = steps
            words += f", step {done:,} of {total:,}"
            words += f", about {remaining_words(spent * (total - done) / done)} left" if 0 < done < total else ""
        return f"{words}: {self._names[spec.case_id]}"

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.refresh()

    def _write(self, line: str) -> None:
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text(line))
        elif self._reporter is not None:
            if self._reporter.config.get_terminal_writer().width_of_current_line:
                self._reporter.write_line("")  # behind the letter of a test that has no case
            self._reporter.write_line(line)


def _words_of(report: pytest.TestReport) -> str | None:
    """The result of a case; None for any other test."""
    words = dict(report.user_properties).get("harness")
    return None if words is None else str(words)


def _is_of_failed_case(report: pytest.TestReport | pytest.CollectReport) -> bool:
    """Whether the failure is the status of a case, which has its line and its reasons in the record."""
    words = _words_of(report) if isinstance(report, pytest.TestReport) else None
    return words is not None and words.partition(":")[0] in FAILURES
