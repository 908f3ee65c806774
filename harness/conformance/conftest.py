"""Runs every conformance test once for each selected attention, and reports attentions of which nothing was tested."""

import unittest
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import Any

import _pytest
import pytest
import torch

from harness.conformance.attention_under_test import AttentionUnderTest, Coverage, Refused
from harness.core import registry
from harness.core.record_text import exception_text
from harness.pytest_plugin import selection

HERE = Path(__file__).parent
PYTEST = Path(_pytest.__file__).parent
NAMED_REASONS = 2
"""Reasons for skipped tests that the line about an untested attention has."""


@dataclass
class _Tested:
    """What was tested, by name of attention."""

    names: set[str] = field(default_factory=set)
    """Attentions that the collected tests are parametrized with."""
    coverage: dict[str, Coverage] = field(default_factory=dict)
    finished: dict[str, set[str]] = field(default_factory=dict)
    """Test ids that passed or failed."""
    refused: dict[str, set[str]] = field(default_factory=dict)
    """Ids of tests whose case is unsupported although the capabilities declare what it needs."""
    skipped: dict[str, list[str]] = field(default_factory=dict)
    """Reasons of the skipped tests."""

    def coverage_of(self, name: str) -> Coverage:
        """The coverage of one attention, which its tests update."""
        return self.coverage.setdefault(name, Coverage())

    def untested(self) -> list[str]:
        """Attentions whose module was not built although a test of it was selected, or of which no test ran."""
        without_module = [name for name in self.names if not self.coverage_of(name).built]
        return sorted(name for name in without_module if name in self.skipped or name not in self.finished)

    def untested_abilities(self) -> dict[str, dict[str, str]]:
        """Abilities that an attention declares although it refused every test of them, with reasons."""
        found = {name: self.coverage_of(name).only_refused() for name in sorted(self.names - {*self.untested()})}
        return {name: abilities for name, abilities in found.items() if abilities}

    def mostly_refused(self) -> list[str]:
        """Attentions that refused most tests of what they declare."""
        return sorted(name for name, tests in self.refused.items() if len(tests) > len(self.finished.get(name, ())))


_TESTED = pytest.StashKey[_Tested]()


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the plugin. Not with the variable ``pytest_plugins``, which pytest refuses below the first conftest."""
    pluginmanager.import_plugin("harness.pytest_plugin")


def _tested(config: pytest.Config) -> _Tested:
    return config.stash.setdefault(_TESTED, _Tested())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize each test over the selected attentions."""
    if "attention_name" in metafunc.fixturenames:
        names = selection(metafunc.config).chosen(registry.names())
        _tested(metafunc.config).names.update(names)
        metafunc.parametrize("attention_name", names)


@pytest.fixture(autouse=True)
def _torch_settings_are_restored() -> Iterator[None]:
    """Undo what a plugin changes, so that no test runs with the settings that an earlier one left behind."""
    precision, threads, dtype = (
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
    )
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def attention(attention_name: str, request: pytest.FixtureRequest) -> AttentionUnderTest:
    """The attention under test, on the device and in the dtype of the command line."""
    chosen = selection(request.config)
    try:
        plugin = registry.get(attention_name)
    except registry.RegistryError as error:  # test_plugin_loads fails with this error
        pytest.skip(str(error))
    return AttentionUnderTest(
        plugin, chosen.device, chosen.dtypes[0], _tested(request.config).coverage_of(attention_name)
    )


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    """Fail a test whose plugin skips it or ends the session; only these tests themselves may skip."""
    try:
        return (yield)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        is_ordinary = isinstance(error, Exception) and not isinstance(error, unittest.SkipTest | pytest.exit.Exception)
        if is_ordinary or _was_raised_by_these_tests(error):
            raise
        reason = exception_text(error)
    pytest.fail(f"the plugin did what ends or skips a test: {reason}", pytrace=False)


def _was_raised_by_these_tests(error: BaseException) -> bool:
    files = [Path(frame.f_code.co_filename) for frame, _ in walk_tb(error.__traceback__)]
    outside_pytest = [file for file in files if not file.is_relative_to(PYTEST)]
    return bool(outside_pytest) and outside_pytest[-1].parent == HERE


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note which attentions have tests that ran, and why the others were skipped."""
    report: Any = yield
    name = item.callspec.params.get("attention_name") if hasattr(item, "callspec") else None
    if name is not None:
        tested = _tested(item.config)
        if report.skipped and isinstance(report.longrepr, tuple):
            tested.skipped.setdefault(name, []).append(report.longrepr[2].partition(": ")[2])
            if call.excinfo is not None and call.excinfo.errisinstance(Refused):
                tested.refused.setdefault(name, set()).add(item.name)
        elif report.when == "call":
            tested.finished.setdefault(name, set()).add(item.name)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Set the exit code to 1 if nothing was tested, or nothing of an ability that a named attention declares."""
    if session.exitstatus == pytest.ExitCode.OK and not session.config.option.collectonly:
        tested = _tested(session.config)
        untested = tested.untested()
        named = selection(session.config).attentions is not None
        if (untested and (named or len(untested) == len(tested.names))) or (named and tested.untested_abilities()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name causes that several tests have in common, and what was not tested, with reasons."""
    lines = [] if config.option.collectonly else [*_summary(_tested(config))]
    if lines:
        terminalreporter.section("conformance")
    for line in lines:
        terminalreporter.write_line(line, red=True)


def _summary(tested: _Tested) -> Iterator[str]:
    for name in sorted(tested.names):
        for mistake, count in Counter(tested.coverage_of(name).mistakes).items():
            tests = "one failed test has" if count == 1 else f"{count} failed tests have"
            yield f"{tests} one cause: what {name} computes equals {mistake}"
    for name in tested.untested():
        reasons = dict.fromkeys(reason for reason in tested.skipped.get(name, []) if "is not declared" not in reason)
        why = "; ".join([*reasons][:NAMED_REASONS]) or "none of its tests was selected"
        yield f"nothing was tested of the module of {name}: {why}"
    for name, abilities in tested.untested_abilities().items():
        for ability, why in abilities.items():
            yield f"{name} declares {ability}, but `unsupported` refused every test of it: {why}"
    for name in tested.mostly_refused():
        ran, refused = tested.finished.get(name, set()), tested.refused[name]
        functions = sorted({test.split("[")[0] for test in refused} - {test.split("[")[0] for test in ran})
        yield (
            f"only {len(ran)} of {len(ran) + len(refused)} tests of what {name} declares ran; `unsupported` refused "
            f"every case of {', '.join(functions)}"
        )
