"""Rounds of one commit against itself, measured like those of ``harness ab``: the raw data of the proof.

``python -m suites.studies.gate_proof.recording OUT --seconds 500 --load`` measures rounds until the time is over. In
every round two fresh processes measure all cases in interleaved turns. With ``--load`` another process keeps core 0
busy throughout.
"""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict

from harness.core.record import Record
from harness.core.spec import AnySpec, ModelSpec, OperationSpec, Scalar
from harness.gate.commits.commit_process import CommitProcess, bind_to_idle_cores
from harness.gate.commits.turns import FIRST_PASS, Pair, measure, pairs_of

RECORDED = replace(FIRST_PASS, preparations=1)
"""Prepares a case as often as a first pass does at most, and calls ``settled`` after every preparation, so that the
pairs of each preparation can be counted."""
DIGITS = 6
"""Significant digits of a recorded time."""
CASES: tuple[AnySpec, ...] = (
    OperationSpec(attention="sdpa", seq_len=128),
    OperationSpec(attention="yoso", seq_len=512),
    OperationSpec(attention="yoso", seq_len=1024, mode="forward_backward"),
    OperationSpec(attention="softmax", seq_len=512, mode="forward_backward"),
    OperationSpec(attention="sdpa", seq_len=1024, mode="forward_backward"),
    OperationSpec(attention="softmax", seq_len=1024),
    OperationSpec(attention="cosformer", seq_len=1024),
    ModelSpec(attention="yoso", seq_len=128, layers=2, hidden_size=256, heads=4),
)
"""Calls of a quarter of a millisecond to a tenth of a second: native kernels, torch's own, a whole model, and two in
plain torch that are bound by memory, with 33 MB of scores and features."""
SPIN = "import os\nos.sched_setaffinity(0, {0})\nwhile True: pass"


class CaseRound(BaseModel):
    """One case in a pair of fresh processes: its pairs of turns in seconds, by preparation, and both peaks in bytes."""

    model_config = ConfigDict(extra="forbid")

    preparations: list[list[Pair]]
    peak_bytes: tuple[int, int]


class Recording(BaseModel):
    """All rounds, each by case id; ``loaded``: whether another process kept core 0 busy."""

    model_config = ConfigDict(extra="forbid")

    started: str
    commit: str | None
    loaded: bool
    machine: dict[str, Scalar | None]
    rounds: list[dict[str, CaseRound]]


def record(seconds: float, loaded: bool) -> Recording:
    """Measure rounds for ``seconds``; no round starts that is expected to exceed them."""
    neighbour = subprocess.Popen([sys.executable, "-c", SPIN]) if loaded else None
    try:
        bind_to_idle_cores()
        began = monotonic()
        recording = Recording(
            started=datetime.now(UTC).isoformat(timespec="seconds"), commit=None, loaded=loaded, machine={}, rounds=[]
        )
        longest = 0.0
        while monotonic() - began + longest < seconds:
            round_began = monotonic()
            _add_round(recording)
            longest = max(longest, monotonic() - round_began)
        return recording
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()


def _add_round(recording: Recording) -> None:
    base, head = CommitProcess(Path.cwd()), CommitProcess(Path.cwd())
    number = len(recording.rounds)
    try:
        for process in (base, head) if number % 2 == 0 else (head, base):
            process.start()
        if number == 0:
            origin = base.machine("cpu")
            recording.machine, recording.commit = origin["machine"], origin["commit"]
        recording.rounds.append(
            {
                spec.case_id: _case(base, head, spec, head_first=(number + place) % 2 == 1)
                for place, spec in enumerate(CASES)
            }
        )
    finally:
        base.close()
        head.close()


def _case(base_process: CommitProcess, head_process: CommitProcess, spec: AnySpec, head_first: bool) -> CaseRound:
    ends: list[int] = []

    def never(base: Record, head: Record) -> bool:
        assert base.timing is not None
        assert base.timing.turns is not None
        ends.append(len(base.timing.turns))
        return False

    base, head = measure(base_process, head_process, spec, RECORDED, head_first, settled=never)
    for result in (base, head):
        if result.timing is None or result.memory is None:
            raise SystemExit(f"{result.case_id} was not measured: {result.status}: {'; '.join(result.reasons)}")
    assert base.timing is not None
    assert head.timing is not None
    assert base.memory is not None
    assert head.memory is not None
    pairs: list[Pair] = [(_rounded(b), _rounded(h)) for b, h in pairs_of(base.timing, head.timing)]
    preparations = [pairs[start:end] for start, end in itertools.pairwise([0, *ends])]
    return CaseRound(preparations=preparations, peak_bytes=(base.memory.peak_bytes, head.memory.peak_bytes))


def _rounded(seconds: list[float]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in seconds]


def main(
    out: Annotated[Path, typer.Argument(help="JSON file to write")],
    seconds: Annotated[float, typer.Option(help="duration of the recording")] = 500.0,
    load: Annotated[bool, typer.Option("--load", help="keep core 0 busy with another process")] = False,
) -> None:
    """Record, and write the file."""
    recording = record(seconds, load)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(recording.model_dump_json())
    typer.echo(f"{len(recording.rounds)} rounds of {len(CASES)} cases on {os.cpu_count()} cores: {out}")


if __name__ == "__main__":
    typer.run(main)
