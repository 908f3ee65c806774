"""``harness ab`` with synthetic processes: the order of measurements, and which cases are measured again."""

import errno
import json
import re
from dataclasses import replace

import git_project
import numpy as np
import pytest
import synthetic
from typer.testing import CliRunner

from harness.commands import ab_command
from harness.commands.app import app
from harness.core.record import Check, Conditions, Memory, Timing
from harness.core.spec import OperationSpec
from harness.gate.commits import two_commits
from harness.gate.commits.commit_process import Failed
from harness.gate.commits.turns import CPU_TURN, FIRST_PASS, FRESH_ROUND, ROUND_SECONDS, Plan, measure, plan_of_round
from harness.gate.commits.worktrees import Collection
from harness.gate.judge.thresholds import Settings

SPECS = {spec.case_id: spec for spec in (OperationSpec(attention="sdpa", seq_len=n) for n in (16, 32, 64, 128))}
SLOW = [*SPECS][1]
CHECK = Check(what="output", error=1e-7, allowed=1e-6, passed=True)
SEEN = Conditions(parameters=0, compiled=False, float32_matmul="highest", operators=3)


class SyntheticProcess:
    """Replaces a ``CommitProcess``; every process that it starts has its own random factor on all its times.

    ``cost`` has by case a factor on its times, or a list with one factor per process, or the failure of the case.
    ``events`` gets ``A!`` when process A starts, ``a`` when it prepares a case and ``A`` for each of its turns.
    ``prepared_cases`` has case id, verified and observed of each preparation; ``efforts`` those of the turns.
    """

    def __init__(self, name, rng, events, cost=None, spread=0.01):
        self.name, self._rng, self.events, self._spread = name, rng, events, spread
        self._cost = cost or {}
        self.started = 0
        self.prepared_cases, self.efforts = [], []

    def start(self):
        self.started += 1
        self.events.append(self.name + "!")
        self._factor = np.exp(self._spread * self._rng.standard_normal())

    def close(self):
        pass

    def machine(self, device):
        return {"machine": {"cpu": "synthetic"}, "commit": None}

    def begin_prepare(self, spec, verified, observed, inputs_seed=None):
        self._spec = spec
        self.prepared_cases.append((spec.case_id, verified, observed))
        self.events.append(self.name.lower())

    def prepared(self):
        cost = self._cost.get(self._spec.case_id, 1.0)
        if isinstance(cost, str):
            return synthetic.record(self._spec, cost)
        memory = Memory(peak_bytes=1000, input_bytes=10, source="synthetic")
        _, verified, observed = self.prepared_cases[-1]
        checks, conditions = [] if verified else [CHECK], None if observed else SEEN
        return synthetic.record(self._spec, memory=memory, checks=checks, conditions=conditions)

    def begin_verify(self):
        pass

    def verified(self):
        return None

    def sample(self, effort):
        self.events.append(self.name)
        self.efforts.append(effort)
        cost = self._cost.get(self._spec.case_id, 1.0)
        if isinstance(cost, Failed):
            return cost
        if isinstance(cost, list):
            cost = cost[self.started - 1]
        noise = np.exp(np.abs(0.02 * self._rng.standard_normal(8)))
        return Timing(wall_seconds=(0.01 * self._factor * cost * noise).tolist(), warmup_calls=1, threads=1)


def compare(seed=0, cost=None, base_specs=SPECS, head_specs=SPECS, settings=None, **more):
    rng, events = np.random.default_rng(seed), []
    commits = [
        two_commits.Commit(
            name,
            SyntheticProcess(name[0].upper(), rng, events, commit_cost, **more),
            Collection(profile="quick", device="cpu", specs=specs),
        )
        for name, commit_cost, specs in (("base", None, base_specs), ("head", cost, head_specs))
    ]
    lines = []
    saved = []

    def save(base_run, head_run, complete):
        if complete:
            saved.append((base_run, head_run))

    judged = two_commits.compare(*commits, settings or Settings(), "harness ab", 10.0, lines.append, save)
    base, head = saved[-1]
    assert len(saved) == commits[0].process.started  # after the first pass, and after every round of fresh processes
    return base, head, judged, commits, lines


def test_the_first_pass_says_what_cases_share_once_and_what_is_left():
    *_, lines = compare()
    assert lines[0].startswith("all operation cases: ")
    first, last = (line for line in lines if line.startswith(("1/", f"{len(SPECS)}/")) and "operation " in line)
    assert re.fullmatch(rf"1/{len(SPECS)} operation \w+( n\d+)?: ok, \d+\.\d s, about \d+ s left", first)
    assert re.fullmatch(rf"{len(SPECS)}/{len(SPECS)} operation \w+( n\d+)?: ok, \d+\.\d s", last)


def first_preparations(process):
    """The pairs of verified and observed with which any case was prepared for the first time."""
    return set({case_id: tuple(rest) for case_id, *rest in reversed(process.prepared_cases)}.values())


def started(cost=None):
    rng, events = np.random.default_rng(0), []
    processes = [SyntheticProcess(name, rng, events, cost) for name in "AB"]
    for process in processes:
        process.start()
    events.clear()
    return processes, events


def test_turns_are_base_head_head_base_and_the_case_is_prepared_again_between_them():
    processes, events = started()
    base, head = measure(
        *processes, SPECS[SLOW], Plan(preparations=3, max_preparations=3, seconds=0.06), head_first=False
    )
    assert "".join(events) == "ab" + "AB" + "ABBA" + "abABBA" + "abABBA"
    assert base.timing.turns == head.timing.turns == [8] * 6
    assert processes[0].efforts == processes[1].efforts == [CPU_TURN] * 7
    for process in processes:
        assert process.prepared_cases[-1][1:] == (True, True)  # neither verified nor observed a second time


def test_the_cpu_time_and_the_switches_of_all_turns_are_kept_and_judged_together(monkeypatch):
    given = {"cpu_seconds": [0.001] * 8, "involuntary_switches": [1] * 8, "disturbed": False}
    sample = SyntheticProcess.sample
    monkeypatch.setattr(SyntheticProcess, "sample", lambda self, effort: sample(self, effort).model_copy(update=given))
    timing = measure(*started()[0], SPECS[SLOW], FIRST_PASS, head_first=False)[0].timing
    samples = len(timing.wall_seconds)
    assert len(timing.cpu_seconds) == len(timing.involuntary_switches) == samples > 8
    assert timing.disturbed
    assert f"{samples} of {samples} samples" in timing.disturbance


def test_every_preparation_has_at_least_one_pair_of_turns_and_the_order_alternates():
    processes, events = started()
    measure(*processes, SPECS[SLOW], Plan(preparations=3, max_preparations=3, seconds=0.0), head_first=True)
    assert "".join(events) == "ba" + "BA" + "BA" + "abAB" + "baBA"


def test_a_case_is_prepared_until_it_is_settled_and_at_most_as_often_as_planned():
    calls = []

    def settled(base, head):
        calls.append((len(base.timing.turns), len(head.timing.turns)))
        return len(calls) == 3

    plan = Plan(preparations=2, max_preparations=6, seconds=0.06)
    processes, _ = started()
    base, head = measure(*processes, SPECS[SLOW], plan, head_first=True, settled=settled)
    assert calls == [(4, 4), (6, 6), (8, 8)]
    assert base.timing.turns == head.timing.turns == [8] * 8
    processes, _ = started()
    base, head = measure(*processes, SPECS[SLOW], plan, head_first=True, settled=lambda *records: False)
    assert base.timing.turns == head.timing.turns == [8] * 12


def test_a_case_with_long_calls_is_prepared_once_and_no_call_is_discarded():
    processes, events = started({SLOW: 20.0})
    base, head = measure(*processes, SPECS[SLOW], Plan(preparations=3, max_preparations=3), head_first=False)
    assert "".join(events) == "ab" + "AB" + "BA" + "AB"
    assert base.timing.turns == head.timing.turns == [8] * 3


def test_turns_of_short_calls_begin_with_a_warm_up_call():
    processes, _ = started({SLOW: 0.1})
    measure(*processes, SPECS[SLOW], FRESH_ROUND, head_first=False)
    assert [effort["warmup_calls"] for effort in processes[0].efforts[:3]] == [0, 1, 1]


def test_the_fewer_cases_a_round_has_the_longer_are_long_calls_sampled():
    assert plan_of_round(100) == FRESH_ROUND
    few = plan_of_round(2)
    assert few.long_seconds * few.preparations * 2 == pytest.approx(ROUND_SECONDS)
    assert few == replace(FRESH_ROUND, long_seconds=few.long_seconds)

    def turns(cost, plan):
        processes, _ = started({SLOW: cost})
        return len(measure(*processes, SPECS[SLOW], plan, head_first=False)[0].timing.turns)

    usual, longer = Plan(3, 3, seconds=0.1, long_seconds=0.1), Plan(3, 3, seconds=0.1, long_seconds=1.2)
    assert (turns(20.0, usual), turns(20.0, longer)) == (3, 9)
    # A call of 10 ms is not sampled longer: more calls of one process would not make its round more precise.
    assert turns(1.0, usual) == turns(1.0, longer) > 9


def test_a_failure_in_a_later_preparation_is_a_failure_of_the_case():
    processes, _ = started()
    prepared, calls = processes[1].prepared, []

    def second_time_out_of_memory():
        calls.append(None)
        record = prepared()
        return record if len(calls) == 1 else record.model_copy(update={"status": "oom", "reasons": ["no room"]})

    processes[1].prepared = second_time_out_of_memory
    base, head = measure(*processes, SPECS[SLOW], FIRST_PASS, head_first=False)
    assert (head.status, head.reasons, head.timing) == ("oom", ["no room"], None)
    assert (base.status, base.timing) == ("ok", None)


def test_the_same_commit_passes_and_few_cases_are_measured_again():
    again = 0
    for seed in range(25):
        *_, judged, commits, _ = compare(seed)
        assert judged.exit_code == 0, judged.findings
        again += commits[0].process.started - 1
    assert again < 25 * two_commits.ROUNDS / 2


def test_a_slow_case_is_measured_again_in_fresh_processes_and_found():
    for seed in range(15):
        base, head, judged, commits, _ = compare(seed, {SLOW: 1.1})
        assert judged.exit_code == 1
        assert [finding.case_id for finding in judged.with_weight("regression")] == [SLOW]
        rounds = [record for record in head.records if record.case_id == SLOW]
        assert len(rounds) == two_commits.ROUNDS
        assert commits[1].process.started == 1 + two_commits.ROUNDS
        assert all((record.checks, record.conditions) == ([CHECK], SEEN) for record in rounds)
        for commit in commits:
            first = first_preparations(commit.process)
            assert {observed for _, observed in first} == {False}
            later = {tuple(rest) for case_id, *rest in commit.process.prepared_cases if case_id == SLOW} - first
            assert later == {(True, True)}
        assert base.session == head.session is not None
        starts = [event[0] for event in commits[0].process.events if event.endswith("!")]
        assert "".join(starts) == "BH" + "BHHB" * (two_commits.ROUNDS // 2)


def test_a_case_that_was_slow_only_in_its_first_process_is_soon_dropped():
    _, head, judged, commits, _ = compare(0, {SLOW: [1.15] + [1.0] * two_commits.ROUNDS})
    assert judged.exit_code == 0
    assert sum(record.case_id == SLOW for record in head.records) == two_commits.SAME_FROM
    assert commits[1].process.started == 1 + two_commits.SAME_FROM


def test_the_stored_runs_give_the_same_verdict(tmp_path, monkeypatch):
    base, head, judged, *_ = compare(3, {SLOW: 1.15})
    for run, name in ((base, "base.json"), (head, "head.json")):
        (tmp_path / name).write_text(json.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")}))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["gate", "base.json", "head.json", "--json", "found.json"])
    assert done.exit_code == judged.exit_code == 1
    stored = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert [(row["case"], row["verdict"]) for row in stored] == [(one.case_id, one.verdict) for one in judged.findings]


@pytest.mark.parametrize("cost", ["incorrect", "unsupported", "oom", Failed("crashed", ["killed by SIGSEGV"])])
def test_a_case_that_fails_on_head_alone_is_a_regression_and_the_others_are_measured(cost):
    base, _, judged, *_ = compare(0, {SLOW: cost})
    assert judged.exit_code == 1
    assert [finding.verdict.split()[0] for finding in judged.with_weight("regression")] == ["NEWLY"]
    assert sum(record.timing is not None for record in base.records) >= len(SPECS) - 1


def test_base_is_verified_only_if_head_is_incorrect():
    *_, commits, _ = compare(1)
    assert {verified for _, verified, _ in commits[0].process.prepared_cases} == {True}
    assert {verified for verified, _ in first_preparations(commits[1].process)} == {False}
    *_, commits, _ = compare(1, {SLOW: "incorrect"})
    assert (SLOW, False, False) in commits[0].process.prepared_cases


def test_a_vanished_case_is_a_regression_and_a_new_case_is_not():
    fewer = {name: spec for name, spec in SPECS.items() if name != SLOW}
    *_, judged, _, _ = compare(head_specs=fewer)
    assert [(finding.case_id, finding.verdict) for finding in judged.with_weight("regression")] == [(SLOW, "VANISHED")]
    *_, judged, _, _ = compare(base_specs=fewer)
    assert (judged.exit_code, [one.case_id for one in judged.findings if one.verdict == "NEW"]) == (0, [SLOW])


def project(tmp_path, monkeypatch, *projects):
    """A git project with one commit per text of its pyproject.toml, whose processes are synthetic."""
    folder = git_project.new(tmp_path / "project")
    commits = [git_project.commit(folder, pyproject_dot_toml=text, suites__a=str(n)) for n, text in enumerate(projects)]
    monkeypatch.chdir(folder)
    rng, made = np.random.default_rng(0), []

    class Process(SyntheticProcess):
        unknown_fields = frozenset({"energy_joules"})

        def __init__(self, folder, env, timeout):
            made.append(self)
            slow = {SLOW: 1.5} if len(made) % 2 == 0 else None
            super().__init__("AB"[(len(made) - 1) % 2], rng, [], slow)

    collection = Collection(profile="quick", device="cpu", specs=SPECS)
    monkeypatch.setattr(two_commits, "CommitProcess", Process)
    monkeypatch.setattr(two_commits, "bind_to_idle_cores", lambda: None)
    monkeypatch.setattr(two_commits.worktrees, "collect", lambda *arguments: collection.model_copy())
    return commits


LOOSE, STRICT = "[tool.harness.gate]\ntime = { floor = 5.0 }\n", ""


def test_head_is_judged_by_the_thresholds_of_base_and_its_own_are_said(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, STRICT, LOOSE, LOOSE)
    for base, head, code, notes in (("HEAD~2", "HEAD", 1, 1), ("HEAD~1", "HEAD", 0, 0)):
        done = CliRunner().invoke(app, ["ab", base, head, "--json", "found.json"])
        found = json.loads((tmp_path / "project" / "found.json").read_text())
        assert done.exit_code == found["exit_code"] == code, done.output
        changes = [note for note in found["notes"] if "threshold" in note]
        assert len(changes) == notes
        assert all("time: base has the default, head floor 5" in note for note in changes)
        assert any(note.endswith("does not compare: energy_joules") for note in found["notes"])


@pytest.mark.parametrize("option", ["--out", "--markdown", "--junit", "--json"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, monkeypatch, option):
    monkeypatch.setattr(two_commits, "compare_commits", lambda *arguments: pytest.fail("it was measured"))
    (tmp_path / "a file").write_text("")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["ab", "HEAD~1", "HEAD", option, "a file/inside"])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: a file")


def test_runs_that_can_no_longer_be_written_do_not_lose_the_verdict(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, STRICT, STRICT)

    def save(run, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(ab_command, "_save", save)
    done = CliRunner().invoke(app, ["ab", "HEAD~1", "HEAD", "--json", "found.json"])
    assert done.exit_code == 2
    assert json.loads((tmp_path / "project" / "found.json").read_text())["exit_code"] == 1
    assert "Regression: " in done.stdout
    assert [line.startswith("error: cannot be written: ") for line in done.stderr.splitlines()] == [True, True]


def test_an_error_of_any_kind_is_an_invalid_verdict_in_the_files_and_exit_code_2(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, STRICT, STRICT)

    def fail(*arguments):
        raise KeyError("made up")

    monkeypatch.setattr(two_commits, "compare", fail)
    for debug in ((), ("--debug",)):
        done = CliRunner().invoke(app, ["ab", "HEAD~1", "HEAD", "--json", "found.json", *debug])
        assert done.exit_code == 2
        assert ("Traceback" in done.output) == bool(debug)
        (finding,) = json.loads((tmp_path / "project" / "found.json").read_text())["findings"]
        assert (finding["verdict"], "KeyError: 'made up'" in finding["reason"]) == ("INVALID", True)
