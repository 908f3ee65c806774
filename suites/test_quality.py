"""How far each attention is from what it estimates."""

import pytest

from harness.pytest_plugin import Case


@pytest.mark.quality
def test_quality(case: Case) -> None:
    assert case.record.quality is not None
