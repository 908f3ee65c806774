"""How far apart one commit is from itself in a second of turns, by how long a turn is and how long threads wait.

``python -m suites.studies.gate_proof.turn_length OUT`` writes the JSON that ``docs/gating.md`` quotes. Two processes
of this checkout hold a case, and every setting has its second in turn, so that all meet the same machine.
"""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import numpy as np
import typer

from harness.gate.commits.commit_process import STOP_WAITING, CommitProcess, Failed
from harness.gate.commits.turns import ONE_CALL
from harness.gate.judge.contrast import difference
from harness.gate.judge.gated_metrics import METRICS
from suites.studies.gate_proof.recording import CASES

LONG_TURN = ONE_CALL | {"max_samples": 30, "seconds": 0.04, "warmup_calls": 1}
BY_ITSELF = {"GOMP_SPINCOUNT": "300000"}
"""What OpenMP's threads do where nobody says anything."""
SETTINGS = {
    "one call": (ONE_CALL, STOP_WAITING),
    "one call, threads wait as by themselves": (ONE_CALL, BY_ITSELF),
    "40 ms, threads wait as by themselves": (LONG_TURN, BY_ITSELF),
}
MEASURED = CASES[1:4]
"""Calls of some milliseconds, by far the most in a run."""


def seconds_of_turns(
    sides: tuple[CommitProcess, CommitProcess], effort: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Pairs of turns for as long: their number, both figures of a round, and the quickest call."""
    turns: tuple[list[list[float]], list[list[float]]] = ([], [])
    began, order = monotonic(), (0, 1)
    while monotonic() - began < seconds:
        for which in order:
            timing = sides[which].sample(effort)
            if isinstance(timing, Failed):
                raise SystemExit(f"{timing.status}: {'; '.join(timing.reasons)}")
            turns[which].append(timing.wall_seconds)
        order = order[::-1]
    quickest = [min(map(min, side)) for side in turns]
    middle, error = difference(METRICS["time"], *turns)
    return {
        "pairs": len(turns[0]),
        "middle of the pairs": middle,
        "its own standard error": error,
        "quickest calls": math.log(quickest[1] / quickest[0]),
        "quickest call, milliseconds": 1e3 * min(quickest),
    }


def main(
    out: Annotated[Path, typer.Argument(help="JSON file to write")],
    times: Annotated[int, typer.Option(help="how often every setting has a second", min=2)] = 12,
) -> None:
    """Measure."""
    held = {
        name: (CommitProcess(Path.cwd(), env), CommitProcess(Path.cwd(), env)) for name, (_, env) in SETTINGS.items()
    }
    machine = next(iter(held.values()))[0].machine("cpu")
    rows = []
    for spec in MEASURED:
        for sides in held.values():
            for side in sides:
                side.begin_prepare(spec, verified=True, observed=True)
            for side in sides:
                side.prepared()
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in SETTINGS}
        for _ in range(times):
            for name, (effort, _) in SETTINGS.items():
                found[name].append(seconds_of_turns(held[name], effort, 1.0))
        rows += [{"case": spec.case_id, "turn": name} | _apart(some) for name, some in found.items()]
    for sides in held.values():
        for side in sides:
            side.close()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    out.write_text(json.dumps({"started": started, "seconds": times, **machine, "rows": rows}, indent=1))
    typer.echo(f"{len(rows)} rows: {out}")


def _apart(some: list[dict[str, Any]]) -> dict[str, float]:
    """Standard deviations over the seconds, which leave out what two processes differ by all the time."""

    def of(name: str) -> list[float]:
        return [one[name] for one in some]

    return {
        "pairs a second": float(np.median(of("pairs"))),
        "standard deviation of the middle of the pairs": float(np.std(of("middle of the pairs"), ddof=1)),
        "standard error that the pairs show": float(np.median(of("its own standard error"))),
        "standard deviation of the quickest calls' ratio": float(np.std(of("quickest calls"), ddof=1)),
        "quickest call, milliseconds": min(of("quickest call, milliseconds")),
    }


if __name__ == "__main__":
    typer.run(main)
