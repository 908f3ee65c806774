"""Plugins of pytest, and launchers, under which the harness cannot measure; and those that stop or repeat a test."""

import json

import pytest

import harness.pytest_plugin.hooks  # noqa: F401  pytester unloads what an inner session imports, and numpy loads once
from harness.core.store import load
from harness.measure import ceilings
from harness.pytest_plugin.other_plugins import reason_against_launcher

pytest_plugins = ["pytester", "harness_session"]
pytestmark = pytest.mark.usefixtures("out")


@pytest.fixture(autouse=True)
def _without_ceilings(monkeypatch):
    monkeypatch.setattr(ceilings, "measure", lambda device: [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tx", "2*popen", "--dist", "load"], "*xdist (-n, --tx, --dist, -d) must be left out*"),
        (["-n", "2"], "*xdist (-n, --tx, --dist, -d) must be left out*"),
        (["-p", "no:benchmark"], "*leave out -p no:benchmark*"),
        (["--codspeed"], "*leave out --codspeed*"),
    ],
)
def test_an_option_of_another_plugin_that_the_harness_cannot_serve_is_refused_in_words(pytester, suite, options, words):
    suite(["sdpa"])
    with (pytester.path / "conftest.py").open("a") as conftest:  # the option of a plugin that is not installed
        conftest.write("\ndef pytest_addoption(parser):\n    parser.addoption('--codspeed', action='store_true')\n")
    result = pytester.runpytest_inprocess(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {words}"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_the_processes_of_torchrun_do_not_time_the_same_cases(suite, run_session, monkeypatch, pytester):
    suite(["sdpa"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = run_session()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*one of several (WORLD_SIZE=2, RANK=1)*start it once*"])
    assert not (pytester.path / "out" / "run.log.jsonl").exists()


@pytest.mark.parametrize(
    ("variables", "refused"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, True),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, False),  # a batch script of an allocation
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "8"}, True),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "3"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, True),
        ({"WORLD_SIZE": "two"}, False),
        ({}, False),
    ],
)
def test_a_process_among_several_is_recognised_by_the_variables_of_its_launcher(variables, refused):
    assert (reason_against_launcher(variables) is not None) == refused


STOPPING = """
import signal
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item):  # as pytest-timeout does
    def stop(*_):
        pytest.fail("Timeout (>0.1s) from pytest-timeout.")
    if "softmax" in item.nodeid:
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
"""


def test_a_case_that_pytest_timeout_stops_has_a_record_and_the_next_is_measured(
    pytester, suite, run_session, stored_run
):
    suite(["softmax", "sdpa"])
    with (pytester.path / "conftest.py").open("a") as conftest:
        conftest.write(STOPPING)
    run_session("--worker").assert_outcomes(passed=1, failed=1)
    stopped, measured = stored_run().records
    assert (stopped.spec.attention, stopped.status) == ("softmax", "timeout")
    assert stopped.reasons == ["stopped by another plugin of pytest: Timeout (>0.1s) from pytest-timeout."]
    assert (measured.spec.attention, measured.status) == ("sdpa", "ok")
    assert load(pytester.path / "out" / "run.log.jsonl").records == [stopped, measured]


RERUNNING = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):  # as pytest-rerunfailures does
    for count in range(3):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if count == 2 or not any(report.failed for report in reports):
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
            return True
"""


def test_the_record_of_a_test_that_is_run_again_replaces_the_first(pytester, suite, run_session, stored_run):
    suite(["softmax", "sdpa"])
    path = pytester.path / "test_suite.py"
    path.write_text(path.read_text().replace("case.record.timing is not None", "case.spec.attention != 'softmax'"))
    with (pytester.path / "conftest.py").open("a") as conftest:
        conftest.write(RERUNNING)
    run_session("--worker").assert_outcomes(passed=1, failed=1)
    records = stored_run().records
    assert [record.spec.attention for record in records] == ["softmax", "sdpa"]
    assert load(pytester.path / "out" / "run.log.jsonl").records == records
    benchmarks = json.loads((pytester.path / "out" / "run.json").read_text())["benchmarks"]
    assert len(benchmarks) == 2


def test_a_suite_below_the_folder_that_is_collected_is_loaded_without_an_error(pytester, suite, request):
    conftest = (request.config.rootpath / "suites" / "conftest.py").read_text()
    folder = pytester.mkdir("suites")
    (folder / "conftest.py").write_text(conftest)
    suite(["sdpa"]).rename(folder / "test_suite.py")
    (pytester.path / "conftest.py").unlink()
    (pytester.mkdir("tests") / "test_own.py").write_text(OWN_CASES)
    pytester.runpytest_inprocess(".", "--collect-only", "-q").stdout.fnmatch_lines(["4 tests collected*"])


OWN_CASES = """
import pytest

@pytest.mark.parametrize("case", [1, 2])
def test_parametrized(case):
    pass

@pytest.fixture
def case():
    pass

def test_own_fixture(case):
    pass
"""
