import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# A session within a test, or one that a test starts, is no worker of this run: pytest-benchmark times nothing in one.
os.environ.pop("PYTEST_XDIST_WORKER", None)


class _Lock:
    """Held by one process, or shared by several, until it ends at the latest; on a file that is there anyway."""

    def __init__(self, path: Path, how: int = fcntl.LOCK_EX) -> None:
        self._file = os.open(path, os.O_RDONLY)
        fcntl.flock(self._file, how)

    def release(self) -> None:
        # A process that was forked meanwhile has the file open, too: to close it here would not end the lock.
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        self.release()
        os.close(self._file)


def pytest_configure(config: pytest.Config) -> None:
    """Under ``pytest -n 2`` OpenMP's threads are as many as ever, and wait asleep: the other worker has the core."""
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Under ``pytest -n 2``, a test that is marked ``alone`` has the machine for itself.

    Every test goes through the door into the room. Who is to be alone stays in the door until the room is empty, and
    leaves it last.
    """
    if not hasattr(item.config, "workerinput"):
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with contextlib.closing(_Lock(HERE / "conftest.py")) as door, contextlib.closing(_Lock(HERE, how)):
        if not alone:
            door.release()
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _native_kernels_are_built_once(request: pytest.FixtureRequest) -> None:
    """Under ``pytest -n 2``, by the first worker that comes; where they cannot be built, the tests of them say why."""
    if hasattr(request.config, "workerinput"):
        from yoso.build import jit

        with contextlib.closing(_Lock(jit.SOURCES)), contextlib.suppress(jit.BuildError):
            jit.library()


@pytest.fixture(scope="session")
def _shim_library():
    # Imported here: the tests that need no shim need not wait for it.
    from cuda_shim.shim import KERNELS, Shim, library

    with contextlib.closing(_Lock(KERNELS)):
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
