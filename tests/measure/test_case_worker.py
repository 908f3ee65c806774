"""Cases in another process: their records, crashes, timeouts, and what is killed with the process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.core.spec import Effort, OperationSpec
from harness.processes import protocol
from harness.processes.case_worker import CaseWorker

pytest_plugins = ["installed_attentions"]

EFFORT = Effort(min_samples=2, max_samples=2, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)
SPEC = OperationSpec(attention="sdpa", seq_len=64)
READY = "print('ready', flush=True)"


@pytest.fixture
def new_worker():
    workers = []

    def make(timeout=60.0, shared_by="attention"):
        workers.append(CaseWorker(timeout, shared_by))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


@pytest.fixture
def replace_process(monkeypatch):
    """Makes the worker start other code instead of its own module."""

    def replace(code):
        popen = subprocess.Popen
        monkeypatch.setattr(
            protocol.subprocess, "Popen", lambda command, **options: popen([sys.executable, "-c", code], **options)
        )

    return replace


def test_cases_share_a_process_until_one_crashes(new_worker):
    worker = new_worker()
    records = [worker.run(SPEC, EFFORT), worker.run(SPEC.model_copy(update={"seq_len": 32}), EFFORT)]
    assert [(record.status, record.spec.seq_len) for record in records] == [("ok", 64), ("ok", 32)]
    first = worker._client.process
    crashed = worker.run(SPEC.model_copy(update={"attention": "nope"}), EFFORT)
    assert crashed.status == "crashed"
    assert first.poll() is not None
    assert worker.run(SPEC, EFFORT).status == "ok"
    assert worker._client.process is not first


def test_an_isolated_case_has_a_fresh_process_that_ends_with_it(new_worker, monkeypatch):
    popen, started = subprocess.Popen, []

    def start(command, **options):
        started.append(popen(command, **options))
        return started[-1]

    monkeypatch.setattr(protocol.subprocess, "Popen", start)
    worker = new_worker(shared_by="case")
    for seq_len in (64, 32):
        spec = SPEC.model_copy(update={"seq_len": seq_len})
        record = worker.run(spec, EFFORT)
        assert (record.status, record.spec) == ("ok", spec)
        assert len(record.timing.wall_seconds) == 2
        assert started[-1].poll() is not None
    assert len(started) == 2


@pytest.mark.alone
def test_a_case_that_takes_too_long_is_stopped(new_worker):
    began = time.monotonic()
    record = new_worker(timeout=0.001).run(SPEC, EFFORT)
    assert (record.status, record.reasons) == ("timeout", ["stopped after 0.001 s"])
    assert time.monotonic() - began < 30


@pytest.mark.alone
@pytest.mark.parametrize("shared_by", ["run", "attention", "case"])
def test_the_timeout_begins_when_the_process_is_ready(replace_process, new_worker, shared_by):
    replace_process(f"import time; time.sleep(1); {READY}; time.sleep(60)")
    began = time.monotonic()
    record = new_worker(0.5, shared_by).run(SPEC, EFFORT)
    assert (record.status, record.reasons) == ("timeout", ["stopped after 0.5 s"])
    assert 1.4 < time.monotonic() - began < 15


@pytest.mark.parametrize("before", [f"{READY}; input()", "pass"], ids=["in a case", "at the start"])
def test_death_by_a_signal_is_reported_with_the_last_lines_of_standard_error(replace_process, new_worker, before):
    replace_process(
        f"import os, sys; {before}; print('on fire', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)"
    )
    record = new_worker().run(SPEC, EFFORT)
    assert record.status == "crashed"
    assert record.reasons == ["its process was killed by SIGSEGV", "on fire"]


def test_an_exit_without_a_record_is_reported_with_its_code(replace_process, new_worker):
    replace_process("import sys; print('\\n'.join(map(str, range(9))), file=sys.stderr); sys.exit(3)")
    record = new_worker().run(SPEC, EFFORT)
    assert record.status == "crashed"
    assert record.reasons == ["its process ended with code 3 and no record", "4", "5", "6", "7", "8"]


def test_a_first_line_that_is_not_ready_is_a_failed_start(replace_process, new_worker):
    replace_process("print('hello', flush=True); input()")
    assert new_worker().run(SPEC, EFFORT).reasons == ["its process did not start as expected"]


def test_child_processes_of_a_stopped_case_are_killed_with_it(replace_process, new_worker, tmp_path):
    pid_file = tmp_path / "pid"
    replace_process(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid)); {READY}; time.sleep(60)"
    )
    assert new_worker(timeout=0.5).run(SPEC, EFFORT).status == "timeout"
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _is_running(pid):
        time.sleep(0.05)
    assert not _is_running(pid)


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


ENDING_PLUGIN = """
import os, signal
import torch
from torch import nn
from harness.core.plugin import AttentionPlugin

class Ending(AttentionPlugin):
    name, summary, source = "ending", "ends its process", "tests"

    def default_knobs(self, spec):
        return {"how": ""}

    def build(self, spec):
        exec(self.knobs(spec)["how"], globals())
        return nn.Identity()

    def oracle(self, *arguments):
        raise AssertionError
"""
CHILD_KEEPS_PIPE = "\nif os.fork():\n    os._exit(0)\nimport time; time.sleep(20)"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("os._exit(0)", "its process ended with code 0 and no record"),
        (CHILD_KEEPS_PIPE, "its process ended with code 0 and no record"),
        ("os.abort()", "its process was killed by SIGABRT"),
        ("os.kill(os.getpid(), 40)", "its process was killed by signal 40"),
        ("raise KeyboardInterrupt", "its process was killed by SIGINT"),
        ("raise SystemExit(0)", "raised SystemExit, which a plugin must not do"),
        ("import pytest; pytest.skip('slow')", "called pytest.skip, which a plugin must not do"),
    ],
)
def test_a_plugin_that_ends_its_process_has_a_crashed_record(new_worker, install, how, words):
    install("ending_plugin", ENDING_PLUGIN, ending="Ending")
    record = new_worker().run(OperationSpec(attention="ending", seq_len=16, knobs={"how": how}), EFFORT)
    assert record.status == "crashed"
    assert words in record.reasons[0]


def test_an_answer_that_is_not_a_record_is_a_crash(replace_process, new_worker):
    replace_process(f"{READY}; input(); print('{{}}', flush=True); input()")
    record = new_worker().run(SPEC, EFFORT)
    assert record.status == "crashed"
    assert "its process did not answer with a record" in record.reasons[0]


def test_the_standard_error_of_a_dead_process_is_cut(replace_process, new_worker):
    replace_process("import sys; print('x' * 5_000_000, file=sys.stderr); sys.exit(3)")
    first, last = new_worker().run(SPEC, EFFORT).reasons
    assert first == "its process ended with code 3 and no record"
    assert last.endswith("more characters)")


def test_closing_ends_the_process(new_worker):
    worker = new_worker()
    worker.run(SPEC, EFFORT)
    pid = worker._client.process.pid
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_signals_have_their_usual_names():
    assert protocol.describe_exit(-signal.SIGKILL) == "its process was killed by SIGKILL"


def test_what_a_handler_prints_does_not_disturb_its_answers():
    code = """
from harness.processes.protocol import serve

def load_handler():
    print("loading")
    def answer(line):
        print("working")
        return line.strip().upper()
    return answer

serve(load_handler)
"""
    client = protocol.ProcessClient([sys.executable, "-c", code])
    try:
        assert [client.request({"a": letter}, 20.0) for letter in "bc"] == [b'{"A": "B"}', b'{"A": "C"}']
    finally:
        client.close()
