"""The encoder, bare and under five task heads: forward, and a training step."""

import pytest

from harness.pytest_plugin import Case


@pytest.mark.model
def test_model(case: Case) -> None:
    assert case.record.memory is not None
