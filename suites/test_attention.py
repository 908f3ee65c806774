"""The attention alone: forward, and forward with backward."""

import pytest

from harness.pytest_plugin import Case


@pytest.mark.operation
def test_operation(case: Case) -> None:
    assert case.record.memory is not None
