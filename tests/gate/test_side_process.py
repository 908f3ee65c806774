"""What a side of ``harness ab`` is asked, with no process behind it; and the memory that one keeps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from harness.core.spec import AnySpec, OperationSpec
from harness.gate.commits.commit_process import KEEP_MEMORY, SideProcess

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


HELD = """
import psutil, torch
from harness import side

def held_after(gibibytes):
    block = torch.ones(int(gibibytes * 2**28))
    del block
    side.give_back()
    return psutil.Process().memory_info().rss / 2**30

print(held_after(0.5), held_after(2.5))
"""


def test_little_is_kept_for_the_next_case_and_gigabytes_are_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD], env=os.environ | KEEP_MEMORY, capture_output=True, text=True, check=True
    )
    little, much = map(float, done.stdout.split())
    assert little > 0.5
    assert much < 1.5
