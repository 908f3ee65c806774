import json

import pytest

from harness.core.record import Record, Run
from harness.core.spec import OperationSpec
from harness.core.store import Log, StoreError, load

SPEC = OperationSpec(attention="softmax", seq_len=8)
NOW = "2026-01-01T00:00:00+00:00"
HEADER = Run(started=NOW, command="pytest suites", profile="quick", commit=None, machine={"cores": 2}, records=[])


def record(**changes):
    whole = {"case_id": SPEC.case_id, "spec": SPEC, "status": "oom", "reasons": ["no"], "started": NOW}
    return Record(**(whole | {"took_seconds": 1.0} | changes))


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path / "new" / "run.log.jsonl", HEADER)
    yield log
    log.close()


def test_a_log_is_readable_after_every_record(log):
    assert load(log.path) == HEADER
    for count in (1, 2):
        log.append(record())
        assert load(log.path) == HEADER.model_copy(update={"records": [record()] * count})


def test_a_benchmark_file_gives_its_run(tmp_path):
    path = tmp_path / "run.json"
    run = HEADER.model_copy(update={"records": [record()]})
    path.write_text(json.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")}))
    assert load(path) == run


def test_a_log_that_is_cut_off_says_where(log):
    log.append(record())
    log.path.write_text(log.path.read_text()[:-20])
    with pytest.raises(StoreError, match=r"line 2.*cut off"):
        load(log.path)


@pytest.mark.parametrize(
    ("text", "words"),
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
def test_what_is_not_a_run_is_said(tmp_path, text, words):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=words) as error:
        load(path)
    assert "other.json" in str(error.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(StoreError, match=r"nope\.json: cannot read it: No such file"):
        load(tmp_path / "nope.json")
    (tmp_path / "picture.json").write_bytes(b"\x89PNG")
    with pytest.raises(StoreError, match="other bytes"):
        load(tmp_path / "picture.json")


def test_an_empty_log(tmp_path):
    (tmp_path / "run.log.jsonl").write_text("")
    with pytest.raises(StoreError, match="empty file"):
        load(tmp_path / "run.log.jsonl")
