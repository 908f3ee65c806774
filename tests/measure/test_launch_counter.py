"""Kernels are counted in another process, and a record is kept even if the counting fails."""

import sys

import pytest
import synthetic

from harness.cases import in_this_process, runner
from harness.core.spec import OperationSpec
from harness.measure import launches
from harness.processes import protocol
from harness.processes.launch_counter import LaunchCounter
from harness.processes.owned_process import OwnedProcess
from harness.profiles.selection import Selection
from harness.pytest_plugin import session

FOR_EACH_LINE = "import json, sys; print('ready', flush=True)\nfor line in sys.stdin: "


@pytest.fixture
def counter():
    counter = LaunchCounter(timeout=20.0)
    yield counter
    counter.close()


@pytest.fixture
def replace_process(monkeypatch):
    """Makes the counter start other code instead of its own module; returns the commands that were started."""
    started = []

    def replace(code):
        def start(command, *rest, **options):
            started.append(command)
            return OwnedProcess([sys.executable, "-c", code], *rest, **options)

        monkeypatch.setattr(protocol, "OwnedProcess", start)
        return started

    return replace


def record(device="cuda", status="ok"):
    return synthetic.record(OperationSpec(attention="sdpa", seq_len=64, device=device), status)


def test_a_record_gets_the_count_of_its_case(replace_process, counter):
    started = replace_process(FOR_EACH_LINE + "print(json.loads(line)['seq_len'] + 1, flush=True)")
    assert [counter.counted(record()).kernel_launches for _ in range(2)] == [65, 65]
    assert [command[1:] for command in started] == [["-m", "harness.processes.launch_counter"]]


@pytest.mark.parametrize("code", ["print('ready', flush=True); input()", FOR_EACH_LINE + "import time; time.sleep(60)"])
def test_a_process_that_dies_or_hangs_is_replaced_and_the_record_kept(replace_process, counter, code):
    counter._timeout = 1.0
    started = replace_process(code)
    timed = record()
    assert counter.counted(timed) == timed
    assert counter.counted(timed) == timed
    assert len(started) == 2


def test_cases_without_kernels_start_no_process(replace_process, counter):
    started = replace_process("pass")
    on_cpu, failed = record(device="cpu"), record(status="oom")
    assert [counter.counted(on_cpu), counter.counted(failed)] == [on_cpu, failed]
    assert started == []


def test_the_counted_call_is_that_of_the_case(monkeypatch):
    outputs = []
    monkeypatch.setattr(launches, "count", lambda call, device: outputs.append(call()) or 12)
    assert runner.kernel_launches(OperationSpec(attention="sdpa", seq_len=16)) == 12
    assert outputs[0][0].shape == (1, 8, 16, 64)


def test_the_real_process_answers_null_for_a_cpu_case(counter):
    spec = OperationSpec(attention="sdpa", seq_len=16)
    assert counter._client.request(spec.model_dump(mode="json"), 30.0) == b"null"


def test_a_run_logs_its_records_with_their_kernels(monkeypatch, tmp_path):
    timed = record()
    monkeypatch.setattr(in_this_process, "run", lambda spec, effort: timed)
    monkeypatch.setattr(LaunchCounter, "counted", lambda self, it: it.model_copy(update={"kernel_launches": 3}))
    log = tmp_path / "run.log.jsonl"
    running = session.HarnessSession(Selection(), "pytest", log)
    assert running.measure(timed.spec).kernel_launches == 3
    running.close()
    assert '"kernel_launches":3' in log.read_text().splitlines()[1]
