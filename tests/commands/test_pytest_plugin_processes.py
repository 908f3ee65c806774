"""Cases of a pytest session in other processes, and interrupted sessions: timeout, crash, Ctrl-C, deadline."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.core.store import load

pytest_plugins = ["pytester", "harness_session", "installed_attentions"]
pytestmark = pytest.mark.usefixtures("attentions_imported", "out")


def test_a_timeout_fails_one_case(suite, run_session, stored_run):
    suite(["sdpa"])
    run_session("--case-timeout=0.05").assert_outcomes(failed=1)
    (record,) = stored_run().records
    assert (record.status, record.reasons) == ("timeout", ["stopped after 0.05 s"])


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background processes with SIGINT ignored
sys.path.insert(0, {tests!r})
pytest_plugins = ["harness.pytest_plugin"]
import wrong_attentions as wrong
from harness.core import registry
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
        output, _ = process.communicate(timeout=30)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    for name in ("run.log.jsonl", "run.json"):
        stored = load(pytester.path / "out" / name)
        assert [(r.spec.attention, r.status) for r in stored.records] == [("sdpa", "ok"), ("softmax", "ok")]
    assert "cases: 2 ok" in output


SLEEPING = """
import os, time
from harness.core.plugin import AttentionPlugin

class Sleeping(AttentionPlugin):
    name, summary, source = "sleeping", "never returns", "tests"

    def build(self, spec):
        with open("began", "w") as file:
            file.write(str(os.getpid()))
        os.rename("began", "sleeping-began")
        while True:
            time.sleep(60)

    def oracle(self, *arguments):
        raise AssertionError
"""


RUN = ["-c", "import sys, pytest; sys.exit(pytest.main(['--benchmark-json=out/run.json']))"]
HARNESS_RUN = ["-c", "from harness.commands.app import app; app()", "run", "test_suite.py", "--out=out/run.json"]


@pytest.mark.parametrize(
    ("command", "number", "ignored", "code"),
    [
        (RUN, signal.SIGINT, "", pytest.ExitCode.INTERRUPTED),
        (RUN, signal.SIGTERM, "SIGINT", 143),
        (HARNESS_RUN, signal.SIGINT, "", 130),
        (HARNESS_RUN, signal.SIGHUP, "SIGINT", 129),
    ],
    ids=["pytest SIGINT", "pytest SIGTERM", "harness run SIGINT", "harness run SIGHUP"],
)
def test_a_signal_ends_the_run_and_the_process_of_its_case_and_keeps_the_finished_records(
    pytester, suite, install, command, number, ignored, code
):
    install("sleeping_plugin", SLEEPING, sleeping="Sleeping")
    suite(["none", "sleeping"])
    began = pytester.path / "sleeping-began"
    # A shell starts background processes with SIGINT ignored, and Python then installs no handler.
    shell = f"import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_{'IGN' if ignored else 'DFL'}); "
    start = [sys.executable, "-c", shell + "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])", *command]
    with (
        (pytester.path / "printed").open("w") as printed,
        subprocess.Popen(start, cwd=pytester.path, stdout=printed) as process,
    ):
        deadline = time.monotonic() + 100
        while not began.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(timeout=30)
    assert process.returncode == code
    for name in ("run.log.jsonl", "run.json"):
        stored = load(pytester.path / "out" / name)
        assert [(record.spec.attention, record.status) for record in stored.records] == [("none", "ok")]
    assert not psutil.pid_exists(int(began.read_text()))
    text = (pytester.path / "printed").read_text()
    again = "harness run test_suite.py --out=out/run.json" if command is HARNESS_RUN else "pytest --benchmark-json="
    if number == signal.SIGINT:
        assert f"not all cases were measured; continue with: {again}" in text
        assert "out/run.log.jsonl\n" in text


def test_after_a_crash_the_remaining_cases_run_in_a_new_worker(pytester, run_session, stored_run):
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
    result = run_session("--worker", "--case-timeout=60")
    result.assert_outcomes(passed=2, failed=1)
    assert [record.status for record in stored_run().records] == ["ok", "crashed", "ok"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--worker", "--isolate"], "choose one, got --isolate and --worker"),
        (["--in-process", "--worker"], "choose one, got --worker and --in-process"),
        (["--in-process", "--case-timeout=9"], "--case-timeout ends the process of a case"),
    ],
)
def test_options_about_processes_that_contradict_each_other_are_refused(suite, run_session, options, words):
    suite(["sdpa"])
    run_session(*options).stderr.fnmatch_lines([f"*{words}*"])


def test_cases_that_the_deadline_left_out_have_records(suite, run_session, stored_run):
    suite(["sdpa", "softmax"])
    result = run_session("--deadline=0")
    result.assert_outcomes(failed=2)
    records = stored_run().records
    assert {record.status for record in records} == {"timeout"}
    assert records[0].reasons == ["not begun: the run's deadline of 0 s had passed"]
    assert {ceiling.name for ceiling in stored_run().ceilings} == {"copy", "matmul float32", "vector float32"}
