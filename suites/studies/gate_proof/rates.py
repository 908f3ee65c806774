"""How often each gate is wrong, from recorded rounds: false alarms with nothing planted, power with something planted.

``python -m suites.studies.gate_proof.rates RECORDING... --out FOLDER`` writes ``proof.json`` and ``proof.html``.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy.stats import binomtest

from harness.gate.commits import two_commits
from harness.gate.commits.turns import FIRST, FRESH, SECONDS
from harness.gate.judge import contrast
from harness.gate.judge.gated_metrics import METRICS
from harness.gate.judge.thresholds import Settings
from harness.statistics.meta_analysis import MIN_ROUNDS as MIN_PROCESSES
from suites.studies.gate_proof import page
from suites.studies.gate_proof.recording import CASES, CaseRound, Recording
from suites.studies.gate_proof.replay import COMPARE_FAIL, Outcome, Planted, Replay

LEVEL = 0.95
PLANTED = {
    "nothing": Planted(),
    "time +3%": Planted(time=1.03),
    "time +5%": Planted(time=1.05),
    "time +10%": Planted(time=1.10),
    "time +25%": Planted(time=1.25),
    "memory +1%": Planted(memory=1.01),
    "memory +5%": Planted(memory=1.05),
}
GATES: dict[str, Callable[[Replay, Planted], Outcome]] = {
    "harness ab": Replay.ab,
    "harness gate, one process a side": Replay.gate,
    f"pytest-benchmark {COMPARE_FAIL}": Replay.pytest_benchmark,
    f"harness gate, {MIN_PROCESSES} processes a side": partial(Replay.gate, processes=MIN_PROCESSES),
}
BARS = ("nothing", "time +10%", "memory +5%")
"""What ``harness ab`` promises something of."""
MANY_CASES = 60
"""Cases of a longer run: a false alarm has more places to come from, and a planted case more to stand out from."""
LEAST_RUNS = 400
"""With fewer the interval of not one alarm would reach beyond 1%."""
MIN_ROUNDS = 20
"""A recording with fewer says too little of how far rounds are apart."""


def rates(recording: Recording, name: str, runs: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rates of every gate and every planted change, as rows for the JSON.

    Args:
        recording: rounds of one commit against itself.
        name: of the recording, for the rows.
        runs: how many runs a row is of where ``harness ab`` promises something; the other rows have a quarter of them.
        seed: of the drawing.

    Raises:
        ValueError: too few rounds were recorded.
    """
    if len(recording.rounds) < MIN_ROUNDS:
        raise ValueError(f"{name}: {len(recording.rounds)} rounds were recorded, {MIN_ROUNDS} are needed")
    rows: list[dict[str, Any]] = []
    for gate, ask in GATES.items():
        for planted, change in PLANTED.items():
            if "memory" in planted and "pytest" in gate:
                continue  # it knows no memory
            count = runs if ask is Replay.ab and planted in BARS else runs // 4
            for cases in (len(CASES), MANY_CASES):
                if cases == MANY_CASES and planted not in ("nothing", "time +10%"):
                    continue
                replay = Replay(recording, cases, Settings(), np.random.default_rng([seed, cases, len(rows)]))
                found = [ask(replay, change) for _ in range(count)]
                rows.append({"recording": name, "gate": gate, "planted": planted, "cases": cases} | _counted(found))
    return rows


def _counted(found: list[Outcome]) -> dict[str, Any]:
    alarms = sum(one.exit_code == 1 for one in found)
    named = sum(one.exit_code == 1 and one.named for one in found)
    return {
        "runs": len(found),
        "alarm": _rate(alarms, len(found)),
        "planted case named": _rate(named, len(found)),
        "cannot judge": _rate(sum(one.exit_code == 2 for one in found), len(found)),
    }


def _rate(count: int, runs: int) -> dict[str, Any]:
    interval = binomtest(count, runs).proportion_ci(LEVEL, method="wilson")
    return {"count": count, "share": count / runs, "interval": [float(interval.low), float(interval.high)]}


def spreads(recording: Recording) -> dict[str, float]:
    """By case: the standard deviation of a round's log ratio, which the gate's own spread is chosen by."""

    def gap(found: CaseRound) -> float:
        pairs = [pair for some in found.preparations for pair in some]
        return contrast.difference(METRICS["time"], [one for one, _ in pairs], [other for _, other in pairs])[0]

    return {
        spec.case_id: float(np.sqrt(np.mean([gap(one[spec.case_id]) ** 2 for one in recording.rounds])))
        for spec in CASES
    }


def settings() -> dict[str, Any]:
    """What the gate decides by, and the rates are of."""
    return {
        "false_discovery_rate": Settings().false_discovery_rate,
        "floors": {name: metric.floor for name, metric in METRICS.items()},
        "rounds of fresh processes": [two_commits.SAME_FROM, two_commits.ROUNDS],
        "preparations of a case, in the first pass": [FIRST.preparations, FIRST.most],
        "preparations of a case, in a round": FRESH.preparations,
        "seconds of turns for each": SECONDS,
        "spread of one process's time, in turns and apart": [METRICS["time"].spread, METRICS["time"].spread_apart],
        "interval of the rates": f"{LEVEL:.0%}, Wilson",
    }


def main(
    recordings: Annotated[list[Path], typer.Argument(help="of suites.studies.gate_proof.recording")],
    out: Annotated[Path, typer.Option(help="folder to write")] = Path("reports/gate-proof"),
    runs: Annotated[int, typer.Option(help="runs a row that a bar is on", min=LEAST_RUNS)] = 1000,
) -> None:
    """Replay the recordings."""
    found: dict[str, Any] = {"settings": settings(), "recordings": {}, "rows": []}
    for path in recordings:
        recording = Recording.model_validate_json(path.read_text(encoding="utf-8"))
        found["recordings"][path.stem] = {
            "started": recording.started,
            "commit": recording.commit,
            "a neighbour loads a core": recording.loaded,
            "rounds": len(recording.rounds),
            "machine": recording.machine,
            "standard deviation of a round's log ratio": spreads(recording),
        }
        found["rows"] += rates(recording, path.stem, runs)
    out.mkdir(parents=True, exist_ok=True)
    (out / "proof.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (out / "proof.html").write_text(page.html(found), encoding="utf-8")
    typer.echo(f"{len(found['rows'])} rates: {out / 'proof.html'}")


if __name__ == "__main__":
    typer.run(main)
