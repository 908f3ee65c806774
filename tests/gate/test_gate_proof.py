"""The proof's own machinery, and the proof that is published."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from harness.core.record import Run, Timing
from harness.gate.commits.turns import ONE_CALL
from harness.gate.judge.gated_metrics import METRICS
from harness.gate.judge.thresholds import Settings
from suites.studies.gate_proof import live, page, rates, turn_length
from suites.studies.gate_proof.recording import CASES, CaseRound, Recording
from suites.studies.gate_proof.replay import Planted, Replay

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


class Steady:
    def __init__(self, seconds):
        self.seconds, self.asked = seconds, []

    def sample(self, effort):
        self.asked.append(effort)
        return Timing(wall_seconds=[self.seconds, 2 * self.seconds], warmup_calls=0, threads=1)


def test_a_second_of_turns_has_both_figures_of_a_round():
    sides = Steady(0.001), Steady(0.00102)
    found = turn_length.seconds_of_turns(sides, ONE_CALL, 0.02)
    assert found["pairs"] == len(sides[0].asked) == len(sides[1].asked) > 1
    assert found["middle of the pairs"] == pytest.approx(np.log(1.02)) == found["quickest calls"]
    assert found["quickest call, milliseconds"] == pytest.approx(1.0)
    assert found["its own standard error"] < 1e-9
    apart = turn_length._apart([found | {"middle of the pairs": value} for value in (0.1, 0.3)])
    assert apart["standard deviation of the middle of the pairs"] == pytest.approx(np.sqrt(0.02))


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


def test_the_guide_says_how_little_five_stored_processes_can_judge_there():
    proof = json.loads((PUBLISHED / "proof.json").read_text())
    rows = [row for row in proof["rows"] if row["gate"] == "harness gate, 5 processes a side"]
    row = next(row for row in rows if (row["planted"], row["cases"]) == ("nothing", len(CASES)))
    guide = " ".join((PUBLISHED.parents[1] / "docs" / "gating.md").read_text().split())
    assert f"it could not judge {row['cannot judge']['count']} of {row['runs']} runs of five" in guide
    assert all(row["alarm"]["share"] < 0.02 for row in rows if row["planted"] == "nothing")


def test_processes_at_other_times_are_as_far_apart_as_the_gate_takes_them_for():
    raw = Recording.model_validate_json((PUBLISHED / "loaded.json").read_text())

    def quickest(found):
        return min(min(base) for pairs in found.preparations for base, _ in pairs)

    apart = [np.std([np.log(quickest(one[spec.case_id])) for one in raw.rounds], ddof=1) for spec in CASES]
    assert max(apart) == pytest.approx(METRICS["time"].spread_apart, abs=0.02)
    guide = (PUBLISHED.parents[1] / "docs" / "gating.md").read_text()
    assert f"`spread_apart`, {METRICS['time'].spread_apart:.0%}:" in guide
    assert f"{min(apart):.0%} is the steadiest's" in guide


def test_a_live_run_is_kept_with_what_it_said():
    said = [
        "1/2 operation/yoso: ok, 1.0 s",
        "first pass: 2 cases in 2 s, 0 to look at again",
        "PASS: no regression (2 SAME)",
    ]
    run = Run(
        started="now", command="harness ab", profile="quick", machine={"cpu": "made up"}, commit="a" * 40, records=[]
    )
    row = live.row(run, said, 3.6, 0)
    assert (row["seconds"], row["exit_code"], row["said"]) == (4, 0, said[1:])
    assert (row["commit"], row["machine"]) == (run.commit, run.machine)


def test_the_guide_has_the_figures_of_the_live_runs_and_they_keep_the_bar():
    runs = json.loads((PUBLISHED / "live.json").read_text())["runs"]
    seconds = [one["seconds"] for one in runs]
    assert max(seconds) < 15 * 60
    assert 1 not in {one["exit_code"] for one in runs}
    cases, _, again = zip(
        *([int(number) for number in re.findall(r"\d+", one["said"][1])] for one in runs), strict=True
    )
    assert len(set(cases)) == 1
    guide = " ".join((PUBLISHED.parents[1] / "docs" / "gating.md").read_text().split())
    longest = max(sum(line.startswith("round") for line in one["said"]) for one in runs)
    passed = sum(one["exit_code"] == 0 for one in runs)
    for words in (
        f"{passed} of {len(runs)} runs passed",
        f"{min(seconds)} to {max(seconds)} s",
        f"of {cases[0]} cases {min(again)} to {max(again)} were looked at again",
        f"two to {('five', 'six', 'seven', 'eight')[longest - 5]} rounds",
    ):
        assert words in guide


def test_the_guide_has_the_figures_of_the_turns():
    rows = json.loads((PUBLISHED / "turns.json").read_text())["rows"]
    guide = " ".join((PUBLISHED.parents[1] / "docs" / "gating.md").read_text().split())

    def of(turn, figure):
        return [row[figure] for row in rows if row["turn"] == turn]

    kept = of("one call", "standard deviation of the middle of the pairs")
    before = of("40 ms, threads wait as by themselves", "standard deviation of the quickest calls' ratio")
    assert max(kept) < min(before)
    assert f"wanders by {min(kept):.1%} to {max(kept):.1%}".replace("%", "", 1) in guide
    assert f"in turns of 40 ms, by {min(before):.1%} to {max(before):.1%}".replace("%", "", 1) in guide
    waiting = of("one call, threads wait as by themselves", "standard error that the pairs show")
    not_waiting = of("one call", "standard error that the pairs show")
    assert 9 < max(one / other for one, other in zip(waiting, not_waiting, strict=True)) < 13
    quickest = [of(turn, "quickest call, milliseconds") for turn in turn_length.SETTINGS]
    assert f"call of {quickest[2][0]:.1f} ms takes {quickest[0][0]:.1f} so" in guide
    for short, _, plain in list(zip(*quickest, strict=True))[1:]:
        assert plain > 10
        assert short == pytest.approx(plain, rel=0.01)
