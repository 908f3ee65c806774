"""The suites run under the harness's pytest plugin."""

import pytest


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the plugin. Not with the variable ``pytest_plugins``, which pytest refuses here where it collects ``.``."""
    pluginmanager.import_plugin("harness.pytest_plugin")
