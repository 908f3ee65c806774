"""How far each attention is from what it estimates, on sharp inputs and on smooth ones; see docs/errors.md."""

import pytest

from harness.pytest_plugin import Case


@pytest.mark.quality
def test_quality(case: Case) -> None:
    assert case.record.quality is not None
