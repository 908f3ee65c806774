"""Every failed check of a verification as a sentence, where a record gives only the cause and names."""

from collections.abc import Sequence

from harness.core.record import Check
from harness.measure.failure_reasons import failure


def of(checks: Sequence[Check]) -> list[str]:
    return [failure(check) for check in checks if not check.passed]
