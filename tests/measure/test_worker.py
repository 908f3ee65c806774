import os
import subprocess
import sys
import time

import pytest

from harness.core.spec import Effort, OperationSpec
from harness.processes import protocol
from harness.processes.case_worker import Worker

EFFORT = Effort(min_samples=2, max_samples=2, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)
SPEC = OperationSpec(attention="sdpa", seq_len=64)


@pytest.fixture
def made():
    workers = []

    def make(timeout=60.0):
        workers.append(Worker(timeout))
        return workers[-1]

    yield make
    for one in workers:
        one.close()


def test_cases_share_a_process_until_one_crashes(made):
    worker = made()
    records = [worker.run(SPEC, EFFORT), worker.run(SPEC.model_copy(update={"seq_len": 32}), EFFORT)]
    assert [(record.status, record.spec.seq_len) for record in records] == [("ok", 64), ("ok", 32)]
    first = worker._process.process
    crashed = worker.run(SPEC.model_copy(update={"attention": "nope"}), EFFORT)
    assert crashed.status == "crashed"
    assert first.poll() is not None
    assert worker.run(SPEC, EFFORT).status == "ok"
    assert worker._process.process is not first


@pytest.fixture
def instead(monkeypatch):
    """Runs other code in the place of the worker's process."""

    def replace(code):
        popen = subprocess.Popen
        monkeypatch.setattr(
            protocol.subprocess, "Popen", lambda command, **kw: popen([sys.executable, "-c", code], **kw)
        )

    return replace


def test_a_case_that_takes_too_long_is_stopped_and_its_time_begins_when_the_process_is_ready(instead, made):
    instead("import time; time.sleep(1); print('ready', flush=True); time.sleep(60)")
    began = time.monotonic()
    record = made(timeout=0.5).run(SPEC, EFFORT)
    assert (record.status, record.reasons) == ("timeout", ["stopped after 0.5 s"])
    assert 1.4 < time.monotonic() - began < 15


@pytest.mark.parametrize("ready", ["print('ready', flush=True); input()", "pass"], ids=["in a case", "at the start"])
def test_death_is_named_with_its_last_words(instead, made, ready):
    instead(f"import os, signal, sys; {ready}; print('on fire', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)")
    record = made().run(SPEC, EFFORT)
    assert record.status == "crashed"
    assert record.reasons == ["its process was killed by SIGSEGV", "on fire"]


def test_closing_ends_the_process(made):
    worker = made()
    worker.run(SPEC, EFFORT)
    pid = worker._process.process.pid
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
