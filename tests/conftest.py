"""Shared fixtures, the selection of tests for ``make check``, and tests that run alone under pytest-xdist."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts_of_the_tests import files_of_part

HERE = Path(__file__).parent
DURATIONS = HERE / "durations.json"
"""Seconds of each test that took longer than ``RECORDED_FROM``; ``pytest tests --record-durations`` writes it."""
RECORDED_FROM = 0.2
CHECK_SECONDS = 1.0
"""``--check`` leaves out tests that took longer than this."""
NOT_IN_CHECK = ("report/test_report_browser.py", "report/test_report_print.py", "models/test_guides.py")
"""Files that ``--check`` leaves out whole: they need a browser, or run the documentation."""
_measured: dict[str, float] = {}

# A pytest session that a test starts is not a worker of this run; pytest-benchmark would refuse to time in a worker.
os.environ.pop("PYTEST_XDIST_WORKER", None)


class _FileLock:
    """A lock on an existing file or folder, exclusive or shared, that ends with the process at the latest."""

    def __init__(self, path: Path, kind: int = fcntl.LOCK_EX) -> None:
        self._file = os.open(path, os.O_RDONLY)
        fcntl.flock(self._file, kind)

    def release(self) -> None:
        # A forked child may hold the same open file, so closing it here would not release the lock.
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        self.release()
        os.close(self._file)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this project's own tests."""
    group = parser.getgroup("yoso-harness tests")
    group.addoption("--check", action="store_true", help="run only the tests that `make check` runs")
    group.addoption("--part", metavar="I/N", help="run only one of N parts of the test files, which take equally long")
    group.addoption("--record-durations", action="store_true", help=f"write {DURATIONS.name} from this run")


def pytest_configure(config: pytest.Config) -> None:
    """Two workers share the cores: idle OpenMP threads must sleep instead of spinning on the other worker's core."""
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the fast tests with ``--check``, and one part of the files with ``--part``."""
    check, part = config.getoption("check"), config.getoption("part")
    if not check and not part:
        return
    seconds: dict[str, float] = json.loads(DURATIONS.read_text(encoding="utf-8"))
    of_part = files_of_part(part, {item.path for item in items}, seconds) if part else set()
    kept, left_out = [], []
    for item in items:
        in_file = item.path.relative_to(HERE).as_posix() if item.path.is_relative_to(HERE) else ""
        slow = seconds.get(item.nodeid, 0.0) > CHECK_SECONDS or item.get_closest_marker("alone") is not None
        not_in_check = check and (slow or in_file in NOT_IN_CHECK)
        (left_out if not_in_check or (part and item.path not in of_part) else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Measure the tests for ``--record-durations``; under pytest-xdist the reports of all workers arrive here."""
    if report.when == "call":
        _measured[report.nodeid] = report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what ``--record-durations`` asks for."""
    if session.config.getoption("record_durations") and not hasattr(session.config, "workerinput"):
        slow = {name: round(seconds, 1) for name, seconds in sorted(_measured.items()) if seconds > RECORDED_FROM}
        DURATIONS.write_text(json.dumps(slow, indent=0) + "\n", encoding="utf-8")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Under pytest-xdist, run a test that is marked ``alone`` while no other test runs.

    Every test holds a shared lock on the tests' folder while it runs; a test marked ``alone`` holds an exclusive one.
    The lock on ``conftest.py`` is taken first and keeps later tests waiting, so that an ``alone`` test is not starved.
    """
    if not hasattr(item.config, "workerinput"):
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with contextlib.closing(_FileLock(HERE / "conftest.py")) as queue, contextlib.closing(_FileLock(HERE, kind)):
        if not alone:
            queue.release()
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _native_kernels_are_built_once(request: pytest.FixtureRequest) -> None:
    """Under pytest-xdist, let the first worker build the CPU kernels while the others wait.

    If they cannot be built, the tests of the kernels report why.
    """
    if hasattr(request.config, "workerinput"):
        from yoso import build

        with contextlib.closing(_FileLock(build.SOURCES)), contextlib.suppress(build.BuildError):
            build.library()


@pytest.fixture(scope="session")
def _shim_library():
    # Imported here, because the import takes time and few tests need the shim.
    from cuda_shim.shim import KERNELS, Shim, library

    with contextlib.closing(_FileLock(KERNELS)):
        built = library(sanitized="YOSO_SHIM_SANITIZED" in os.environ)
    return Shim(built)


def _shim_orders() -> list[int]:
    """The orders of threads that ``YOSO_SHIM_ORDERS`` lists, separated by commas; by default three."""
    return [int(order) for order in os.environ.get("YOSO_SHIM_ORDERS", "0,1,2").split(",")]


@pytest.fixture(
    params=_shim_orders(),
    ids=lambda order: {0: "ascending", 1: "descending", 2: "random"}.get(order, f"random{order}"),
)
def shim(_shim_library, request):
    """The CUDA kernels on the CPU, once per order of threads: a missing barrier changes results between orders."""
    _shim_library.set_order(request.param)
    yield _shim_library
    _shim_library.set_device()
