"""What the parts of the plugin ask pytest for: the run in progress, and the cases of the collected tests."""

import pytest

from harness.core.spec import AnySpec, Spec
from harness.pytest_plugin.session import HarnessSession

SESSION = pytest.StashKey[HarnessSession]()
"""Where a pytest configuration keeps the run in progress."""


def spec_of(item: pytest.Item) -> AnySpec | None:
    """The case of a test; None if it has none."""
    spec = item.callspec.params.get("case") if hasattr(item, "callspec") else None
    return spec if isinstance(spec, Spec) else None  # type: ignore[return-value]  # every Spec is one of AnySpec


ROUND = "harness_round"
"""The marker with the number of a test's round; a test without it is of the first."""


def round_of(item: pytest.Item) -> int:
    """The round in which a test measures its case."""
    marker = item.get_closest_marker(ROUND)
    return 1 if marker is None else int(marker.args[0])
