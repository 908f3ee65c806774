"""The pytest plugin: a suite loads it with ``pytest_plugins = ["harness.pytest_plugin"]``.

``hooks`` has the functions that pytest calls, and says how a suite is written; ``options`` the command-line options,
``session`` the run in progress, ``terminal`` what it says, ``progress`` the output of ``harness run`` while it runs.
"""

from harness.pytest_plugin.hooks import *  # noqa: F403  pytest looks for hooks and fixtures in this module
