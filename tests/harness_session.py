"""Fixtures for running a pytest session with the harness's plugin inside a test."""

import pytest

from harness.cases import runner
from harness.core import registry
from harness.core.spec import OperationSpec
from harness.core.store import load
from harness.profiles.selection import Selection

SUITE = """
import pytest
from harness.core.spec import OperationSpec, QualitySpec

def specs(selection):
    return [OperationSpec(attention=name, seq_len=128, heads=2) for name in {names}]

@pytest.mark.operation(specs=specs)
def test_operation(case):
    assert case.record.timing is not None
"""


@pytest.fixture(scope="session")
def attentions_imported():
    """Imports what the attentions import before the first inner session.

    pytester unloads the modules that an inner session imported, but torch operators register only once per process.
    """
    for name in registry.names():
        plugin = registry.get(name)
        plugin.unsupported(spec := OperationSpec(attention=name, seq_len=16))
        runner.run(spec, Selection().effort)


@pytest.fixture
def out(pytester):
    """The folder of the benchmark JSON."""
    pytester.mkdir("out")


@pytest.fixture
def suite(pytester):
    """Writes a suite of one case per named attention; the plugin is loaded by its conftest or by the module."""

    def write(names, loaded_by="conftest"):
        source = SUITE.format(names=names)
        if loaded_by == "conftest":
            pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
        else:
            source = 'pytest_plugins = ["harness.pytest_plugin"]\n' + source
        return pytester.makepyfile(test_suite=source)

    return write


@pytest.fixture
def added():
    """Registers plugins until the end of the test and returns their names."""
    names = []

    def add(*plugins):
        for plugin in plugins:
            registry.add(plugin)
            names.append(plugin.name)
        return [plugin.name for plugin in plugins]

    yield add
    for name in names:
        registry.remove(name)


PROCESS_OPTIONS = ("--isolate", "--worker", "--in-process", "--case-timeout")


@pytest.fixture
def run_session(pytester):
    """Runs a pytest session that writes a benchmark JSON; with ``--in-process`` unless other processes are asked for.

    ``processes=True`` asks for those that a session has without an option. A suite that loads the plugin in its module
    needs it, because it has no options.
    """

    def run(*arguments, processes=False):
        named = processes or any(argument.startswith(PROCESS_OPTIONS) for argument in arguments)
        options = [] if named else ["--in-process"]
        return pytester.runpytest_inprocess("-W", "error", "--benchmark-json=out/run.json", *options, *arguments)

    return run


@pytest.fixture
def stored_run(pytester):
    """Reads the run from the benchmark JSON."""
    return lambda: load(pytester.path / "out" / "run.json")
