"""The pytest plugin: a suite loads it with ``pytest_plugins = ["harness.pytest_plugin"]``.

``hooks`` has the functions that pytest calls, and says how a suite is written; ``options`` the command-line options,
``session`` the run in progress, ``terminal`` the summary at the end.
"""

from harness.pytest_plugin.hooks import *  # noqa: F403  pytest looks for hooks and fixtures in this module
