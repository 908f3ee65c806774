"""Kernels are counted in a process of their own, and a record does not depend on it."""

import subprocess
import sys

import pytest
import synthetic

from harness.cases import runner
from harness.core.spec import OperationSpec
from harness.measure import launches
from harness.processes import protocol
from harness.processes.launch_counter import LaunchCounter
from harness.profiles.selection import Selection
from harness.pytest_plugin import session

ANSWER = "import json, sys; print('ready', flush=True)\nfor line in sys.stdin: "


@pytest.fixture
def counter():
    made = LaunchCounter(timeout=20.0)
    yield made
    made.close()


@pytest.fixture
def instead(monkeypatch):
    """Runs other code in the place of the counter's process; tells what was started."""
    popen, started = subprocess.Popen, []

    def replace(code):
        def start(command, **given):
            started.append(command)
            return popen([sys.executable, "-c", code], **given)

        monkeypatch.setattr(protocol.subprocess, "Popen", start)
        return started

    return replace


def record(device="cuda", status="ok"):
    return synthetic.record(OperationSpec(attention="sdpa", seq_len=64, device=device), status)


def test_a_record_gets_what_the_process_counted_of_its_case(instead, counter):
    started = instead(ANSWER + "print(json.loads(line)['seq_len'] + 1, flush=True)")
    assert [counter.counted(record()).kernel_launches for _ in range(2)] == [65, 65]
    assert [command[1:] for command in started] == [["-m", "harness.processes.launch_counter"]]


@pytest.mark.parametrize("code", ["print('ready', flush=True); input()", ANSWER + "import time; time.sleep(60)"])
def test_a_process_that_dies_or_hangs_is_replaced_and_the_record_kept(instead, counter, code):
    counter._timeout = 1.0
    started = instead(code)
    found = record()
    assert counter.counted(found) == found
    assert counter.counted(found) == found
    assert len(started) == 2


def test_cases_without_kernels_ask_nobody(instead, counter):
    started = instead("pass")
    failed = record(status="oom")
    assert [counter.counted(one) for one in (record(device="cpu"), failed)] == [record(device="cpu"), failed]
    assert started == []


def test_the_process_itself_counts_a_case_that_it_prepares(monkeypatch):
    calls = []
    monkeypatch.setattr(launches, "count", lambda call, device: calls.append(call()) or 12)
    assert runner.kernel_launches(OperationSpec(attention="sdpa", seq_len=16)) == 12
    assert calls[0].shape == (1, 8, 16, 64)


def test_the_real_process_answers(counter):
    """On a CPU there is nothing to count, which is an answer too."""
    process = protocol.LineProcess([sys.executable, "-m", "harness.processes.launch_counter"])
    try:
        process.wait_until_ready()
        process.send(OperationSpec(attention="sdpa", seq_len=16).model_dump(mode="json"))
        assert process.line(30.0) == b"null"
    finally:
        process.close()


def test_a_run_logs_its_records_with_their_kernels(monkeypatch, tmp_path):
    found = record()
    monkeypatch.setattr(session.runner, "run", lambda spec, effort: found)
    monkeypatch.setattr(LaunchCounter, "counted", lambda self, one: one.model_copy(update={"kernel_launches": 3}))
    log = tmp_path / "run.log.jsonl"
    running = session.HarnessSession(Selection(), "pytest", log, isolated=False, timeout=None)
    assert running.measure(found.spec).kernel_launches == 3
    running.close()
    assert '"kernel_launches":3' in log.read_text().splitlines()[1]
