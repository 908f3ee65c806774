"""The harness inside pytest and pytest-benchmark: ``pytest_plugins = ["harness.pytest_plugin"]`` loads it.

``hooks`` has what pytest calls and says how a suite is written; ``options`` the command line, ``session`` the run in
progress, ``terminal`` its summary.
"""

from harness.pytest_plugin.hooks import *  # noqa: F403  pytest looks for its hooks and fixtures in this module
