"""The hooks and fixtures of the pytest plugin, and how a suite is written.

A suite loads the plugin with ``pytest_plugins = ["harness.pytest_plugin"]``. Its tests use the ``case`` fixture and one
of the markers ``operation``, ``model``, ``quality`` and ``task``::

    @pytest.mark.operation
    def test_operation(case):
        assert case.record.status == "ok"

The test is parametrised with the profile's cases of that kind. With ``@pytest.mark.operation(specs=my_specs)`` it is
parametrised with the specs that the function ``my_specs`` returns for the user's ``Selection``.

An unsupported case is skipped, and its reasons are shown. A case that is incorrect, out of memory, too slow, diverged
or crashed fails with its reasons. Timings become pytest-benchmark's own statistics. All records are in the ``harness``
block of ``--benchmark-json`` and in the log.

A run in which an attention of ``--attention`` has no case of status ok ends with exit code 1 if nothing else failed,
and a line names the attention with the reasons.
"""

import json
import shlex
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from harness.core import writable
from harness.core.record import Record, Status
from harness.core.spec import AnySpec
from harness.core.store import StoreError
from harness.processes import ending_signals
from harness.profiles import cases
from harness.profiles.selection import Selection
from harness.pytest_plugin import benchmark_json, benchmark_options, disturbed_comparisons
from harness.pytest_plugin.collected import ROUND, SESSION, round_of, spec_of
from harness.pytest_plugin.options import add_options, json_path, repeated, session_of
from harness.pytest_plugin.other_plugins import reason_against_launcher, reason_against_plugins
from harness.pytest_plugin.progress import PLUGIN_NAME, RunProgress
from harness.pytest_plugin.session import TIMED_KINDS
from harness.pytest_plugin.terminal import error_beside, one_line, result_sentences, tables, wrapped

KINDS: dict[str, Callable[[Selection], Sequence[AnySpec]]] = {
    "operation": cases.operation,
    "model": cases.model,
    "quality": cases.quality,
    "task": cases.task,
}
INCONCLUSIVE = 2
"""The exit code of a run whose times were to be judged, and were too disturbed for it."""
_RESTORE_SIGNALS = pytest.StashKey[Callable[[], None]]()
_HAS_CASES = pytest.StashKey[bool]()
"""Set where a collected test uses ``case``. The conformance tests have the same options and no cases."""
_KEPT_JSON = pytest.StashKey[Path]()
"""The JSON of an earlier run, which this one did not replace because it measured no case."""
_COLLECTED = pytest.StashKey[Counter[str]]()
"""The number of collected cases by attention, before any is deselected."""


class Case:
    """One case of a suite, measured before the body of its test runs. The body runs only if the status is ok."""

    def __init__(self, spec: AnySpec) -> None:
        self.spec = spec
        self.record: Record


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the group ``harness``."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options before anything is collected."""
    for kind in KINDS:
        config.addinivalue_line("markers", f"{kind}(specs=None): parametrise `case` with the profile's {kind} cases")
    config.addinivalue_line("markers", f"{ROUND}(number): the round of --rounds in which a test measures its case")
    reason = reason_against_plugins(config)
    if reason is not None:
        raise pytest.UsageError(reason)
    config.stash[_RESTORE_SIGNALS] = ending_signals.install()
    config.stash[SESSION] = session_of(config)
    config.stash[SESSION].notices += repeated(config)
    if (command := config.getoption("harness_progress", None)) is not None:
        progress = RunProgress(command, live=not config.getoption("harness_in_process"))
        config.pluginmanager.register(progress, PLUGIN_NAME)
    benchmark_options.prepare(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Restore the handlers of signals."""
    config.stash.get(_RESTORE_SIGNALS, lambda: None)()
    if config.getoption("harness_progress", None) is not None:  # pytest itself leaves what it always leaves
        benchmark_options.remove_empty_storage(config)


def selection(config: pytest.Config) -> Selection:
    """The profile, device, dtype, lengths and attentions that the user asked for."""
    return config.stash[SESSION].selection


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise a test with its cases; the test id is the case id."""
    if "case" not in metafunc.fixturenames:
        return
    marker = next((mark for mark in metafunc.definition.iter_markers() if mark.name in KINDS), None)
    if marker is None:
        if not _is_our_case(metafunc):
            return
        raise pytest.UsageError(f"{metafunc.definition.nodeid} uses `case` without one of the markers {[*KINDS]}")
    metafunc.config.stash[_HAS_CASES] = True
    make_specs = marker.kwargs.get("specs", KINDS[marker.name])
    specs = make_specs(selection(metafunc.config))
    cases_in_rounds = [
        pytest.param(spec, id=spec.case_id if number == 1 else f"{spec.case_id}-round{number}", marks=_marks(number))
        for number in range(1, 1 + metafunc.config.stash[SESSION].rounds)
        for spec in specs
        if number == 1 or spec.kind in TIMED_KINDS
    ]
    metafunc.parametrize("case", cases_in_rounds, indirect=True)


def _marks(number: int) -> list[pytest.MarkDecorator]:
    return [] if number == 1 else [getattr(pytest.mark, ROUND)(number)]


def _is_our_case(metafunc: pytest.Metafunc) -> bool:
    """Whether the argument ``case`` of a test is this module's fixture, and not a parameter or fixture of its own."""
    if any("case" in str(mark.args[:1]) for mark in metafunc.definition.iter_markers("parametrize")):
        return False
    fixtures = metafunc.definition._fixtureinfo.name2fixturedefs.get("case", ())
    return bool(fixtures) and fixtures[-1].func.__module__ == __name__


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give timed cases the ``benchmark`` fixture, so that --benchmark-only and --benchmark-skip apply to them.

    Where each attention has a process of its own, the cases then run attention by attention, so that each process
    starts once. ``--harness-cases`` keeps the order of the suites.
    """
    if config.stash.get(_HAS_CASES, False) and (reason := reason_against_launcher()):
        pytest.exit(reason, returncode=pytest.ExitCode.INTERRUPTED)
    for item in items:
        spec = spec_of(item)
        if getattr(spec, "kind", None) in TIMED_KINDS and "benchmark" not in item.fixturenames:  # type: ignore[attr-defined]
            item.fixturenames.append("benchmark")  # type: ignore[attr-defined]
    session = config.stash[SESSION]
    if any(spec_of(item) is not None for item in items):
        items[:] = [item for item in items if not _has_no_parameters(item)]
    config.stash[_COLLECTED] = Counter()
    for spec in map(spec_of, items):
        if spec is not None:
            session.order.setdefault(spec.case_id, len(session.order))
            config.stash[_COLLECTED][spec.attention] += 1
    if not config.getoption("harness_cases", None):
        _order(items, session.runs_by_attention)


def _has_no_parameters(item: pytest.Item) -> bool:
    """Whether the run has no case for this test, which pytest would report as skipped."""
    has_kind = any(mark.name in KINDS for mark in item.iter_markers())
    return has_kind and "case" in getattr(item, "fixturenames", ()) and spec_of(item) is None


def _order(items: list[pytest.Item], by_attention: bool) -> None:
    """Bring all cases of one round together, and in it all of one attention if asked for, at the place of the first
    case; nothing else changes its order."""
    if not by_attention and all(round_of(item) == 1 for item in items):
        return
    attentions: dict[str, int] = {}
    keys: dict[pytest.Item, tuple[int, int, int]] = {}
    first_case = next((place for place, item in enumerate(items) if spec_of(item) is not None), 0)
    for place, item in enumerate(items):
        spec = spec_of(item)
        if spec is None:
            keys[item] = (place, 0, 0)
        else:
            own = attentions.setdefault(spec.attention, len(attentions)) if by_attention else 0
            keys[item] = (first_case, round_of(item), own)
    items.sort(key=keys.__getitem__)


@pytest.hookimpl(tryfirst=True)  # before the number of cases is printed
def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a run without a case of an attention that the user named, and one without any case.

    Write the collected cases to the file of ``--harness-cases``, which ``harness ab`` reads.
    """
    config = session.config
    if config.stash.get(_HAS_CASES, False) and (reason := _reason_against_options(session)):
        raise pytest.UsageError(reason)
    missing = _without_case(config, session.items) if config.stash.get(_HAS_CASES, False) else []
    if missing and not session.testsfailed:
        raise pytest.UsageError("; ".join(missing))
    path = session.config.getoption("harness_cases", None)
    if path:
        specs = map(spec_of, session.items)
        chosen = selection(session.config)
        collected = {
            "profile": chosen.profile,
            "device": chosen.device,
            "specs": [spec.model_dump(mode="json") for spec in specs if spec is not None],
        }
        Path(path).write_text(json.dumps(collected), encoding="utf-8")


def _reason_against_options(session: pytest.Session) -> str | None:
    """Why the options do not allow a run of the collected cases; None if they do."""
    config = session.config
    reason = benchmark_options.reason_against(config, [item.nodeid for item in session.items])
    if reason is not None or config.option.collectonly:
        return reason
    log = config.stash[SESSION].log_path
    outputs = [("--benchmark-json", path)] if (path := json_path(config)) else []
    for option, path in [*outputs, ("--harness-log", log)]:
        if (reason := writable.reason_against(option, path)) is not None:
            return reason
    return benchmark_options.reason_against_storage(config)


def _without_case(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """Why there is no case of an attention that the user named, a sentence for each; and why there is none at all."""
    collected = config.stash.get(_COLLECTED, Counter())
    kept = [item for item in items if not benchmark_options.is_left_out(config, item)]
    left = {spec.attention for spec in map(spec_of, kept) if spec is not None}
    narrow = benchmark_options.OPTIONS_THAT_LEAVE_OUT if len(kept) < len(items) else "-k, -m or --deselect"
    chosen = selection(config)
    sentences = []
    for name in chosen.attentions or ():
        if name in left:
            continue
        if collected[name]:
            sentences.append(f"{name}: {narrow} leaves none of its {collected[name]} cases; widen them")
        elif chosen.is_comparison:
            sentences.append(
                f"{name}: none of the collected suites has a case of it alone in profile {chosen.profile!r}; --all "
                "adds models and tasks, and other profiles and suites have other cases"
            )
        else:
            sentences.append(
                f"{name}: none of the collected suites has a case of it in profile {chosen.profile!r}; choose another "
                "profile or suite"
            )
    if sentences:
        return [f"--attention: nothing to measure of {'; '.join(sentences)}"]
    others = [item for item in items if "case" not in getattr(item, "fixturenames", ())]
    if config.getoption("harness_progress", None) is not None and not left and not others:
        total = sum(collected.values())
        if total:
            return [f"no case is left: {narrow} leaves none of the {total} cases; widen them"]
        return ["no case is left: the suites have none that the options choose; name other lengths or another profile"]
    return []


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The case of this test."""
    return Case(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Measure the case of a test before the body runs; skip or fail the test if the status is not ok."""
    case = pyfuncitem.funcargs.get("case")
    if not isinstance(case, Case):
        return
    benchmark: Any = pyfuncitem.funcargs.get("benchmark")
    if benchmark is not None:
        benchmark._mode = "harness"  # marks the fixture as used, although it times nothing itself
        for name, value in benchmark_json.labels(case.spec).items():
            setattr(benchmark, name, value)
    pyfuncitem.config.stash[SESSION].begin_round(round_of(pyfuncitem))
    try:
        case.record = pyfuncitem.config.stash[SESSION].measure(case.spec, pyfuncitem.nodeid)
    except pytest.fail.Exception as error:  # another plugin has stopped the test, as pytest-timeout does
        reason = f"stopped by another plugin of pytest: {error.msg}"
        case.record = pyfuncitem.config.stash[SESSION].add_stopped(case.spec, reason, pyfuncitem.nodeid)
    except StoreError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.INTERRUPTED)  # later records could not be logged either
    pyfuncitem.user_properties.append(("harness", one_line(case.record, _error_of(pyfuncitem, case.record))))
    status, reasons = case.record.status, case.record.reasons
    if status == "unsupported":
        pytest.skip("; ".join(reasons))
    if status != "ok":
        pytest.fail("\n".join([f"{status}: {reasons[0]}", *reasons[1:]]), pytrace=False)
    if benchmark is not None and benchmark.enabled:
        _copy_samples(pyfuncitem.config, benchmark, case.record)


def _error_of(item: pytest.Function, record: Record) -> str | None:
    """The words for the error at the setting of a timed case, as far as the run has measured it."""
    session = item.config.stash[SESSION]
    specs = map(spec_of, item.session.items)
    measured = {other.case_id for other in session.records}
    to_come = (spec for spec in specs if spec is not None and spec.kind == "quality" and spec.case_id not in measured)
    return error_beside(record, session.records, any(spec.attention == record.spec.attention for spec in to_come))


def _copy_samples(config: pytest.Config, benchmark: Any, record: Record) -> None:
    """Copy the record's samples into pytest-benchmark's statistics, which has no public way to do so."""
    timing = record.timing
    if timing is None:
        return
    stored = config._benchmarksession.benchmarks  # type: ignore[attr-defined]
    # Those of the same test are replaced when it is run again, as pytest-rerunfailures does.
    stored[:] = [stats for stats in stored if stats.fullname != benchmark.fullname]
    benchmark.extra_info.update(benchmark_json.extra_info(record))
    stats = benchmark._make_stats(timing.calls_per_sample)
    stats.options = benchmark_json.options(timing, config.stash[SESSION].effort)
    benchmark_json.add_samples(stats, record)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """In verbose mode, show the result of a passed case instead of PASSED."""
    result = dict(report.user_properties).get("harness") if report.when == "call" and report.passed else None
    return ("passed", ".", str(result)) if result else None


@pytest.hookimpl(optionalhook=True)  # without pytest-benchmark, `pytest_configure` says so
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Remove the host name."""
    benchmark_json.without_host(machine_info)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add the run to the benchmark JSON."""
    benchmark_json.add_run(output_json, config.stash[SESSION].run())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Write the JSON also when no case was timed, in which case pytest-benchmark writes none; set the exit code."""
    config = session.config
    benchmarks = config._benchmarksession  # type: ignore[attr-defined]
    if session.exitstatus == pytest.ExitCode.USAGE_ERROR:
        benchmarks.save = benchmarks.autosave = None  # otherwise it warns that there is nothing to save
    disturbed_comparisons.ignore_disturbed(config, config.stash[SESSION])
    if benchmarks.json and not benchmarks.benchmarks:
        is_refused = config.stash[SESSION].is_refused or session.exitstatus == pytest.ExitCode.USAGE_ERROR
        # An earlier run is worth more than one that ended before it measured anything.
        path = json_path(config)
        if not config.stash[SESSION].has_measured and path is not None and path.exists():
            config.stash[_KEPT_JSON] = path
        elif not config.option.collectonly and not is_refused:
            hook = config.hook
            machine_info = benchmarks.get_machine_info()
            commit_info = hook.pytest_benchmark_generate_commit_info(config=config)
            output = hook.pytest_benchmark_generate_json(
                config=config, benchmarks=[], include_data=True, machine_info=machine_info, commit_info=commit_info
            )
            hook.pytest_benchmark_update_json(config=config, benchmarks=[], output_json=output)
            benchmarks.save_json(output)
        benchmarks.json = None  # otherwise pytest-benchmark warns that there is nothing to save
    config.stash[SESSION].close()
    if (code := ending_signals.exit_code()) is not None and ending_signals.received != signal.SIGINT:
        session.exitstatus = code  # pytest's own code for Ctrl-C is 2
    if session.exitstatus == pytest.ExitCode.OK and _without_result(config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    result = yield
    if config.stash[SESSION].inconclusive and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = INCONCLUSIVE
    return result


def _without_result(config: pytest.Config) -> list[str]:
    """A line for each attention that the user named and that has no case of status ok."""
    if config.option.collectonly or not config.stash.get(_HAS_CASES, False):
        return []
    return config.stash[SESSION].attentions_without_result()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Print what the run says, the tables, the number of cases by status, the files, and what to do next."""
    session = config.stash[SESSION]
    write = terminalreporter.write_line
    progress: RunProgress | None = config.pluginmanager.get_plugin(PLUGIN_NAME)
    for text in progress.other_failures() if progress else []:
        write(text, red=True)
    is_interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
    # After an interruption their cases were perhaps still to come, and what was refused says why by itself.
    has_ended = not is_interrupted and exitstatus != pytest.ExitCode.USAGE_ERROR
    without_result = _without_result(config) if has_ended else []
    inconclusive = disturbed_comparisons.inconclusive_line(session)
    kept_json = config.stash.get(_KEPT_JSON, None) if has_ended else None
    if session.records or without_result or session.notices or kept_json or inconclusive:
        terminalreporter.section("harness")
    if kept_json:
        write(f"no case was measured: {kept_json} is that of an earlier run")
    for line in session.notices:
        write(line)
    if inconclusive:
        write(inconclusive, yellow=True)
    for line in without_result:
        write(line, red=True)
    for line in session.attentions_with_findings():
        write(line, yellow=True)
    if not session.records:
        return
    records = session.run().records
    named = session.selection.attentions or ()
    width = config.get_terminal_writer().fullwidth
    said = [*result_sentences(records, named), *tables(records, width, named)]
    for line in wrapped(said, width) if terminalreporter.isatty else said:
        write(line)
    if (disturbance := session.disturbance()) is not None:
        write("")
        sentence = [disturbance.sentence]
        for line in wrapped(sentence, width) if terminalreporter.isatty else sentence:
            write(line, yellow=True)
    counts = session.counts()
    write("")
    write("cases: " + ", ".join(f"{counts[status]} {status}" for status in get_args(Status) if counts[status]))
    path = json_path(config)
    if path and not kept_json:
        write(f"JSON: {path}")
    write(f"log: {session.log_path}")
    if is_interrupted or any(record.not_begun for record in records):
        write(f"not all cases were measured; continue with: {_resume_line(config, progress)}")
    if path and progress is None:  # `harness run` writes the report itself
        write(f"for the report: {shlex.join(['harness', 'report', str(path)])}")


def _resume_line(config: pytest.Config, progress: RunProgress | None) -> str:
    """The command line that continues the run, which did not measure all of its cases."""
    log = config.stash[SESSION].log_path
    if progress is not None:
        return progress.resume_line(log)
    words = [word for word in map(str, config.invocation_params.args) if not word.startswith("--resume=")]
    while "--resume" in words:
        place = words.index("--resume")
        del words[place : place + 2]
    return shlex.join(["pytest", *words, f"--resume={log}"])
