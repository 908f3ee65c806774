import os
import signal
import subprocess
import sys
import time

import pytest

from harness.core.spec import Effort, OperationSpec
from harness.processes import isolate

EFFORT = Effort(min_samples=2, max_samples=2, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)
SPEC = OperationSpec(attention="sdpa", seq_len=64)


def test_a_record_comes_back_from_a_process_of_its_own():
    record = isolate.run(SPEC, EFFORT)
    assert (record.status, record.spec) == ("ok", SPEC)
    assert len(record.timing.wall_seconds) == 2


def test_a_case_that_takes_too_long_is_stopped():
    began = time.monotonic()
    record = isolate.run(SPEC, EFFORT, timeout=0.05)
    assert record.status == "timeout"
    assert record.reasons == ["stopped after 0.05 s"]
    assert time.monotonic() - began < 10


@pytest.fixture
def instead(monkeypatch):
    """Runs other code in the place of the case's process."""

    def replace(code):
        popen = subprocess.Popen
        monkeypatch.setattr(
            isolate.subprocess, "Popen", lambda command, **kw: popen([sys.executable, "-c", code], **kw)
        )

    return replace


def test_death_by_a_signal_is_named(instead):
    instead(
        "import os, signal, sys; print('on fire', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    )
    record = isolate.run(SPEC, EFFORT)
    assert record.status == "crashed"
    assert record.reasons == ["its process was killed by SIGSEGV", "on fire"]


def test_an_end_without_a_record_keeps_the_last_words(instead):
    instead("import sys; print('\\n'.join(map(str, range(9))), file=sys.stderr); sys.exit(3)")
    record = isolate.run(SPEC, EFFORT)
    assert record.reasons == ["its process ended with code 3 and no record", "4", "5", "6", "7", "8"]


def test_what_a_stopped_case_started_is_stopped_with_it(instead, tmp_path):
    alive = tmp_path / "pid"
    instead(
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(alive)!r}, 'w').write(str(child.pid)); time.sleep(60)"
    )
    assert isolate.run(SPEC, EFFORT, timeout=2.0).status == "timeout"
    pid = int(alive.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_signal_names_are_the_systems():
    assert isolate.ending(-signal.SIGKILL) == "its process was killed by SIGKILL"
