"""Runs are written to and read from logs and benchmark files; other files are refused with a reason."""

import json
import os
import signal

import pytest
import synthetic
from pydantic import ValidationError

from harness.core import store
from harness.core.record import Record, Run
from harness.core.spec import OperationSpec
from harness.core.store import Log, StoreError, load, read_part
from harness.pytest_plugin.session import log_path_for

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


def test_the_cut_off_line_of_a_log_is_skipped_with_a_notice(log, capsys):
    log.append(record())
    log.append(record())
    log.path.write_text(log.path.read_text()[:-20])
    assert load(log.path).records == [record()]
    assert "skipped lines without a readable record (1): line 3 (" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", [b"{", b"\xff", b"[1]", b"null", b'{"a": 1}', b"9" * 5000, b"[" * 100_000, b"\x00\x00"], ids=repr
)
def test_an_unreadable_line_of_a_log_is_skipped_with_its_number(log, line):
    log.append(record())
    with log.path.open("ab") as file:
        file.write(line[:100_000] + b"\n")
    log._file.seek(0, 2)
    log.append(record())
    for read in (load, read_part):
        notices = []
        assert read(log.path, notices.append).records == [record()] * 2
        (notice,) = notices
        assert "(1): line 3 (" in notice
        assert len(notice.splitlines()) == 1


def test_an_unreadable_header_of_a_log_is_refused(log):
    log.append(record())
    log.path.write_bytes(b"{" + log.path.read_bytes())
    with pytest.raises(StoreError, match="line 1"):
        load(log.path)


def test_line_separators_in_a_text_do_not_end_a_line_of_the_log(log):
    separated = record(reasons=["a\u2028b\u2029c\x85d"])
    log.append(separated)
    assert load(log.path).records == [separated]


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


HOSTILE = {
    "line separators": {"reasons": ["a\u2028b\u2029c\x85d\r\n\x1ce"]},
    "a lone surrogate": {
        "reasons": ["\ud800"],
        "case_id": "a\udc80",
        "kernel": "\udfff",
        "knobs": {"\ud800": "\ud800"},
    },
    "a parsed spec": {"spec": SPEC.model_dump() | {"attention": "\ud800"}},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_every_record_that_is_written_is_read_again(log, changes):
    hostile = record(**changes)
    log.append(hostile)
    log.append(record())
    notices = []
    assert load(log.path, notices.append).records == [hostile, record()]
    assert notices == []


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "make",
    [
        lambda number: {"took_seconds": number},
        lambda number: {"work": {"copy": number}},
        lambda number: {"knobs": {"a": number}},
        lambda number: {"quality": {"reference": "a", "errors": {"output": [number, 1]}}},
    ],
    ids=["took_seconds", "work", "knobs", "errors"],
)
def test_no_record_has_a_number_that_json_does_not_have(log, number, make):
    with pytest.raises(ValidationError, match="finite number"):
        record(**make(float(number)))
    content = record().model_dump(mode="json") | make(float(number))
    for line in (json.dumps(content), json.dumps(content | make(number))):  # as a number, and as text
        with log.path.open("a") as file:
            file.write(line + "\n")
    log._file.seek(0, 2)
    log.append(record())
    notices = []
    (stored, *others) = load(log.path, notices.append).records
    assert stored == record() or stored.knobs == {"a": number}, "text is a knob like any other"
    assert len(others) == (stored != record())
    assert ("(1)" if others else "(2)") in notices[0]


def test_a_header_with_any_text_is_read_again(tmp_path):
    header = HEADER.model_copy(update={"machine": {}})
    header = Run(**header.model_dump() | {"command": "\ud800\u2028", "machine": {"cpu": "\ud800"}})
    log = Log(tmp_path / "run.log.jsonl", header)
    log.close()
    assert load(log.path) == header


def test_a_log_that_another_run_writes_is_refused(log):
    log.append(record())
    before = log.path.read_bytes()
    for _ in range(2):
        with pytest.raises(
            StoreError, match=r"run\.log\.jsonl: another run is writing this log; wait .* --out"
        ) as error:
            Log(log.path, lambda: pytest.fail("the header was made"))
        assert len(str(error.value).splitlines()) == 1
    log.append(record())
    assert log.path.read_bytes().startswith(before)
    assert len(load(log.path).records) == 2
    log.close()
    Log(log.path, HEADER).close()
    assert load(log.path) == HEADER
    assert [path.name for path in log.path.parent.iterdir()] == [log.path.name]


def test_a_log_stays_locked_when_another_run_finds_its_file_just_before_it_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "run.log.jsonl"
    lock, logs = store._lock, []

    def after_another_run(file):
        monkeypatch.setattr(store, "_lock", lock)
        logs.append(Log(path, HEADER))
        return lock(file)

    monkeypatch.setattr(store, "_lock", after_another_run)
    with pytest.raises(StoreError, match="another run is writing"):
        Log(path, HEADER)
    logs[0].append(record())
    assert load(path).records == [record()]
    logs[0].close()


def test_a_child_that_outlives_a_run_does_not_keep_its_log_locked(log):
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        log.close()
        Log(log.path, HEADER).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_log_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "run.log.jsonl", tmp_path):
        with pytest.raises(StoreError, match=r"cannot write the log: (Not|Is) a directory|File exists"):
            Log(path, HEADER)


def test_names_of_runs_have_names_of_logs(tmp_path):
    names = ["run.json", "run.a", "run.b", "run.1", "run.json.json", "run.tar.json"]
    logs = [log_path_for(tmp_path / name, tmp_path) for name in names]
    assert len(set(logs)) == len(names)
    assert logs[0] == tmp_path / "run.log.jsonl"
    assert all(path.name.endswith(".log.jsonl") for path in logs)


UNUSABLE = {
    "a time of 0": ("wall_seconds", "[0.0]", "wall_seconds.0: expected a number from 1e-12 to 1e+12, found 0.0"),
    "a negative time": ("wall_seconds", "[1.0, -1.0]", "wall_seconds.1: expected a number from"),
    "a time that is not a number": ("wall_seconds", "[NaN]", "wall_seconds.0: expected a finite number, found nan"),
    "an infinite time": ("wall_seconds", "[1e400]", "wall_seconds.0: expected a finite number, found inf"),
    "an infinite peak": ("peak_bytes", "1e400", "peak_bytes: expected a finite number"),
    "a peak of 401 digits": ("peak_bytes", "1" + "0" * 400, "peak_bytes: expected a number from 0 to"),
    "a number of 5,000 digits": ("peak_bytes", "9" * 5000, "cannot be parsed: Exceeds the limit"),
    "a lone surrogate": ("source", '"\\ud800"', "source: expected text that UTF-8 can encode"),
    "deep nesting": ("source", "[" * 200_000 + "]" * 200_000, "cannot be parsed: maximum recursion depth"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_value_that_no_run_has_is_refused_with_its_place(tmp_path, name):
    field, text, message = UNUSABLE[name]
    timing = {"wall_seconds": [0.5], "warmup_calls": 1}
    memory = {"peak_bytes": 3, "input_bytes": 3, "source": "made up"}
    measured = record(status="ok", reasons=[], timing=timing, memory=memory)
    content = {"benchmarks": [], "harness": HEADER.model_copy(update={"records": [measured]}).model_dump(mode="json")}
    part = content["harness"]["records"][0]["timing" if field == "wall_seconds" else "memory"]
    part[field] = "HERE"
    path = tmp_path / "run.json"
    path.write_text(json.dumps(content).replace('"HERE"', text))
    with pytest.raises(StoreError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert len(str(error.value)) < 500
    assert len(str(error.value).splitlines()) == 1


def test_a_field_of_a_newer_version_is_left_out_of_every_kind_of_spec(tmp_path):
    content = synthetic.realistic(lengths=(512,)).model_dump(mode="json")
    for stored in content["records"]:
        stored["spec"]["new"] = 1
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"harness": content}))
    assert {one.spec.kind for one in load(path).records} == {"operation", "model", "quality", "task"}


def test_a_knob_may_have_any_name_and_value(tmp_path):
    run = HEADER.model_copy(update={"records": [record(knobs={"batch": 0, "error": -1.5, "wall_seconds": -3})]})
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"harness": run.model_dump(mode="json")}))
    assert load(path) == run


@pytest.mark.parametrize("suffix", ["json", "log.jsonl"])
def test_fields_of_a_newer_version_are_left_out_with_a_notice(tmp_path, suffix):
    run = HEADER.model_copy(update={"records": [record(), record()]})
    content = run.model_dump(mode="json")
    for stored in content["records"]:
        stored["energy_joules"] = 3
        stored["spec"]["power_cap"] = {"watts": 3}
    records = content["records"]
    path = tmp_path / f"run.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps({"harness": content}))
    else:
        path.write_text("\n".join(map(json.dumps, [content | {"records": []}, *records])) + "\n")
    notices = []
    assert load(path, notices.append) == run
    (notice,) = notices
    assert "does not know: " in notice
    assert "energy_joules" in notice
    assert "power_cap" in notice
