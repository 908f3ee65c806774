"""How much one commit seems to differ from itself in a second of turns, by the length of a turn and OpenMP's spinning.

``python -m suites.studies.gate_proof.turn_length OUT`` writes the JSON that ``docs/gating.md`` quotes. For each setting
two processes of this checkout hold the same case. The settings are measured alternately, a second each, so that changes
of the machine affect all of them.
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
from harness.gate.commits.turns import CPU_TURN
from harness.gate.judge.gated_metrics import METRICS
from harness.gate.judge.metric_change import round_difference
from suites.studies.gate_proof.recording import CASES

LONG_TURN = CPU_TURN | {"max_samples": 30, "seconds": 0.04, "warmup_calls": 1}
DEFAULT_SPINNING = {"GOMP_SPINCOUNT": "300000"}
"""How long an idle OpenMP thread spins by default."""
SETTINGS = {
    "one call": (CPU_TURN, STOP_WAITING),
    "one call, threads wait as by themselves": (CPU_TURN, DEFAULT_SPINNING),
    "40 ms, threads wait as by themselves": (LONG_TURN, DEFAULT_SPINNING),
}
"""Effort and environment by the setting's name in the published JSON; "as by themselves" is OpenMP's default."""
MEASURED = CASES[1:4]
"""Cases whose calls take some milliseconds, like most cases of a run."""


def sample_turns(
    processes: tuple[CommitProcess, CommitProcess], effort: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Pairs of turns for ``seconds``: their number, the round's difference by two estimators, and the quickest call."""
    turns: tuple[list[list[float]], list[list[float]]] = ([], [])
    began, order = monotonic(), (0, 1)
    while monotonic() - began < seconds:
        for which in order:
            timing = processes[which].sample(effort)
            if isinstance(timing, Failed):
                raise SystemExit(f"{timing.status}: {'; '.join(timing.reasons)}")
            turns[which].append(timing.wall_seconds)
        order = order[::-1]
    quickest = [min(map(min, samples)) for samples in turns]
    middle, error = round_difference(METRICS["time"], *turns)
    return {
        "pairs": len(turns[0]),
        "middle of the pairs": middle,
        "its own standard error": error,
        "quickest calls": math.log(quickest[1] / quickest[0]),
        "quickest call, milliseconds": 1e3 * min(quickest),
    }


def main(
    out: Annotated[Path, typer.Argument(help="JSON file to write")],
    times: Annotated[int, typer.Option(help="seconds for which every setting is measured", min=2)] = 12,
) -> None:
    """Measure, and write the file."""
    processes = {
        name: (CommitProcess(Path.cwd(), env), CommitProcess(Path.cwd(), env)) for name, (_, env) in SETTINGS.items()
    }
    machine = next(iter(processes.values()))[0].machine("cpu")
    rows = []
    for spec in MEASURED:
        for pair in processes.values():
            for process in pair:
                process.begin_prepare(spec, verified=True, observed=True)
            for process in pair:
                process.prepared()
        samples: dict[str, list[dict[str, Any]]] = {name: [] for name in SETTINGS}
        for _ in range(times):
            for name, (effort, _) in SETTINGS.items():
                samples[name].append(sample_turns(processes[name], effort, 1.0))
        rows += [{"case": spec.case_id, "turn": name} | _spread(some) for name, some in samples.items()]
    for pair in processes.values():
        for process in pair:
            process.close()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    out.write_text(json.dumps({"started": started, "seconds": times, **machine, "rows": rows}, indent=1))
    typer.echo(f"{len(rows)} rows: {out}")


def _spread(seconds: list[dict[str, Any]]) -> dict[str, float]:
    """Standard deviations over the seconds; a constant difference between the two processes is not in them."""

    def column(name: str) -> list[float]:
        return [second[name] for second in seconds]

    return {
        "pairs a second": float(np.median(column("pairs"))),
        "standard deviation of the middle of the pairs": float(np.std(column("middle of the pairs"), ddof=1)),
        "standard error that the pairs show": float(np.median(column("its own standard error"))),
        "standard deviation of the quickest calls' ratio": float(np.std(column("quickest calls"), ddof=1)),
        "quickest call, milliseconds": min(column("quickest call, milliseconds")),
    }


if __name__ == "__main__":
    typer.run(main)
