"""A pytest session within a test, and the run that it leaves."""

from harness.core.store import load


def run(pytester, *arguments):
    return pytester.runpytest_inprocess("-W", "error", "--benchmark-json=out/run.json", *arguments)


def block(pytester):
    return load(pytester.path / "out" / "run.json")
