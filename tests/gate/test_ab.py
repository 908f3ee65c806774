"""``harness ab``: its order, with sides that are made up."""

import json
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.record import Check, Conditions, Memory, Timing
from harness.core.spec import OperationSpec
from harness.gate.commits import two_commits
from harness.gate.commits.collection import Collection
from harness.gate.commits.commit_process import Failed
from harness.gate.commits.turns import FIRST, FRESH, ONE_CALL, ROUND_SECONDS, Plan, measure, of_round

SPECS = {spec.case_id: spec for spec in (OperationSpec(attention="sdpa", seq_len=n) for n in (16, 32, 64, 128))}
SLOW = [*SPECS][1]
CHECK = Check(what="output", error=1e-7, allowed=1e-6, passed=True)
SEEN = Conditions(parameters=0, compiled=False, float32_matmul="highest", operators=3)


class MadeUpSide:
    """A side whose processes each have their luck.

    ``cost`` is a factor by case, or one a process, or what the case fails with. ``events`` has ``A!`` for a start of
    side A, ``a`` for a case asked for and ``A`` for a turn; ``efforts`` are those of its turns.
    """

    def __init__(self, name, rng, events, cost=None, luck=0.01):
        self.name, self._rng, self.events, self._luck = name, rng, events, luck
        self._cost = cost or {}
        self.processes = 0
        self.seen, self.efforts = [], []

    def start(self):
        self.processes += 1
        self.events.append(self.name + "!")
        self._process = np.exp(self._luck * self._rng.standard_normal())

    def close(self):
        pass

    def machine(self, device):
        return {"machine": {"cpu": "made up"}, "commit": None}

    def begin_prepare(self, spec, verified, observed):
        self._spec = spec
        self.seen.append((spec.case_id, verified, observed))
        self.events.append(self.name.lower())

    def prepared(self):
        cost = self._cost.get(self._spec.case_id, 1.0)
        if isinstance(cost, str):
            return synthetic.record(self._spec, cost)
        memory = Memory(peak_bytes=1000, input_bytes=10, source="made up")
        _, verified, observed = self.seen[-1]
        checks, conditions = [] if verified else [CHECK], None if observed else SEEN
        return synthetic.record(self._spec, memory=memory, checks=checks, conditions=conditions)

    def sample(self, effort):
        self.events.append(self.name)
        self.efforts.append(effort)
        cost = self._cost.get(self._spec.case_id, 1.0)
        if isinstance(cost, Failed):
            return cost
        if isinstance(cost, list):
            cost = cost[self.processes - 1]
        noise = np.exp(np.abs(0.02 * self._rng.standard_normal(8)))
        return Timing(wall_seconds=(0.01 * self._process * cost * noise).tolist(), warmup_calls=1, threads=1)


def compare(seed=0, cost=None, base_specs=SPECS, head_specs=SPECS, settings=None, **more):
    from harness.gate.judge.thresholds import Settings

    rng, events = np.random.default_rng(seed), []
    commits = [
        two_commits.Commit(
            name,
            MadeUpSide(name[0].upper(), rng, events, its, **more),
            Collection(profile="quick", device="cpu", specs=specs),
        )
        for name, its, specs in (("base", None, base_specs), ("head", cost, head_specs))
    ]
    said = []
    kept = []
    found = two_commits.compare(
        *commits, settings or Settings(), "harness ab", 10.0, said.append, lambda *runs: kept.append(runs)
    )
    base, head = kept[-1]
    assert len(kept) == commits[0].side.processes  # after the first pass, and after every round of fresh processes
    return base, head, found, commits, said


def first_asked(side):
    """Whether verified and observed before, as each case was asked for first."""
    return set({case_id: tuple(rest) for case_id, *rest in reversed(side.seen)}.values())


def started(cost=None):
    rng, events = np.random.default_rng(0), []
    sides = [MadeUpSide(name, rng, events, cost) for name in "AB"]
    for side in sides:
        side.start()
    events.clear()
    return sides, events


def test_turns_are_base_head_head_base_and_the_case_is_prepared_anew_among_them():
    sides, events = started()
    base, head = measure(*sides, SPECS[SLOW], Plan(preparations=3, most=3, seconds=0.06), head_first=False)
    assert "".join(events) == "ab" + "AB" + "ABBA" + "abABBA" + "abABBA"
    assert base.timing.turns == head.timing.turns == [8] * 6
    assert sides[0].efforts == sides[1].efforts == [ONE_CALL] * 7
    for side in sides:
        assert side.seen[-1][1:] == (True, True)  # neither verified nor observed a second time


def test_a_pair_of_turns_is_the_least_and_who_begins_it_changes():
    sides, events = started()
    measure(*sides, SPECS[SLOW], Plan(preparations=3, most=3, seconds=0.0), head_first=True)
    assert "".join(events) == "ba" + "BA" + "BA" + "abAB" + "baBA"


def test_a_case_is_taken_on_until_it_is_settled_and_no_longer_than_the_plan_has_it():
    asked = []

    def settled(base, head):
        asked.append((len(base.timing.turns), len(head.timing.turns)))
        return len(asked) == 3

    plan = Plan(preparations=2, most=6, seconds=0.06)
    sides, _ = started()
    base, head = measure(*sides, SPECS[SLOW], plan, head_first=True, settled=settled)
    assert asked == [(4, 4), (6, 6), (8, 8)]
    assert base.timing.turns == head.timing.turns == [8] * 8
    sides, _ = started()
    base, head = measure(*sides, SPECS[SLOW], plan, head_first=True, settled=lambda *records: False)
    assert base.timing.turns == head.timing.turns == [8] * 12


def test_a_long_case_is_prepared_once_and_none_of_its_calls_is_thrown_away():
    sides, events = started({SLOW: 20.0})
    base, head = measure(*sides, SPECS[SLOW], Plan(preparations=3, most=3), head_first=False)
    assert "".join(events) == "ab" + "AB" + "BA" + "AB"
    assert base.timing.turns == head.timing.turns == [8] * 3


def test_a_short_call_is_asked_for_as_often_as_makes_a_sample():
    sides, _ = started({SLOW: 0.1})
    measure(*sides, SPECS[SLOW], FRESH, head_first=False)
    assert [effort["warmup_calls"] for effort in sides[0].efforts[:3]] == [0, 1, 1]


def test_few_long_cases_get_the_time_of_many():
    assert of_round(100) == FRESH
    few = of_round(2)
    assert few.long_seconds * few.preparations * 2 == pytest.approx(ROUND_SECONDS)
    assert few == replace(FRESH, long_seconds=few.long_seconds)

    def turns(cost, plan):
        sides, _ = started({SLOW: cost})
        return len(measure(*sides, SPECS[SLOW], plan, head_first=False)[0].timing.turns)

    usual, longer = Plan(3, 3, seconds=0.1, long_seconds=0.1), Plan(3, 3, seconds=0.1, long_seconds=1.2)
    assert (turns(20.0, usual), turns(20.0, longer)) == (3, 9)
    assert turns(1.0, usual) == turns(1.0, longer) > 9  # a call of 10 ms: more of it says nothing more of its process


def test_what_fails_when_it_is_prepared_anew_has_failed():
    sides, _ = started()
    prepared, asked = sides[1].prepared, []

    def second_time_out_of_memory():
        asked.append(None)
        record = prepared()
        return record if len(asked) == 1 else record.model_copy(update={"status": "oom", "reasons": ["no room"]})

    sides[1].prepared = second_time_out_of_memory
    base, head = measure(*sides, SPECS[SLOW], FIRST, head_first=False)
    assert (head.status, head.reasons, head.timing) == ("oom", ["no room"], None)
    assert (base.status, base.timing) == ("ok", None)


def test_the_same_commit_passes_and_little_is_taken_again():
    again = 0
    for seed in range(25):
        *_, found, commits, _ = compare(seed)
        assert found.exit_code == 0, found.findings
        again += commits[0].side.processes - 1
    assert again < 25 * two_commits.ROUNDS / 2


def test_a_slow_case_is_taken_again_in_fresh_processes_and_found():
    for seed in range(15):
        base, head, found, commits, _ = compare(seed, {SLOW: 1.1})
        assert found.exit_code == 1
        assert [one.case_id for one in found.with_weight("regression")] == [SLOW]
        rounds = [record for record in head.records if record.case_id == SLOW]
        assert len(rounds) == two_commits.ROUNDS
        assert commits[1].side.processes == 1 + two_commits.ROUNDS
        assert all((record.checks, record.conditions) == ([CHECK], SEEN) for record in rounds)
        for commit in commits:
            assert {observed for _, observed in first_asked(commit.side)} == {False}
            assert {asked[1:] for asked in commit.side.seen if asked[0] == SLOW} - first_asked(commit.side) == {
                (True, True)
            }
        assert base.session == head.session is not None
        starts = [event[0] for event in commits[0].side.events if event.endswith("!")]
        assert "".join(starts) == "BH" + "BHHB" * (two_commits.ROUNDS // 2)


def test_a_case_whose_first_process_was_unlucky_is_soon_let_go():
    _, head, found, commits, _ = compare(0, {SLOW: [1.15] + [1.0] * two_commits.ROUNDS})
    assert found.exit_code == 0
    assert sum(record.case_id == SLOW for record in head.records) == two_commits.SAME_FROM
    assert commits[1].side.processes == 1 + two_commits.SAME_FROM


def test_the_stored_runs_give_the_same_verdict(tmp_path, monkeypatch):
    base, head, found, *_ = compare(3, {SLOW: 1.15})
    for run, name in ((base, "base.json"), (head, "head.json")):
        (tmp_path / name).write_text(json.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")}))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["gate", "base.json", "head.json", "--json", "found.json"])
    assert done.exit_code == found.exit_code == 1
    stored = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert [(one["case"], one["verdict"]) for one in stored] == [(one.case_id, one.verdict) for one in found.findings]


@pytest.mark.parametrize("cost", ["incorrect", "unsupported", "oom", Failed("crashed", ["killed by SIGSEGV"])])
def test_a_case_that_fails_on_head_alone_is_a_regression_and_the_others_are_measured(cost):
    base, _, found, *_ = compare(0, {SLOW: cost})
    assert found.exit_code == 1
    assert [one.verdict.split()[0] for one in found.with_weight("regression")] == ["NEWLY"]
    assert sum(record.timing is not None for record in base.records) >= len(SPECS) - 1


def test_base_is_verified_only_to_know_whether_it_was_wrong_before():
    *_, commits, _ = compare(1)
    assert {verified for _, verified, _ in commits[0].side.seen} == {True}
    assert {verified for verified, _ in first_asked(commits[1].side)} == {False}
    *_, commits, _ = compare(1, {SLOW: "incorrect"})
    assert (SLOW, False, False) in commits[0].side.seen


def test_vanished_and_new_cases_are_told_apart():
    fewer = {name: spec for name, spec in SPECS.items() if name != SLOW}
    *_, found, _, _ = compare(head_specs=fewer)
    assert [(one.case_id, one.verdict) for one in found.with_weight("regression")] == [(SLOW, "VANISHED")]
    *_, found, _, _ = compare(base_specs=fewer)
    assert (found.exit_code, [one.case_id for one in found.findings if one.verdict == "NEW"]) == (0, [SLOW])
