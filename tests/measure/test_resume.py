"""Continuing an interrupted run: one that was killed, or stopped by a full disk."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_store import HEADER, record

from harness.core.spec import OperationSpec
from harness.core.store import Log, StoreError, load, read_part
from harness.profiles.selection import Selection
from harness.pytest_plugin.session import HarnessSession

LENGTHS = (16, 24, 32, 40, 48, 56)
SUITE = f"""
import pytest
from harness.profiles.selection import Selection
from harness.pytest_plugin.session import HarnessSession
from harness.core.spec import OperationSpec
pytest_plugins = ["harness.pytest_plugin"]

def specs(selection):
    return [OperationSpec(attention="sdpa", seq_len=n) for n in {LENGTHS}]

@pytest.mark.operation(specs=specs)
def test_operation(case):
    assert case.record.timing is not None
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "test_suite.py").write_text(SUITE)
    return tmp_path


def command(*arguments):
    return [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "harness.pytest_plugin",
        "test_suite.py",
        "--benchmark-json=run.json",
        *arguments,
    ]


def environment():
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def finish(project, *arguments):
    return subprocess.run(command(*arguments), cwd=project, env=environment(), capture_output=True, text=True)


def test_a_killed_run_continues_where_it_stopped(project):
    log = project / "run.log.jsonl"
    process = subprocess.Popen(command(), cwd=project, env=environment(), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (log.exists() and log.read_bytes().count(b"\n") >= 3) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = log.read_bytes()
    kept = kept[: kept.rfind(b"\n") + 1]
    before = kept.splitlines()[1:]
    assert 2 <= len(before) < len(LENGTHS)
    assert not (project / "run.json").exists()
    with log.open("ab") as file:
        file.write(b'{"schema_version": 1, "case_id": "operation/sd')  # as a kill during a write leaves it
    done = finish(project, f"--resume={log}")
    assert done.returncode == 0, done.stdout + done.stderr
    run = load(project / "run.json")
    assert [one.spec.seq_len for one in run.records] == list(LENGTHS)
    assert log.read_bytes().startswith(kept)
    assert load(log).records == run.records
    benchmarks = json.loads((project / "run.json").read_text())["benchmarks"]
    assert len(benchmarks) == len(LENGTHS)


SPEC = OperationSpec(attention="sdpa", seq_len=16)


def session(path, **options):
    return HarnessSession(Selection(), "pytest", path, **options)


def test_cases_that_the_deadline_left_out_are_measured_on_resume(tmp_path):
    path = tmp_path / "run.log.jsonl"
    first = session(path, deadline=0.0)
    assert first.measure(SPEC).status == "timeout"
    first.close()
    again = session(path, resume=path)
    assert again.measure(SPEC).status == "ok"
    again.close()
    assert [one.status for one in load(path).records] == ["ok"]


def test_a_log_of_another_run_is_refused(tmp_path):
    log = tmp_path / "run.log.jsonl"
    first = session(log, deadline=0.0)
    first.measure(SPEC)
    first.close()
    header, *lines = log.read_text().splitlines()
    machine = json.loads(header)["machine"]
    for changes, words in (
        ({"machine": machine | {"torch": "1.0"}}, r"--resume: .*torch: base has 1\.0"),
        ({"profile": "full"}, "profile: base has full, head quick"),
        ({"commit": "f" * 40}, "commit: base has ffff"),
        ({"schema_version": 7}, "expected schema version 1, found 7"),
    ):
        log.write_text("\n".join([json.dumps(json.loads(header) | changes), *lines]) + "\n")
        with pytest.raises(StoreError, match=words):
            session(log, resume=log)
    with pytest.raises(StoreError, match="expected the log of a run"):
        session(log, resume=tmp_path / "run.json")
    with pytest.raises(StoreError, match="cannot read it"):
        session(log, resume=tmp_path / "nope.log.jsonl")


@pytest.fixture
def small_disk():
    """Limits the size of files, which looks like a full disk to the process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_when_a_test_is_run_again_keeps_all_records_and_the_run_goes_on(tmp_path, small_disk):
    path = tmp_path / "run.log.jsonl"
    run = session(path)
    first, second = run.measure(SPEC, "test one"), run.measure(SPEC, "test two")
    small_disk(path.stat().st_size - 100)
    with pytest.raises(StoreError, match="cannot write the log"):
        run.measure(SPEC, "test one")
    assert run.records == load(path).records == [first, second]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    small_disk(resource.RLIM_INFINITY)
    again = run.measure(SPEC, "test one")
    third = run.measure(SPEC, "test three")
    assert run.records == load(path).records == [second, again, third]
    run.close()


def test_a_full_disk_leaves_no_partial_record(tmp_path, small_disk):
    path = tmp_path / "run.log.jsonl"
    log = Log(path, HEADER)
    log.append(record())
    good = path.read_bytes()
    small_disk(len(good) + 40)
    with pytest.raises(StoreError, match=r"cannot write the log: File too large; .* --resume"):
        log.append(record())
    small_disk(resource.RLIM_INFINITY)
    assert path.read_bytes() == good
    log.append(record())  # the limit is lifted
    log.close()
    assert len(load(path).records) == 2


def test_a_log_whose_header_cannot_be_written_leaves_the_old_log(tmp_path, small_disk):
    path = tmp_path / "run.log.jsonl"
    Log(path, HEADER, [record()]).close()
    good = path.read_bytes()
    small_disk(len(good) // 2)
    with pytest.raises(StoreError, match="cannot write the log"):
        Log(path, HEADER, [record()])
    small_disk(resource.RLIM_INFINITY)
    assert path.read_bytes() == good


def test_only_complete_lines_of_an_interrupted_log_are_read(tmp_path):
    path = tmp_path / "run.log.jsonl"
    log = Log(path, HEADER, [record(), record(spec=OperationSpec(attention="softmax", seq_len=9))])
    log.close()
    complete = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(complete) if byte == ord("\n")]
    for size in range(ends[0], len(complete)):
        path.write_bytes(complete[:size])
        assert len(read_part(path).records) == sum(size >= end for end in ends) - 1
