"""Runs every conformance test once for each selected attention."""

import pytest

from harness.conformance.attention_under_test import AttentionUnderTest
from harness.core import registry
from harness.pytest_plugin import selection

pytest_plugins = ["harness.pytest_plugin"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize each test over the selected attentions."""
    if "attention_name" in metafunc.fixturenames:
        metafunc.parametrize("attention_name", selection(metafunc.config).chosen(registry.names()))


@pytest.fixture
def attention(attention_name: str, request: pytest.FixtureRequest) -> AttentionUnderTest:
    """The attention under test, on the device and in the dtype of the command line."""
    chosen = selection(request.config)
    try:
        plugin = registry.get(attention_name)
    except registry.RegistryError as error:  # test_plugin_loads fails with this error
        pytest.skip(str(error))
    return AttentionUnderTest(plugin, chosen.device, chosen.dtypes[0])
