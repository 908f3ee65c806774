"""Makes the harness's options known to ``pytest --pyargs harness.conformance`` and ``pytest --pyargs harness.suites``.

pytest parses the command line before it looks into a package that ``--pyargs`` names, so a conftest in the package
would register the options too late. This module is therefore a pytest entry point. It imports almost nothing, because
pytest loads it in every session of an environment that has the harness installed.
"""

import pytest

PACKAGES = ("harness.conformance", "harness.suites")


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Load the harness's pytest plugin where the command line names the conformance tests or the suites."""
    arguments = early_config.known_args_namespace
    names_package = any(argument.split("::")[0].startswith(PACKAGES) for argument in arguments.file_or_dir)
    if arguments.pyargs and names_package:
        early_config.pluginmanager.import_plugin("harness.pytest_plugin")
