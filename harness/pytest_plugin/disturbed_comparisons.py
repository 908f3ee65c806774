"""``--benchmark-compare-fail`` with times that other processes disturbed, which show no regression."""

from typing import Any

import pytest

from harness.pytest_plugin.session import HarnessSession


class UndisturbedCheck:
    """A check of pytest-benchmark's that fails only with two times that nothing disturbed.

    Args:
        check: pytest-benchmark's, for example that the mean is at most 5% longer.
        benchmarks: pytest-benchmark's session.
        session: the run, whose records say what was disturbed.
    """

    def __init__(self, check: Any, benchmarks: Any, session: HarnessSession) -> None:
        self._check = check
        self._benchmarks = benchmarks
        self._session = session

    def fails(self, current: Any, compared: dict[str, Any]) -> str | None:
        """What pytest-benchmark says about a time that is too long; None where it is not, or shows nothing."""
        failure: str | None = self._check.fails(current, compared)
        record = self._session.record_of(current.fullname)
        if failure is None or record is None:
            return failure
        is_disturbed = record.timing is not None and bool(record.timing.disturbed)
        if is_disturbed or record.case_id in self._disturbed_in_stored(compared["path"]):
            self._session.inconclusive.setdefault(record.case_id, None)
            return None
        return failure

    def _disturbed_in_stored(self, path: str) -> set[str]:
        """The cases that were disturbed in a stored run; none in a run of pytest-benchmark alone."""
        which = () if self._benchmarks.compare is True else (self._benchmarks.compare,)
        stored = next(run for name, run in self._benchmarks.storage.load(*which) if str(name) == path)
        records = stored.get("harness", {}).get("records", [])
        return {record["case_id"] for record in records if (record.get("timing") or {}).get("disturbed")}


def ignore_disturbed(config: pytest.Config, session: HarnessSession) -> None:
    """Before pytest-benchmark compares: let its checks fail with undisturbed times only."""
    benchmarks = config._benchmarksession  # type: ignore[attr-defined]
    checks = benchmarks.compare_fail or []
    benchmarks.compare_fail = [UndisturbedCheck(check, benchmarks, session) for check in checks]


def inconclusive_line(session: HarnessSession) -> str | None:
    """The line about cases that are slower by disturbed times alone; None if there are none."""
    cases = list(session.inconclusive)
    if not cases:
        return None
    return (
        f"inconclusive: --benchmark-compare-fail finds {', '.join(cases)} slower, but other processes disturbed the "
        "times, of this run or of the stored one; measure again on an idle machine"
    )
