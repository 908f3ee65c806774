"""The proof's own machinery, and the proof that is published."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.gating.proof import page, rates
from harness.gating.proof.recording import CASES, CaseRound, Recording
from harness.gating.proof.replay import Planted, Replay
from harness.gating.settings import Settings

PUBLISHED = Path(__file__).parents[2] / "reports" / "gate-proof"


def recording(rounds=24, luck=0.01, seed=0):
    rng = np.random.default_rng(seed)

    def turn(process):
        return (0.01 * process * np.exp(np.abs(0.03 * rng.standard_normal(6)))).tolist()

    def one():
        luck_of = np.exp(luck * rng.standard_normal(2))
        preparations = [[(turn(luck_of[0]), turn(luck_of[1])) for _ in range(6)] for _ in range(4)]
        return CaseRound(preparations=preparations, peak_bytes=(10**6, 10**6))

    found = [{spec.case_id: one() for spec in CASES} for _ in range(rounds)]
    machine = {"cpu": "made up <b>", "logical_cores": 2, "torch": "0", "torch_threads": 1}
    return Recording(started="now", commit="a" * 40, loaded=True, machine=machine, rounds=found)


@pytest.fixture
def replay():
    return Replay(recording(), len(CASES), Settings(), np.random.default_rng(1))


def test_replayed_runs_of_one_commit_pass_and_planted_changes_are_named(replay):
    assert {replay.ab(Planted()).exit_code for _ in range(20)} == {0}
    for planted in (Planted(time=1.2), Planted(memory=1.05)):
        found = [replay.ab(planted) for _ in range(10)]
        assert all(one.exit_code == 1 and one.named for one in found)


def test_pytest_benchmark_is_asked_with_its_own_rule(replay):
    assert all(replay.pytest_benchmark(Planted(time=1.5)).named for _ in range(10))
    quiet = Replay(recording(luck=0.0), len(CASES), Settings(), np.random.default_rng(1))
    assert {quiet.pytest_benchmark(Planted()).exit_code for _ in range(20)} == {0}
    noisy = Replay(recording(luck=0.2), len(CASES), Settings(), np.random.default_rng(1))
    assert 1 in {noisy.pytest_benchmark(Planted()).exit_code for _ in range(20)}


def test_rates_are_counted_and_shown(monkeypatch):
    monkeypatch.setattr(rates, "PLANTED", {"nothing": Planted(), "time +10%": Planted(time=1.1)})
    monkeypatch.setattr(rates, "MANY_CASES", 8)
    found = {"recordings": {}, "rows": rates.rates(recording(), "made-up", 8)}
    given = recording()
    found["recordings"]["made-up"] = {
        "started": given.started, "commit": given.commit, "a neighbour loads a core": True, "rounds": 24,
        "machine": given.machine, "standard deviation of a round's log ratio": rates.spreads(given),
    }  # fmt: skip
    for row in found["rows"]:
        assert row["runs"] == (8 if row["gate"] == "harness ab" else 2)
        assert row["alarm"]["share"] == row["alarm"]["count"] / row["runs"]
        low, high = row["alarm"]["interval"]
        assert low <= row["alarm"]["share"] <= high
    text = page.html(found)
    assert "made up <b>" not in text
    assert text.count("<tr") == 2 + len(found["rows"]) + len(CASES)
    with pytest.raises(ValueError, match="19 rounds were recorded, 20 are needed"):
        rates.rates(recording(19), "few", 8)


def test_the_published_page_is_of_the_published_figures():
    proof = json.loads((PUBLISHED / "proof.json").read_text())
    assert (PUBLISHED / "proof.html").read_text() == page.html(proof)
    for name, one in proof["recordings"].items():
        raw = Recording.model_validate_json((PUBLISHED / f"{name}.json").read_text())
        assert (one["rounds"], one["commit"]) == (len(raw.rounds), raw.commit)
        assert one["standard deviation of a round's log ratio"] == pytest.approx(rates.spreads(raw))


def test_the_published_proof_is_of_the_gate_as_it_is():
    settings = json.loads((PUBLISHED / "proof.json").read_text())["settings"]
    assert settings == json.loads(json.dumps(rates.settings()))


def test_the_published_rates_keep_the_bars():
    """False alarms under 1% of whole runs; +10% time named in 95%, +5% memory in all, a core being loaded."""
    proof = json.loads((PUBLISHED / "proof.json").read_text())
    rows = {(row["gate"], row["planted"], row["cases"]): row for row in proof["rows"] if row["recording"] == "loaded"}
    for cases in (len(CASES), rates.MANY_CASES):
        assert rows["harness ab", "nothing", cases]["alarm"]["interval"][1] < 0.01
        assert rows["harness ab", "time +10%", cases]["planted case named"]["interval"][0] >= 0.95
    assert rows["harness ab", "memory +5%", len(CASES)]["planted case named"]["share"] == 1.0
