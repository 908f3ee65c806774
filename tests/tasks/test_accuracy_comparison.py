"""``python -m suites.accuracy``: which trainings run in which order, continued runs, verdicts and the page."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import record
from typer.testing import CliRunner

from harness.cases import runner
from harness.core import store
from harness.core.record import Divergence, Memory, Record, Swapped, TaskResult
from harness.core.spec import AnySpec, Effort, TaskSpec
from suites.accuracy import __main__ as command
from suites.accuracy import plan as plans
from suites.accuracy.plan import PLANS, REFERENCE, Plan, Setting
from suites.accuracy.trainings import Trainings
from suites.accuracy.verdicts import CellResult, difference, results

SMALL = Plan(
    "small",
    settings=(Setting("needle", 32, 10), Setting("digits", 64, 10)),
    rounds=((REFERENCE, "yoso_e"), ("linear",)),
    seeds=3,
)
SCORES = {"sdpa": 0.9, "yoso_e": 0.95, "linear": 0.5}


def made_up(spec: AnySpec) -> Record:
    """A record as a training would give it: the rate 3e-3 is best, and every seed is a little better than the last."""
    assert isinstance(spec, TaskSpec)
    score = SCORES[spec.attention] + 0.001 * (spec.seed % 10) - (0 if spec.learning_rate == 3e-3 else 0.2)
    swapped = [
        Swapped(attention=swap.attention, knobs={}, scores=[score - 0.5], eval_seconds=[1.0])
        for swap in spec.evaluate_with
    ]
    task = TaskResult(
        metric="accuracy",
        scores=[score],
        train_seconds=[12.0],
        eval_seconds=[1.0],
        steps=[10],
        chance=0.1,
        majority=0.12,
        data="made up",
        examples_sha256=f"{spec.task}-{spec.seq_len}-{spec.seed}-{spec.scored_on}",
        train_memory=Memory(peak_bytes=3 * 2**20, input_bytes=1, source="made up"),
        rows_below_one_collision=[0.25] if spec.attention == "yoso_e" else None,
        evaluated_with=swapped,
    )
    return record(spec, task=task)


class FakeWorker:
    """Trains nothing; ``ends`` is called before each training and may raise."""

    def __init__(self, ends: Callable[[int], None] = lambda number: None, of: Callable[[AnySpec], Record] = made_up):
        self.trained: list[TaskSpec] = []
        self._ends, self._of = ends, of

    def run(self, spec: AnySpec, effort: Effort) -> Record:
        assert isinstance(spec, TaskSpec)
        self._ends(len(self.trained))
        self.trained.append(spec)
        return self._of(spec)

    def close(self) -> None:
        pass


def run(folder: Path, worker: FakeWorker, plan: Plan = SMALL, jobs: int = 1) -> list[CellResult]:
    command.run(plan, plan, folder, jobs, "python -m suites.accuracy", lambda: worker)
    return [CellResult.model_validate(each) for each in json.loads((folder / "summary.json").read_text())["results"]]


def test_the_standard_profile_trains_all_of_the_first_round_before_the_second():
    cells = PLANS["standard"].cells()
    names = [cell.attention for cell in cells]
    assert max(map(names.index, plans.FIRST_ROUND)) < min(map(names.index, plans.SECOND_ROUND))
    last_of_first = max(place for place, name in enumerate(names) if name in plans.FIRST_ROUND)
    assert set(names[last_of_first + 1 :]) == set(plans.SECOND_ROUND)
    longest = {cell.attention for cell in cells if cell.setting.seq_len == 2048}
    assert longest
    assert not longest & {"sdpa", "yoso_e", "yoso_e_norm_floor"}
    assert {cell.setting.label for cell in cells} >= {"needle-n128", "needle-n512", "distant_label-n128", "digits-n256"}


@pytest.mark.parametrize("name", PLANS)
def test_pairs_differ_in_the_attention_only_and_share_no_seed_with_the_choice_of_a_rate(name):
    by_setting: dict[str, list[list[dict[str, object]]]] = {}
    for cell in PLANS[name].cells():
        specs = cell.comparison(1e-3)
        own = {"attention", "knobs", "evaluate_with"}
        by_setting.setdefault(cell.setting.label, []).append([spec.model_dump(exclude=own) for spec in specs])
        development = [spec for rate in cell.plan.learning_rates for spec in cell.development(rate)]
        assert all(spec.scored_on == "development" and not spec.evaluate_with for spec in development)
        assert all(spec.scored_on == "held_out" for spec in specs)
        assert not {spec.seed for spec in specs} & {spec.seed for spec in development}
        assert len({spec.case_id for spec in (*specs, *development)}) == len(specs) + len(development)
    for pairs in by_setting.values():
        assert all(other == pairs[0] for other in pairs)


def test_rates_are_chosen_on_development_examples_and_used_for_the_seeds(tmp_path):
    worker = FakeWorker()
    first, *_ = run(tmp_path, worker)
    cell = worker.trained[:6]
    assert [(spec.learning_rate, spec.scored_on, spec.seed) for spec in cell] == [
        *((rate, "development", plans.FIRST_DEVELOPMENT_SEED) for rate in (1e-3, 3e-3, 3e-4)),
        *((3e-3, "held_out", seed) for seed in range(3)),
    ]
    assert first.learning_rate == 3e-3
    assert first.development_scores == {"0.001": [0.7], "0.003": [0.9], "0.0003": [0.7]}
    assert first.scores == {0: 0.9, 1: 0.901, 2: 0.902}
    assert [(spec.task, spec.attention) for spec in worker.trained[::6]] == [
        ("needle", "sdpa"),
        ("needle", "yoso_e"),
        ("digits", "sdpa"),
        ("digits", "yoso_e"),
        ("needle", "linear"),
        ("digits", "linear"),
    ]


def test_of_equal_rates_the_first_is_chosen_and_one_that_diverged_is_not(tmp_path):
    def equal(spec: AnySpec) -> Record:
        assert isinstance(spec, TaskSpec)
        if spec.learning_rate == 1e-3:
            return record(spec, "diverged", reasons=["no finite number"], divergence=Divergence(seed=0, step=3))
        found = made_up(spec)
        assert found.task is not None
        found.task.scores = [1.0]
        return found

    first, *_ = run(tmp_path, FakeWorker(of=equal))
    assert first.learning_rate == 3e-3
    assert first.reasons == ["no finite number"]
    assert first.trainings == first.planned


@pytest.fixture(autouse=True)
def _same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking the processor for its name and git for the commit would take most of the time of these tests."""
    monkeypatch.setattr("harness.measure.machine.fingerprint", lambda: {"cpu": "this one"})
    monkeypatch.setattr("harness.measure.machine.commit", lambda: "this")


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [0, 1, 4, 7, 20])
def test_a_killed_run_continues_from_its_log_and_repeats_no_training(after, tmp_path):
    def ends(number: int) -> None:
        if number == after:
            raise Killed

    killed, resumed, whole = FakeWorker(ends), FakeWorker(), FakeWorker()
    with pytest.raises(Killed):
        run(tmp_path / "parts", killed)
    log = tmp_path / "parts" / "accuracy.log.jsonl"
    with log.open("ab") as file:
        file.write(b'{"case_id": "task/nee')  # a record that was being written when the machine lost power
    moved = (tmp_path / "parts").rename(tmp_path / "moved")
    assert run(moved, resumed) == run(tmp_path / "whole", whole)
    assert killed.trained + resumed.trained == whole.trained
    assert len(whole.trained) == 36
    again = FakeWorker()
    run(moved, again)
    assert again.trained == []


def test_a_training_in_another_environment_says_so(tmp_path, monkeypatch):
    run(tmp_path, FakeWorker(), replace(SMALL, rounds=((REFERENCE,),)))
    fingerprint = {"cpu": "another one"}
    monkeypatch.setattr("harness.measure.machine.fingerprint", lambda: fingerprint)
    monkeypatch.setattr("harness.measure.machine.commit", lambda: "another")
    run(tmp_path, FakeWorker())
    found = store.load(tmp_path / "accuracy.json")
    by_attention = {each.spec.attention: " ".join(each.findings) for each in found.records}
    assert by_attention["sdpa"] == ""
    assert "cpu: the run's header has " in by_attention["yoso_e"]
    assert ", this training another one" in by_attention["yoso_e"]
    assert "commit: the run's header has " in by_attention["yoso_e"]


def test_the_report_has_one_record_for_the_seeds_of_an_attention_and_each_failure(tmp_path):
    results = {(each.task, each.seq_len, each.attention): each for each in run(tmp_path, FakeWorker())}
    found = store.load(tmp_path / "accuracy.json").records
    by_case = {(each.spec.task, each.spec.seq_len, each.spec.attention): each for each in found}
    assert len(by_case) == len(found) == len(results)
    for case, found_record in by_case.items():
        scores = list(results[case].scores.values())
        assert found_record.task.scores == scores
        assert found_record.spec.seeds == len(scores) == len(found_record.task.train_seconds)
        assert found_record.case_id == found_record.spec.case_id
        sampled = results[case].sampled
        assert [each.scores for each in found_record.task.evaluated_with] == (
            [list(sampled.scores.values())] if sampled else []
        )


def test_an_attention_that_failed_while_its_rate_was_chosen_is_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setitem(plans.ATTENTIONS, "linear", plans.Attention("linear", {"floors": 3}))
    run(tmp_path, FakeWorker())
    found = [each for each in store.load(tmp_path / "accuracy.json").records if each.spec.attention == "linear"]
    assert {each.status for each in found} == {"unsupported"}
    assert "no knob" in found[0].reasons[0]


def test_a_folder_of_another_profile_is_refused(tmp_path):
    run(tmp_path, FakeWorker(), SMALL)
    with pytest.raises(store.StoreError, match=r"expected the log of the profile 'accuracy-other', found that of 'acc"):
        run(tmp_path, FakeWorker(), replace(SMALL, name="other"))


def test_an_unknown_knob_is_one_unsupported_record_that_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setitem(plans.ATTENTIONS, "linear", plans.Attention("linear", {"floors": 3}))
    worker = FakeWorker()
    found = run(tmp_path, worker)[-1]
    assert all(spec.attention != "linear" for spec in worker.trained)
    assert found.trainings == 1
    assert found.reasons == ["attention 'linear' has no knob ['floors']; it has []"]
    assert "no knob" in (tmp_path / "accuracy.md").read_text()
    monkeypatch.setitem(plans.ATTENTIONS, "linear", plans.Attention("linear"))
    assert run(tmp_path, FakeWorker())[-1].trainings == 6


def test_a_swap_with_an_unknown_knob_is_reported_and_not_a_crash(tmp_path, monkeypatch):
    swap = plans.Swap(attention="yoso", knobs={"floors": 3})
    monkeypatch.setitem(plans.ATTENTIONS, "yoso_e", plans.Attention("yoso_e", sampled=swap))
    (found,) = (each for each in run(tmp_path, FakeWorker()) if (each.task, each.attention) == ("needle", "yoso_e"))
    assert found.scores == {}
    assert "has no knob ['floors']" in found.reasons[0]


def test_several_jobs_train_every_cell_once(tmp_path):
    workers: list[FakeWorker] = []

    def new() -> FakeWorker:
        workers.append(FakeWorker())
        return workers[-1]

    command.run(SMALL, SMALL, tmp_path, 2, "", new)
    trained = [spec.case_id for worker in workers for spec in worker.trained]
    assert len(trained) == len(set(trained)) == 36
    assert len(store.load(tmp_path / "accuracy.log.jsonl").records) == 36


def test_an_interruption_ends_the_training_in_progress_and_leaves_no_record_of_it(tmp_path):
    begun, ended = threading.Event(), threading.Event()

    class Busy(FakeWorker):
        def run(self, spec: AnySpec, effort: Effort) -> Record:
            begun.set()
            assert ended.wait(10)
            return record(spec, "crashed", reasons=["its process was killed"])

        def close(self) -> None:
            ended.set()

    def interrupt(number: int) -> None:
        assert begun.wait(10)
        raise Killed

    workers = iter([Busy(), FakeWorker(interrupt)])
    with pytest.raises(Killed):
        command.run(SMALL, SMALL, tmp_path, 2, "", lambda: next(workers))
    assert store.load(tmp_path / "accuracy.log.jsonl").records == []


def test_with_denoising_it_is_another_plan_that_says_so(tmp_path):
    worker, plan = FakeWorker(), SMALL.after_denoising(50)
    run(tmp_path, worker, plan)
    assert {spec.pretrain_steps for spec in worker.trained} == {50}
    assert "after 50 steps of denoising" in (tmp_path / "accuracy.md").read_text()
    assert SMALL.after_denoising(0) == SMALL
    with pytest.raises(store.StoreError, match="found that of 'accuracy-small-denoised-50'; name another folder"):
        run(tmp_path, FakeWorker())


def test_an_error_of_the_log_ends_the_run(tmp_path, monkeypatch):
    def full(log: object, record: Record) -> None:
        raise store.StoreError("No space left on device")

    monkeypatch.setattr(store.Log, "append", full)
    with pytest.raises(store.StoreError, match="No space left"):
        run(tmp_path, FakeWorker(), jobs=2)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.0, 0.0, 0.0], "not worse"),
        ([-1.0, -1.1, -0.9], "not worse"),
        ([-5.0, -5.1, -4.9], "worse"),
        ([-1.9, -2.1, -2.0], "undecided"),
        ([0.0, -10.0, 10.0], "undecided"),
        ([0.0, 0.0], "undecided"),
        ([], "undecided"),
    ],
)
def test_the_interval_of_the_paired_difference_decides(differences, verdict):
    reference = {seed: 0.5 + 0.1 * seed for seed in range(3)}
    scores = {seed: reference[seed] + points / 100 for seed, points in enumerate(differences)}
    found = difference("sdpa", 2.0, scores, reference, planned=3)
    assert found.verdict == verdict
    assert (found.because is None) == (verdict != "undecided")


def test_not_worse_than_a_softmax_that_did_not_learn_is_undecided():
    plan = replace(SMALL, rounds=((REFERENCE, "linear"),))

    def at(score: float) -> list[CellResult]:
        records = {}
        for cell in plan.cells():
            for spec in [spec for rate in plan.learning_rates for spec in cell.development(rate)] + cell.comparison(
                1e-3
            ):
                found = made_up(spec)
                assert found.task is not None
                found.task.scores = [score]
                records[spec.case_id] = found
        return results(plan, records)

    assert [each.difference.verdict for each in at(0.12) if each.difference] == ["undecided", "undecided"]
    assert [each.difference.verdict for each in at(0.9) if each.difference] == ["not worse", "not worse"]


def test_other_examples_are_no_pair(tmp_path):
    def other(spec: AnySpec) -> Record:
        found = made_up(spec)
        if found.spec.attention == "yoso_e" and found.spec.seed == 1 and found.task is not None:
            found.task.examples_sha256 = "other"
        return found

    found = run(tmp_path, FakeWorker(of=other))[1].difference
    assert found is not None
    assert found.verdict == "undecided"
    assert found.because == "the examples of seeds 1 differ from those of sdpa"
    assert set(found.by_seed) == {0, 2}


def test_the_results_of_a_cell_are_complete(tmp_path):
    found = run(tmp_path, FakeWorker())
    by_attention = {each.attention: each for each in found if each.task == "needle"}
    yoso_e = by_attention["yoso_e"]
    assert yoso_e.difference is not None
    assert yoso_e.difference.mean == pytest.approx(5)
    assert yoso_e.difference.verdict == "not worse"
    assert by_attention["linear"].difference is not None
    assert by_attention["linear"].difference.verdict == "worse"
    assert by_attention["sdpa"].difference is None
    assert yoso_e.sampled is not None
    assert yoso_e.sampled.loss.mean == pytest.approx(-50)
    assert (yoso_e.sampled.loss.margin_points, yoso_e.sampled.loss.verdict) == (3.0, "worse")
    assert (yoso_e.rows_below_one_collision, yoso_e.num_hash) == (0.25, 32)
    assert (yoso_e.train_seconds, yoso_e.train_bytes) == (12.0, 3 * 2**20)
    page = (tmp_path / "accuracy.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| yoso\\_e "))
    for words in ("0.003", "95.0% 95.1% 95.2%", "+5.0 [+5.0, +5.0]", "not worse", "25.0% (m = 32)", "12 s", "3.0 MiB"):
        assert words in row
    assert page.count("\n## ") == 3


def test_a_real_training_is_in_the_log_and_its_checkpoints_are_removed(tmp_path):
    tiny = Plan(
        "tiny", (Setting("needle", 16, 2, train_examples=40, eval_examples=20),), ((REFERENCE,),), (1e-3,), seeds=1
    )
    folders = []

    def of(spec: AnySpec) -> Record:
        found = runner.run(spec, command_effort)
        folders.append(len(list((tmp_path / "checkpoints").glob("*/seed-*/result.json"))))
        return found

    command_effort = Effort(1, 1, 0.0, 0, 0.0)
    (found,) = run(tmp_path, FakeWorker(of=of), tiny)
    assert found.reasons == []
    assert (found.trainings, len(found.scores)) == (2, 1)
    assert folders == [1, 1], "a finished training was not kept, or an earlier one was not removed"
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_wrong_option_is_one_line_and_exit_code_2():
    for arguments, words in (
        (["--profile", "fast"], "--profile: expected quick or short or standard, got 'fast'"),
        (["--settings", "needle-n1"], "--settings: expected names of the profile 'quick', got needle-n1; choose from"),
    ):
        ended = CliRunner().invoke(command.app, arguments)
        assert ended.exit_code == 2
        (line,) = ended.stderr.splitlines()
        assert words in line
    listed = CliRunner().invoke(command.app, ["--order", "--attentions", "yoso,sdpa"])
    assert listed.stdout.splitlines() == ["needle-n32, sdpa", "needle-n32, yoso"]


def test_a_second_run_in_the_folder_is_refused(tmp_path):
    first = Trainings(SMALL, tmp_path, "", print)
    with pytest.raises(store.StoreError, match="another run is writing this log"):
        Trainings(SMALL, tmp_path, "", print)
    first.close()
