"""Loads the harness's pytest plugin for ``pytest --pyargs harness.conformance``, and does nothing else.

pytest reads the command line before it looks into a package that ``--pyargs`` names: the kit's own conftest would come
too late to make ``--attention`` known. So this module is an entry point of pytest's. It imports next to nothing, since
pytest loads it in every session of an environment that has the harness.
"""

import pytest

KIT = "harness.conformance"


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Add the harness's options where the kit is named on the command line."""
    given = early_config.known_args_namespace
    named = any(word.split("::")[0].startswith(KIT) for word in given.file_or_dir)
    if given.pyargs and named:
        early_config.pluginmanager.import_plugin("harness.pytest_plugin")
