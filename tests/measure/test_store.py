"""Runs are written to and read from logs and benchmark files; other files are refused with a reason."""

import json

import pytest

from harness.core.record import Record, Run
from harness.core.spec import OperationSpec
from harness.core.store import Log, StoreError, load

SPEC = OperationSpec(attention="softmax", seq_len=8)
NOW = "2026-01-01T00:00:00+00:00"
HEADER = Run(started=NOW, command="pytest suites", profile="quick", commit=None, machine={"cores": 2}, records=[])


def record(**changes):
    fields = {"case_id": SPEC.case_id, "spec": SPEC, "status": "oom", "reasons": ["no"], "started": NOW}
    return Record(**(fields | {"took_seconds": 1.0} | changes))


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path / "new" / "run.log.jsonl", HEADER)
    yield log
    log.close()


def test_log_is_readable_after_every_record(log):
    assert load(log.path) == HEADER
    for count in (1, 2):
        log.append(record())
        assert load(log.path) == HEADER.model_copy(update={"records": [record()] * count})


def test_benchmark_file_contains_its_run(tmp_path):
    path = tmp_path / "run.json"
    run = HEADER.model_copy(update={"records": [record()]})
    path.write_text(json.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")}))
    assert load(path) == run


def test_cut_off_log_is_refused_with_the_line(log):
    log.append(record())
    log.path.write_text(log.path.read_text()[:-20])
    with pytest.raises(StoreError, match=r"line 2.*cut off"):
        load(log.path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"benchmarks": []}', "--benchmark-json"),
        ("[1]", "'harness' block"),
        ("", "line 1"),
        ('{"harness": {"schema_ver', "cut off"),
        ('{"harness": {"schema_version": 99}}', "schema version 1, found 99"),
        ('{"harness": [1]}', "found list"),
        ('{"harness": {"schema_version": 1}}', "not a run: started"),
    ],
)
def test_file_without_a_run_is_refused_with_a_reason(tmp_path, text, message):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=message) as error:
        load(path)
    assert "other.json" in str(error.value)


def test_missing_file_and_binary_file_are_refused(tmp_path):
    with pytest.raises(StoreError, match=r"nope\.json: cannot read it: No such file"):
        load(tmp_path / "nope.json")
    (tmp_path / "picture.json").write_bytes(b"\x89PNG")
    with pytest.raises(StoreError, match="other bytes"):
        load(tmp_path / "picture.json")


def test_empty_log_is_refused(tmp_path):
    (tmp_path / "run.log.jsonl").write_text("")
    with pytest.raises(StoreError, match="empty file"):
        load(tmp_path / "run.log.jsonl")
