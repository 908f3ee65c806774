"""Runs every conformance test once for each selected attention, and reports attentions of which nothing was tested."""

import unittest
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import Any

import _pytest
import pytest
import torch

from harness.conformance.attention_under_test import AttentionUnderTest
from harness.core import registry
from harness.core.record_text import exception_text
from harness.pytest_plugin import selection

pytest_plugins = ["harness.pytest_plugin"]

HERE = Path(__file__).parent
PYTEST = Path(_pytest.__file__).parent
NAMED_REASONS = 2
"""Reasons for skipped tests that the line about an untested attention has."""


@dataclass
class _Tested:
    """What was tested, by name of attention."""

    names: set[str] = field(default_factory=set)
    """Attentions that the collected tests are parametrized with."""
    built: set[str] = field(default_factory=set)
    """Attentions whose module was built."""
    finished: set[str] = field(default_factory=set)
    """Attentions with a test that passed or failed."""
    skipped: dict[str, list[str]] = field(default_factory=dict)
    """Reasons of the skipped tests."""

    def untested(self) -> list[str]:
        """Attentions whose module was not built although a test of it was selected, or of which no test ran."""
        without_module = self.names - self.built
        return sorted(name for name in without_module if name in self.skipped or name not in self.finished)


_TESTED = pytest.StashKey[_Tested]()


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
    return AttentionUnderTest(plugin, chosen.device, chosen.dtypes[0], _tested(request.config).built)


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
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note which attentions have tests that ran, and why the others were skipped."""
    report: Any = yield
    name = item.callspec.params.get("attention_name") if hasattr(item, "callspec") else None
    if name is not None:
        tested = _tested(item.config)
        if report.skipped and isinstance(report.longrepr, tuple):
            tested.skipped.setdefault(name, []).append(report.longrepr[2].removeprefix("Skipped: "))
        elif report.when == "call":
            tested.finished.add(name)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Set the exit code to 1 if nothing was tested."""
    if session.exitstatus == pytest.ExitCode.OK and not session.config.option.collectonly:
        tested = _tested(session.config)
        untested = tested.untested()
        named = selection(session.config).attentions is not None
        if untested and (named or len(untested) == len(tested.names)):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name each attention of which nothing was tested, with reasons."""
    tested = _tested(config)
    untested = [] if config.option.collectonly else tested.untested()
    if untested:
        terminalreporter.section("conformance")
    for name in untested:
        reasons = dict.fromkeys(reason for reason in tested.skipped.get(name, []) if "is not declared" not in reason)
        why = "; ".join([*reasons][:NAMED_REASONS]) or "none of its tests was selected"
        terminalreporter.write_line(f"nothing was tested of the module of {name}: {why}", red=True)
