"""Rounds of one commit against itself, as ``harness ab`` takes them: the raw material of the proof.

``python -m suites.studies.gate_proof.recording OUT --seconds 500 --load`` adds rounds until the time is over. Every
round is two fresh processes that take all cases in turns; with ``--load`` a third one keeps core 0 busy all the while.
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
from harness.gate.commits import quiet_cores
from harness.gate.commits.commit_process import CommitProcess
from harness.gate.commits.turns import FIRST, Pair, measure, pairs_of

RECORDED = replace(FIRST, preparations=1)
"""As often as a first pass prepares a case at the most; asked after each whether it is settled, to count the pairs."""
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
"""Calls of a quarter of a millisecond to a tenth of a second; native kernels, torch's own, a whole model; and two whose
time the memory decides, 33 MB of scores and features in plain torch."""
SPIN = "import os\nos.sched_setaffinity(0, {0})\nwhile True: pass"


class CaseRound(BaseModel):
    """One case in one pair of fresh processes: pairs of turns in seconds, by preparation; peak bytes of both."""

    model_config = ConfigDict(extra="forbid")

    preparations: list[list[Pair]]
    peak_bytes: tuple[int, int]


class Recording(BaseModel):
    """All rounds; each by case id."""

    model_config = ConfigDict(extra="forbid")

    started: str
    commit: str | None
    loaded: bool
    machine: dict[str, Scalar | None]
    rounds: list[dict[str, CaseRound]]


def record(seconds: float, loaded: bool) -> Recording:
    """Take rounds until ``seconds`` are over; a round that has begun is finished."""
    neighbour = subprocess.Popen([sys.executable, "-c", SPIN]) if loaded else None
    try:
        quiet_cores.stay_on_them()
        began = monotonic()
        found = Recording(
            started=datetime.now(UTC).isoformat(timespec="seconds"), commit=None, loaded=loaded, machine={}, rounds=[]
        )
        longest = 0.0
        while monotonic() - began + longest < seconds:
            round_began = monotonic()
            _round(found)
            longest = max(longest, monotonic() - round_began)
        return found
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()


def _round(found: Recording) -> None:
    base, head = CommitProcess(Path.cwd()), CommitProcess(Path.cwd())
    number = len(found.rounds)
    try:
        for side in (base, head) if number % 2 == 0 else (head, base):
            side.start()
        if number == 0:
            seen = base.machine("cpu")
            found.machine, found.commit = seen["machine"], seen["commit"]
        found.rounds.append(
            {
                spec.case_id: _case(base, head, spec, head_first=(number + place) % 2 == 1)
                for place, spec in enumerate(CASES)
            }
        )
    finally:
        base.close()
        head.close()


def _case(base_side: CommitProcess, head_side: CommitProcess, spec: AnySpec, head_first: bool) -> CaseRound:
    ends: list[int] = []

    def never(base: Record, head: Record) -> bool:
        assert base.timing is not None
        assert base.timing.turns is not None
        ends.append(len(base.timing.turns))
        return False

    base, head = measure(base_side, head_side, spec, RECORDED, head_first, settled=never)
    for one in (base, head):
        if one.timing is None or one.memory is None:
            raise SystemExit(f"{one.case_id} was not measured: {one.status}: {'; '.join(one.reasons)}")
    assert base.timing is not None
    assert head.timing is not None
    assert base.memory is not None
    assert head.memory is not None
    pairs: list[Pair] = [(_rounded(one), _rounded(other)) for one, other in pairs_of(base.timing, head.timing)]
    preparations = [pairs[start:end] for start, end in itertools.pairwise([0, *ends])]
    return CaseRound(preparations=preparations, peak_bytes=(base.memory.peak_bytes, head.memory.peak_bytes))


def _rounded(seconds: list[float]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in seconds]


def main(
    out: Annotated[Path, typer.Argument(help="JSON file to write")],
    seconds: Annotated[float, typer.Option(help="how long")] = 500.0,
    load: Annotated[bool, typer.Option("--load", help="keep core 0 busy with another process")] = False,
) -> None:
    """Record."""
    found = record(seconds, load)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(found.model_dump_json())
    typer.echo(f"{len(found.rounds)} rounds of {len(CASES)} cases on {os.cpu_count()} cores: {out}")


if __name__ == "__main__":
    typer.run(main)
