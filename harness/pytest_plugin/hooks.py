"""The harness inside pytest and pytest-benchmark.

A suite loads it with ``pytest_plugins = ["harness.pytest_plugin"]`` and asks for the ``case`` fixture under one of the
markers ``operation``, ``model``, ``quality`` and ``task``::

    @pytest.mark.operation
    def test_operation(case):
        assert case.record.status == "ok"

The test is then parametrised with the profile's cases of that kind, or, with ``@pytest.mark.operation(specs=mine)``,
with what the function ``mine`` returns for the user's ``Selection``. A case that is unsupported is skipped with its
reasons; one that is incorrect, out of memory, too slow or crashed fails with them. Timings become pytest-benchmark's
own statistics, and all records are in the ``harness`` block of ``--benchmark-json`` and in the log.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from harness.core.record import Record, Status
from harness.core.spec import AnySpec, Spec
from harness.core.store import StoreError
from harness.profiles import cases
from harness.profiles.selection import Selection
from harness.pytest_plugin.options import add_options, json_path, session_of
from harness.pytest_plugin.session import HarnessSession
from harness.pytest_plugin.terminal import one_line, tables

KINDS: dict[str, Callable[[Selection], Sequence[AnySpec]]] = {
    "operation": cases.operation,
    "model": cases.model,
    "quality": cases.quality,
    "task": cases.task,
}
TIMED = ("operation", "model")
_SESSION = pytest.StashKey[HarnessSession]()


class Case:
    """One case of a suite. It is measured before the test's body runs, which only sees cases of status ok."""

    def __init__(self, spec: AnySpec) -> None:
        self.spec = spec
        self.record: Record


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the group ``harness``."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options before anything is collected."""
    for kind in KINDS:
        config.addinivalue_line("markers", f"{kind}(specs=None): parametrise `case` with the profile's {kind} cases")
    if config.getoption("numprocesses", None):
        raise pytest.UsageError("cases that run side by side disturb each other's timings; leave out -n (xdist)")
    config.stash[_SESSION] = session_of(config)
    if not config.getoption("benchmark_verbose"):
        config.option.benchmark_quiet = True  # its table has a row a case; ours has a row an attention


def selection(config: pytest.Config) -> Selection:
    """What the user asked for."""
    return config.stash[_SESSION].selection


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case; its id is the case's."""
    if "case" not in metafunc.fixturenames:
        return
    marks = [mark for mark in metafunc.definition.iter_markers() if mark.name in KINDS]
    if not marks:
        raise pytest.UsageError(f"{metafunc.definition.nodeid} asks for `case` without one of the markers {[*KINDS]}")
    kind = marks[0].name
    make = marks[0].kwargs.get("specs", KINDS[kind])
    specs = make(selection(metafunc.config))
    metafunc.parametrize("case", [pytest.param(spec, id=spec.case_id) for spec in specs], indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give timed cases the ``benchmark`` fixture, so that --benchmark-only and --benchmark-skip know them."""
    for item in items:
        spec = item.callspec.params.get("case") if hasattr(item, "callspec") else None
        if getattr(spec, "kind", None) in TIMED and "benchmark" not in item.fixturenames:  # type: ignore[attr-defined]
            item.fixturenames.append("benchmark")  # type: ignore[attr-defined]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write down the cases, for ``harness ab``."""
    path = session.config.getoption("harness_cases", None)
    if path:
        specs = [item.callspec.params.get("case") for item in session.items if hasattr(item, "callspec")]
        selection = session.config.stash[_SESSION].selection
        found = [spec.model_dump(mode="json") for spec in specs if isinstance(spec, Spec)]
        words = {"profile": selection.profile, "device": selection.device, "specs": found}
        Path(path).write_text(json.dumps(words), encoding="utf-8")


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The case of this test."""
    return Case(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Measure the case of a test, before its body; skip or fail the test where the status is not ok."""
    case = pyfuncitem.funcargs.get("case")
    if not isinstance(case, Case):
        return
    benchmark: Any = pyfuncitem.funcargs.get("benchmark")
    if benchmark is not None:
        benchmark._mode = "harness"  # it is used, though it times nothing itself
        benchmark.params = {"case": case.spec.case_id}
        benchmark.group = f"{case.spec.kind} n={case.spec.seq_len}"
    try:
        case.record = pyfuncitem.config.stash[_SESSION].measure(case.spec)
    except StoreError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.INTERRUPTED)  # what is found from here on would be lost
    pyfuncitem.user_properties.append(("harness", one_line(case.record)))
    status, reasons = case.record.status, case.record.reasons
    if status == "unsupported":
        pytest.skip("; ".join(reasons))
    if status != "ok":
        pytest.fail("\n".join([f"{status}: {reasons[0]}", *reasons[1:]]), pytrace=False)
    if benchmark is not None and benchmark.enabled:
        _give_samples(benchmark, case.record)


def _give_samples(benchmark: Any, record: Record) -> None:
    """Make the record's samples pytest-benchmark's own. It has no public way to take samples from elsewhere."""
    timing = record.timing
    if timing is None:
        return
    benchmark.extra_info.update(record.model_dump(mode="json", exclude={"timing"}))
    stats = benchmark._make_stats(timing.calls_per_sample)
    for seconds in timing.wall_seconds:
        stats.update(seconds * timing.calls_per_sample)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """In verbose mode a passed case shows what it found instead of PASSED."""
    found = dict(report.user_properties).get("harness") if report.when == "call" and report.passed else None
    return ("passed", ".", str(found)) if found else None


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """A published run does not name its host."""
    machine_info.pop("node", None)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Put the run into the benchmark JSON."""
    output_json["harness"] = config.stash[_SESSION].run().model_dump(mode="json")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Write the JSON where pytest-benchmark would not: it leaves none when no case was timed."""
    config = session.config
    benchmarks = config._benchmarksession  # type: ignore[attr-defined]
    if benchmarks.json and not benchmarks.benchmarks:
        if not config.option.collectonly:
            hook = config.hook
            machine_info = benchmarks.get_machine_info()
            commit_info = hook.pytest_benchmark_generate_commit_info(config=config)
            output = hook.pytest_benchmark_generate_json(
                config=config, benchmarks=[], include_data=True, machine_info=machine_info, commit_info=commit_info
            )
            hook.pytest_benchmark_update_json(config=config, benchmarks=[], output_json=output)
            benchmarks.save_json(output)
        benchmarks.json = None  # it would warn that there is nothing to save
    config.stash[_SESSION].close()
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The tables, the counts and the files."""
    session = config.stash[_SESSION]
    if not session.records:
        return
    write = terminalreporter.write_line
    terminalreporter.section("harness")
    for line in tables(session.records):
        write(line)
    counts = session.counts()
    write("")
    write("cases: " + ", ".join(f"{counts[status]} {status}" for status in get_args(Status) if counts[status]))
    if path := json_path(config):
        write(f"JSON: {path}")
    write(f"log: {session.log_path}")
