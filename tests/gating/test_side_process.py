"""What a side of ``harness ab`` is asked, with no process behind it."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from harness.gating.side_process import SideProcess
from harness.spec import AnySpec, OperationSpec

OLDER = {"kind": "quality", "attention": "yoso", "seq_len": 64, "draws": 1, "knobs": {"num_hash": 8}}
"""A case as a commit names it that knows no kinds of inputs yet."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    found: list[dict] = []
    monkeypatch.setattr(SideProcess, "_ask", lambda self, task: found.append(task))
    return found


def test_a_case_is_asked_for_with_the_fields_that_it_was_collected_with(asked: list[dict]) -> None:
    spec: AnySpec = TypeAdapter(AnySpec).validate_python(OLDER)
    SideProcess(Path()).begin_prepare(spec, verified=False, observed=True)
    assert asked == [{"prepare": OLDER, "verified": False, "observed": True}]


def test_a_case_that_was_made_here_says_its_kind(asked: list[dict]) -> None:
    spec = OperationSpec(attention="sdpa", seq_len=64)
    SideProcess(Path()).begin_prepare(spec, verified=False, observed=False)
    assert TypeAdapter(AnySpec).validate_python(asked[0]["prepare"]) == spec
