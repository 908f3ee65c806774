"""Fixtures of a pytest session within a test: the harness imported, and a suite of named attentions."""

import pytest

from harness.cases import runner
from harness.core import registry
from harness.core.spec import OperationSpec
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
def imported():
    """pytester forgets what a session inside this process imported; torch registers operators once a process."""
    for name in registry.names():
        plugin = registry.get(name)
        plugin.unsupported(spec := OperationSpec(attention=name, seq_len=16))
        runner.run(spec, Selection().effort)


@pytest.fixture
def suite(pytester):
    def write(names, loaded="conftest"):
        source = SUITE.format(names=names)
        if loaded == "conftest":
            pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
        else:
            source = 'pytest_plugins = ["harness.pytest_plugin"]\n' + source
        return pytester.makepyfile(test_suite=source)

    return write


@pytest.fixture
def added():
    names = []

    def add(*plugins):
        for plugin in plugins:
            registry.add(plugin)
            names.append(plugin.name)
        return [plugin.name for plugin in plugins]

    yield add
    for name in names:
        registry.remove(name)


@pytest.fixture
def out(pytester):
    pytester.mkdir("out")
