"""The process of one commit in ``harness ab``: its requests, which module it starts, and the memory that it keeps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic
from pydantic import TypeAdapter

from harness.core.spec import AnySpec, OperationSpec
from harness.gate.commits.commit_process import KEEP_MEMORY, CommitProcess, UnreadableAnswer
from harness.processes.protocol import ProcessClient, ProcessEnded

OLDER_SPEC = {"kind": "quality", "attention": "yoso", "seq_len": 64, "draws": 1, "knobs": {"num_hash": 8}}
"""A case of a commit that does not have the field ``inputs`` yet."""


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    sent: list[dict] = []
    monkeypatch.setattr(ProcessClient, "send", lambda self, request: sent.append(request))
    return sent


def test_a_collected_case_is_sent_with_the_fields_that_it_was_collected_with(requests: list[dict]) -> None:
    spec: AnySpec = TypeAdapter(AnySpec).validate_python(OLDER_SPEC)
    CommitProcess(Path()).begin_prepare(spec, verified=False, observed=True)
    assert requests == [{"prepare": OLDER_SPEC, "verified": False, "observed": True, "inputs_seed": None}]


def test_a_case_that_was_not_collected_is_sent_with_its_kind(requests: list[dict]) -> None:
    spec = OperationSpec(attention="sdpa", seq_len=64)
    CommitProcess(Path()).begin_prepare(spec, verified=False, observed=False)
    assert TypeAdapter(AnySpec).validate_python(requests[0]["prepare"]) == spec


MODULE = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    print('{"module": "%s"}', flush=True)
"""


@pytest.mark.parametrize("module", ["side", "processes.commit_worker"])
def test_a_checkout_runs_the_worker_module_that_it_has(tmp_path: Path, module: str) -> None:
    path = tmp_path.joinpath("harness", *module.split(".")).with_suffix(".py")
    for folder in (tmp_path / "harness", path.parent):
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text("")
    path.write_text(MODULE % module)
    process = CommitProcess(tmp_path, timeout=20.0)
    try:
        assert process.machine("cpu") == {"module": module}
    finally:
        process.close()


def test_a_process_that_does_not_start_says_how_it_ended(tmp_path: Path) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("raise ImportError('broken harness')")
    process = CommitProcess(tmp_path, timeout=20.0)
    with pytest.raises(ProcessEnded, match=r"ended with code 1 and no record\n(.*\n)*ImportError: broken harness"):
        process.machine("cpu")
    process.begin_prepare(OperationSpec(attention="sdpa", seq_len=64), verified=False, observed=False)
    record = process.prepared()
    assert (record.status, record.reasons) == ("crashed", ["its process did not start"])


NEWER = """
import json, sys
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(json.load(open("answers.json"))[[*json.loads(line)][0]]), flush=True)
"""


def test_answers_of_a_newer_commit_are_read_without_what_this_version_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "harness" / "processes").mkdir(parents=True)
    for folder in ("harness", "harness/processes"):
        (tmp_path / folder / "__init__.py").write_text("")
    (tmp_path / "harness" / "processes" / "commit_worker.py").write_text(NEWER)
    spec = OperationSpec(attention="sdpa", seq_len=64)
    record = synthetic.record(spec).model_dump(mode="json") | {"energy_joules": 3}
    timing = {"wall_seconds": [0.5], "warmup_calls": 1, "clock": "newer"}
    answers = {"prepare": record, "sample": timing}
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    process = CommitProcess(tmp_path, timeout=20.0)
    try:
        process.begin_prepare(spec, verified=False, observed=False)
        assert process.prepared() == synthetic.record(spec)
        assert process.sample({}).wall_seconds == [0.5]
        assert process.unknown_fields == {"energy_joules", "clock"}
        answers["prepare"] = {"case_id": 3}
        (tmp_path / "answers.json").write_text(json.dumps(answers))
        process.begin_prepare(spec, verified=False, observed=False)
        with pytest.raises(UnreadableAnswer, match="cannot read as a Record"):
            process.prepared()
    finally:
        process.close()


HELD_MEMORY = """
import psutil, torch
from harness.processes.commit_worker import release_memory

def held_after(gibibytes):
    block = torch.ones(int(gibibytes * 2**28))
    del block
    release_memory()
    return psutil.Process().memory_info().rss / 2**30

print(held_after(0.5), held_after(2.5))
"""


def test_a_process_keeps_little_memory_for_the_next_case_and_releases_gigabytes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD_MEMORY], env=os.environ | KEEP_MEMORY, capture_output=True, text=True, check=True
    )
    little, much = map(float, done.stdout.split())
    assert little > 0.5
    assert much < 1.5
