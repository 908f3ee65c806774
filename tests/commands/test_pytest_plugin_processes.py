"""Cases of a pytest session in processes of their own: timeout, crash, Ctrl-C, deadline."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from inner_run import block, run

from harness.core.store import load

pytest_plugins = ["pytester", "harness_session"]
pytestmark = pytest.mark.usefixtures("imported", "out")


def test_a_timeout_is_a_failure_of_one_case(pytester, suite):
    suite(["sdpa"])
    run(pytester, "--case-timeout=0.05").assert_outcomes(failed=1)
    (record,) = block(pytester).records
    assert (record.status, record.reasons) == ("timeout", ["stopped after 0.05 s"])


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
sys.path.insert(0, {tests!r})
pytest_plugins = ["harness.pytest_plugin"]
import wrong_attentions as wrong
from harness import registry
def slow(q, k, v, mask):
    open("slow-began", "w").close()
    time.sleep(60)
registry.add(wrong.plugin_of(slow))
"""


def test_ctrl_c_leaves_a_valid_log_and_json_of_the_finished_cases(pytester, suite):
    suite(["sdpa", "softmax", "slow", "sdpa_math"])
    (pytester.path / "conftest.py").write_text(SLOW.format(tests=str(Path(__file__).parents[1])))
    command = [sys.executable, "-m", "pytest", "--benchmark-json=out/run.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + 60
        while not (pytester.path / "slow-began").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        screen, _ = process.communicate(timeout=30)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    for name in ("run.log.jsonl", "run.json"):
        found = load(pytester.path / "out" / name)
        assert [(r.spec.attention, r.status) for r in found.records] == [("sdpa", "ok"), ("softmax", "ok")]
    assert "cases: 2 ok" in screen


def test_a_worker_runs_all_cases_and_outlives_one_that_crashes(pytester):
    pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    pytester.makepyfile(
        test_suite="""
        import pytest
        from harness.core.spec import OperationSpec

        def specs(selection):
            knobs = ({}, {"nonsense": 1}, {})
            return [OperationSpec(attention="sdpa", seq_len=64 + i, knobs=k) for i, k in enumerate(knobs)]

        @pytest.mark.operation(specs=specs)
        def test_operation(case):
            assert case.record.timing is not None
        """
    )
    result = run(pytester, "--worker", "--case-timeout=60")
    result.assert_outcomes(passed=2, failed=1)
    assert [record.status for record in block(pytester).records] == ["ok", "crashed", "ok"]


def test_one_process_for_all_and_one_for_each_are_two_wishes(pytester, suite):
    suite(["sdpa"])
    result = run(pytester, "--worker", "--isolate")
    result.stderr.fnmatch_lines(["*--worker is one process for all cases*"])


def test_cases_that_the_deadline_left_out_are_records(pytester, suite):
    suite(["sdpa", "softmax"])
    result = run(pytester, "--deadline=0")
    result.assert_outcomes(failed=2)
    records = block(pytester).records
    assert {record.status for record in records} == {"timeout"}
    assert records[0].reasons == ["not begun: the run's 0 s were over"]
    assert {one.name for one in block(pytester).ceilings} == {"copy", "matmul float32", "vector float32"}
