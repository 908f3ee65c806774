"""The attentions that the kit's tests run over."""

import pytest

from harness.conformance.attention import Attention
from harness.core import registry
from harness.pytest_plugin import selection

pytest_plugins = ["harness.pytest_plugin"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test runs once an attention."""
    if "attention_name" in metafunc.fixturenames:
        metafunc.parametrize("attention_name", selection(metafunc.config).chosen(registry.names()))


@pytest.fixture
def attention(attention_name: str, request: pytest.FixtureRequest) -> Attention:
    """The attention under test; its device and dtype are the user's."""
    chosen = selection(request.config)
    try:
        plugin = registry.get(attention_name)
    except registry.RegistryError as error:  # test_it_loads fails with it
        pytest.skip(str(error))
    return Attention(plugin, chosen.device, chosen.dtypes[0])
