"""The suites run under the harness's pytest plugin; these are the options of trained tasks.

They are environment variables inside, because a case may run in another process.
"""

import os
from pathlib import Path

import pytest

from harness.runner import CHECKPOINTS
from harness.tasks.data_files import DATA_DIR

pytest_plugins = ["harness.pytest_plugin"]
_FOLDERS = {"data_dir": DATA_DIR, "checkpoints": CHECKPOINTS}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where real data sets are, and where trainings are kept."""
    group = parser.getgroup("harness")
    group.addoption("--data-dir", metavar="DIR", help="folder of real data sets, see docs/tasks.md")
    group.addoption("--checkpoints", metavar="DIR", help="keep trainings here, and go on with those that were cut off")


def pytest_configure(config: pytest.Config) -> None:
    """Check the folders and hand them on."""
    for option, variable in _FOLDERS.items():
        given = config.getoption(option)
        if given is None:
            continue
        if option == "data_dir" and not Path(given).is_dir():
            raise pytest.UsageError(f"--data-dir must be a folder, got {given!r}")
        os.environ[variable] = str(Path(given).absolute())
