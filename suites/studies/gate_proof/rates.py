"""How often each gate is wrong, from recorded rounds: false alarms without a planted change, detections with one.

``python -m suites.studies.gate_proof.rates RECORDING... --out FOLDER`` writes ``proof.json``, and ``proof.html`` with
the same numbers. The keys of the JSON and the names of the gates in it are those of the published files.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy.stats import binomtest

from harness.core.templates import environment
from harness.gate.commits import two_commits
from harness.gate.commits.turns import FIRST_PASS, FRESH_ROUND, SECONDS
from harness.gate.judge.gated_metrics import METRICS
from harness.gate.judge.metric_change import round_difference
from harness.gate.judge.thresholds import Settings
from harness.statistics.meta_analysis import MIN_ROUNDS as MIN_PROCESSES
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
"""The planted changes for which the tests hold ``harness ab`` to a rate."""
MANY_CASES = 60
"""Number of cases of a longer run, with more opportunities for a false alarm and more cases besides the planted one."""
MIN_RUNS = 400
"""With fewer runs, the interval of a rate of 0 would reach beyond 1%."""
MIN_ROUNDS = 20
"""With fewer rounds, a recording does not show how much rounds differ."""
INCONCLUSIVE = "cannot judge"
"""The published key of the rate of exit code 2."""
TEMPLATES = Path(__file__).parent / "templates"


def rates(recording: Recording, name: str, runs: int, seed: int = 0) -> list[dict[str, Any]]:
    """The rates of every gate for every planted change, as rows of the JSON.

    Args:
        recording: rounds of one commit against itself.
        name: of the recording, for the rows.
        runs: number of runs of ``harness ab`` for each of ``BARS``; every other row has a quarter as many.
        seed: of the random choices.

    Raises:
        ValueError: the recording has fewer than ``MIN_ROUNDS`` rounds.
    """
    if len(recording.rounds) < MIN_ROUNDS:
        raise ValueError(f"{name}: {len(recording.rounds)} rounds were recorded, {MIN_ROUNDS} are needed")
    rows: list[dict[str, Any]] = []
    for gate, judge in GATES.items():
        for planted, change in PLANTED.items():
            if "memory" in planted and "pytest" in gate:
                continue  # pytest-benchmark does not compare memory
            count = runs if judge is Replay.ab and planted in BARS else runs // 4
            for cases in (len(CASES), MANY_CASES):
                if cases == MANY_CASES and planted not in ("nothing", "time +10%"):
                    continue
                replay = Replay(recording, cases, Settings(), np.random.default_rng([seed, cases, len(rows)]))
                outcomes = [judge(replay, change) for _ in range(count)]
                rows.append({"recording": name, "gate": gate, "planted": planted, "cases": cases} | _counted(outcomes))
    return rows


def _counted(outcomes: list[Outcome]) -> dict[str, Any]:
    runs = len(outcomes)
    return {
        "runs": runs,
        "alarm": _rate(sum(outcome.exit_code == 1 for outcome in outcomes), runs),
        "planted case named": _rate(sum(outcome.exit_code == 1 and outcome.named for outcome in outcomes), runs),
        INCONCLUSIVE: _rate(sum(outcome.exit_code == 2 for outcome in outcomes), runs),
    }


def _rate(count: int, runs: int) -> dict[str, Any]:
    interval = binomtest(count, runs).proportion_ci(LEVEL, method="wilson")
    return {"count": count, "share": count / runs, "interval": [float(interval.low), float(interval.high)]}


def spreads(recording: Recording) -> dict[str, float]:
    """The standard deviation of a round's log ratio, by case; the gate's default ``spread`` of time is based on it."""

    def log_ratio(case_round: CaseRound) -> float:
        pairs = [pair for preparation in case_round.preparations for pair in preparation]
        return round_difference(METRICS["time"], [base for base, _ in pairs], [head for _, head in pairs])[0]

    return {
        spec.case_id: float(np.sqrt(np.mean([log_ratio(cases[spec.case_id]) ** 2 for cases in recording.rounds])))
        for spec in CASES
    }


def settings() -> dict[str, Any]:
    """The settings of the gate for which the rates hold."""
    return {
        "false_discovery_rate": Settings().false_discovery_rate,
        "floors": {name: metric.floor for name, metric in METRICS.items()},
        "rounds of fresh processes": [two_commits.SAME_FROM, two_commits.ROUNDS],
        "preparations of a case, in the first pass": [FIRST_PASS.preparations, FIRST_PASS.max_preparations],
        "preparations of a case, in a round": FRESH_ROUND.preparations,
        "seconds of turns for each": SECONDS,
        "spread of one process's time, in turns and apart": [METRICS["time"].spread, METRICS["time"].spread_apart],
        "interval of the rates": f"{LEVEL:.0%}, Wilson",
    }


def html(proof: dict[str, Any]) -> str:
    """The page of a ``proof.json``."""
    return environment(TEMPLATES).get_template("proof.html").render(proof=proof, percent=_percent, interval=_interval)


def _percent(rate: dict[str, Any]) -> str:
    return f"{rate['share']:.1%}"


def _interval(rate: dict[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{low:.1%} to {high:.1%}"


def main(
    recordings: Annotated[list[Path], typer.Argument(help="written by suites.studies.gate_proof.recording")],
    out: Annotated[Path, typer.Option(help="folder for proof.json and proof.html")] = Path("reports/gate-proof"),
    runs: Annotated[int, typer.Option(help="runs per rate that the tests hold harness ab to", min=MIN_RUNS)] = 1000,
) -> None:
    """Replay the recordings, and write the rates."""
    proof: dict[str, Any] = {"settings": settings(), "recordings": {}, "rows": []}
    for path in recordings:
        recording = Recording.model_validate_json(path.read_text(encoding="utf-8"))
        proof["recordings"][path.stem] = {
            "started": recording.started,
            "commit": recording.commit,
            "a neighbour loads a core": recording.loaded,
            "rounds": len(recording.rounds),
            "machine": recording.machine,
            "standard deviation of a round's log ratio": spreads(recording),
        }
        proof["rows"] += rates(recording, path.stem, runs)
    out.mkdir(parents=True, exist_ok=True)
    (out / "proof.json").write_text(json.dumps(proof, indent=1), encoding="utf-8")
    (out / "proof.html").write_text(html(proof), encoding="utf-8")
    typer.echo(f"{len(proof['rows'])} rates: {out / 'proof.html'}")


if __name__ == "__main__":
    typer.run(main)
