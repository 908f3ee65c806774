"""Models trained from scratch with each attention inside: their accuracy on held-out data."""

import pytest

from harness.pytest_plugin import Case


@pytest.mark.task
def test_task(case: Case) -> None:
    assert case.record.task is not None
