import math
from typing import get_args

import gate_runs
import numpy as np
import pytest
import synthetic
from gate_runs import SPECS
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.record import Record, Status
from harness.core.spec import OperationSpec
from harness.gate.judge import judgement, metric_change
from harness.gate.judge.gated_metrics import METRICS
from harness.gate.judge.thresholds import Settings
from harness.statistics.meta_analysis import benjamini_hochberg, combine_paired_rounds
from harness.statistics.robust import interquartile_mean

DEFAULTS = Settings()


def judge(base, head, **options):
    return judgement.judge(base, head, DEFAULTS, **options)


def verdicts(judged, metric="time"):
    findings = [finding for finding in judged.findings if finding.metric is not None]
    return {finding.case_id: finding.verdict for finding in findings if finding.metric.name == metric}


def status(judged):
    return [(finding.verdict, finding.weight) for finding in judged.findings if finding.metric is None]


@pytest.mark.parametrize("session", ["one", None], ids=["interleaved", "not interleaved"])
def test_the_same_code_is_the_same_in_every_case(session):
    for seed in range(40):
        judged = judge(*gate_runs.pair(seed, session=session))
        assert judged.exit_code == 0, judged.with_weight("regression")
        assert set(verdicts(judged).values()) == {"SAME"}


@pytest.mark.parametrize("session", ["one", None], ids=["interleaved", "not interleaved"])
def test_a_case_that_is_a_tenth_slower_is_found_and_the_other_cases_are_not_blamed(session):
    slow = SPECS[2]
    for seed in range(40):
        judged = judge(*gate_runs.pair(seed, slower={slow: 1.1}, session=session))
        assert judged.exit_code == 1
        assert [finding.case_id for finding in judged.with_weight("regression")] == [slow.case_id]
        assert verdicts(judged)[slow.case_id] == "SLOWER"


def disturbed(run, spec, rounds):
    """The run with the first so many rounds of a case marked as disturbed."""
    records, left = [], rounds
    for record in run.records:
        if record.spec == spec and left:
            left -= 1
            given = {"disturbed": True, "disturbance": "the process had 0.33 of its cores"}
            record = record.model_copy(update={"timing": record.timing.model_copy(update=given)})
        records.append(record)
    return run.model_copy(update={"records": records})


@pytest.mark.parametrize("slower", [1.0, 2.0])
@pytest.mark.parametrize("which", [0, 1])
def test_a_case_that_was_disturbed_in_every_round_is_inconclusive(slower, which):
    spec = SPECS[2]
    runs = list(gate_runs.pair(slower={spec: slower}, session=None))
    runs[which] = disturbed(runs[which], spec, 8)
    judged = judge(*runs)
    assert judged.exit_code == 2
    (finding,) = judged.with_weight("inconclusive")
    assert (finding.case_id, finding.metric.name, finding.verdict) == (spec.case_id, "time", "AMBIGUOUS")
    assert "the process had 0.33 of its cores" in finding.reason
    assert ("base", "head")[which] in finding.reason
    assert set(verdicts(judged, "memory").values()) == {"SAME"}


def test_undisturbed_rounds_decide_where_others_were_disturbed():
    spec = SPECS[2]
    base, head = gate_runs.pair(slower={spec: 1.1}, session=None)
    assert verdicts(judge(base, disturbed(head, spec, 3)))[spec.case_id] == "SLOWER"


def test_a_disturbance_does_not_matter_where_base_and_head_took_turns():
    spec = SPECS[2]
    base, head = gate_runs.pair(slower={spec: 1.1})
    assert verdicts(judge(base, disturbed(head, spec, 8)))[spec.case_id] == "SLOWER"


def test_a_case_that_is_a_tenth_faster_passes():
    judged = judge(*gate_runs.pair(slower={SPECS[0]: 0.9}))
    assert judged.exit_code == 0
    assert verdicts(judged)[SPECS[0].case_id] == "FASTER"


def test_a_change_at_the_floor_is_ambiguous_and_does_not_pass():
    judged = judge(*gate_runs.pair(slower={SPECS[0]: 1.06}, process=0.02))
    assert verdicts(judged)[SPECS[0].case_id] == "AMBIGUOUS"
    assert judged.exit_code == 2


def test_one_process_per_commit_finds_a_factor_of_three_and_not_ten_percent():
    judged = judge(*gate_runs.pair(rounds=1, slower={SPECS[0]: 1.1}, session=None))
    assert verdicts(judged)[SPECS[0].case_id] == "AMBIGUOUS"
    assert judged.exit_code == 2
    judged = judge(*gate_runs.pair(rounds=1, slower={SPECS[0]: 3.0}, session=None))
    assert verdicts(judged)[SPECS[0].case_id] == "SLOWER"


def test_the_first_pass_never_says_slower():
    judged = judge(*gate_runs.pair(rounds=1, slower={SPECS[0]: 2.0}))
    assert verdicts(judged)[SPECS[0].case_id] == "AMBIGUOUS"
    assert judged.exit_code == 2


def test_a_case_that_was_dropped_as_the_same_still_counts_in_the_false_discovery_rate():
    """One case has eight rounds and is slower; the others were the SAME after three."""

    def slower(others, factor):
        runs = gate_runs.pair(slower={SPECS[0]: factor}, specs=SPECS[:1], process=0.004)
        for run, other_run in zip(runs, gate_runs.pair(seed=1, rounds=3, specs=others, process=0.004), strict=True):
            run.records.extend(other_run.records)
        judged = judge(*runs)
        assert all(finding.tested for finding in judged.findings)
        assert {verdicts(judged)[spec.case_id] for spec in others} <= {"SAME"}
        return verdicts(judged)[SPECS[0].case_id] == "SLOWER"

    others = [spec.model_copy(update={"seed": seed}) for seed in range(1, 5) for spec in SPECS]
    factors = np.linspace(1.04, 1.08, 21)
    found_alone, found_among_others = (sum(slower(cases, factor) for factor in factors) for cases in ((), others))
    assert found_alone > found_among_others > 0


@pytest.mark.parametrize(("factor", "verdict"), [(1.05, "LARGER"), (1.01, "LARGER"), (1.001, "SAME"), (0.9, "SMALLER")])
@pytest.mark.parametrize("rounds", [1, 8])
def test_a_small_change_of_memory_is_found(factor, verdict, rounds):
    judged = judge(*gate_runs.pair(larger={SPECS[0]: factor}, rounds=rounds))
    assert verdicts(judged, "memory")[SPECS[0].case_id] == verdict
    assert (judged.exit_code == 1) == (verdict == "LARGER")


def test_samples_of_one_process_are_not_independent():
    """A thousand samples of one process do not show how much the next process differs."""
    for seed in range(20):
        judged = judge(*gate_runs.pair(seed, rounds=1, session=None, process=0.04, samples=1000))
        assert not judged.with_weight("regression")


def test_too_few_samples_are_reported():
    judged = judge(*gate_runs.pair(rounds=1, session=None, samples=2, specs=SPECS[:1]))
    assert judged.exit_code == 2
    (finding,) = judged.with_weight("inconclusive")
    assert (finding.verdict, finding.case_id) == ("INVALID", SPECS[0].case_id)
    assert finding.reason == "too few samples: base has 2 in a process, 3 are needed"


NOT_OK = ("unsupported", "incorrect", "oom", "timeout", "crashed", "diverged")


@pytest.mark.parametrize("after", NOT_OK)
def test_a_case_that_fails_only_in_head_is_a_regression(after):
    base, head = gate_runs.pair(rounds=1, specs=SPECS[:1])
    head = head.model_copy(update={"records": [synthetic.record(SPECS[0], after)]})
    judged = judge(base, head)
    names = {"unsupported": "NEWLY UNSUPPORTED", "incorrect": "NEWLY INCORRECT"}
    assert status(judged) == [(names.get(after, "NEWLY FAILING"), "regression")]
    assert judged.exit_code == 1
    assert judge(head, base).exit_code == 0


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("unsupported", "unsupported", 0),
        ("crashed", "unsupported", 0),
        ("oom", "incorrect", 1),
        ("crashed", "incorrect", 1),
        ("unsupported", "oom", 1),
        ("oom", "diverged", 1),
        ("diverged", "diverged", 0),
    ],
)
def test_a_failure_that_is_more_severe_than_before_is_a_regression(before, after, code):
    good = gate_runs.pair(rounds=1, specs=SPECS[1:2])[0].records
    records = ([synthetic.record(SPECS[0], status), *good] for status in (before, after))
    base, head = (synthetic.run(own, session="one") for own in records)
    assert judge(base, head).exit_code == code


def test_one_crash_in_eight_rounds_is_a_regression():
    base, head = gate_runs.pair(specs=SPECS[:1])
    head.records[3] = synthetic.record(SPECS[0], "crashed")
    assert status(judge(base, head)) == [("NEWLY FAILING", "regression")]


def test_a_vanished_case_and_a_vanished_metric_are_regressions():
    base, head = gate_runs.pair(rounds=1)
    gone = head.model_copy(update={"records": head.records[1:]})
    assert status(judge(base, gone)) == [("VANISHED", "regression")]
    head.records[0] = head.records[0].model_copy(update={"memory": None})
    assert verdicts(judge(base, head), "memory")[SPECS[0].case_id] == "VANISHED"
    assert judge(base, head).exit_code == 1


@pytest.mark.parametrize(("now", "code"), [("unsupported", 0), ("crashed", 1)])
def test_a_new_case_that_fails_is_a_regression(now, code):
    base, head = gate_runs.pair(rounds=5)
    head.records.append(synthetic.record(OperationSpec(attention="softmax", seq_len=64), now))
    assert judge(base, head).exit_code == code


@pytest.mark.parametrize(
    ("name", "value"),
    [("cpu", "Another"), ("torch", "2.14.0"), ("cuda_power_limit_watts", 250.0), ("cuda_driver", "999.1")],
)
def test_another_machine_is_invalid_with_the_difference_named(name, value):
    base, head = gate_runs.pair()
    other = head.model_copy(update={"machine": head.machine | {name: value}})
    judged = judge(base, other)
    assert judged.exit_code == 2
    assert status(judged) == [("INVALID", "inconclusive")]
    assert f"{name}: base has {base.machine.get(name) or 'none'}, head {value}" in judged.findings[0].reason
    assert judge(base, other, anyway=True).exit_code == 0


def test_another_load_or_temperature_is_not_another_machine():
    base, head = gate_runs.pair()
    assert judge(base, head.model_copy(update={"machine": head.machine | {"load_1min": 9.0}})).exit_code == 0


def test_other_settings_are_invalid():
    base, head = gate_runs.pair()
    judged = judge(base, head.model_copy(update={"profile": "full"}))
    assert judged.findings[0].reason.endswith("profile: base has standard, head full")
    other = tuple(spec.model_copy(update={"dtype": "bfloat16"}) for spec in SPECS)
    judged = judge(base, gate_runs.pair(specs=other)[1])
    assert judged.findings[0].reason.endswith("dtype: base has float32, head bfloat16")
    head.records[0].timing.threads = 1
    assert "threads: base has 2, head 1" in judge(base, head).with_weight("inconclusive")[0].reason


def run_with(*statuses, session=None):
    specs = [OperationSpec(attention="sdpa", seq_len=16 * (number + 1)) for number in range(len(statuses))]
    return synthetic.run(
        [synthetic.record(spec, status) for spec, status in zip(specs, statuses, strict=True)], session=session
    )


@pytest.mark.parametrize(
    ("base", "head"),
    [
        ((), ()),
        ((), ("ok",)),
        (("ok",), ()),
        (("crashed",), ("crashed",)),
        (("unsupported", "timeout"), ("unsupported", "timeout")),
        (("diverged",), ("unsupported",)),
        (("ok",), ("ok",)),  # neither has any metric
    ],
)
def test_a_comparison_in_which_nothing_is_judged_does_not_pass_and_says_so(base, head):
    judged = judge(run_with(*base), run_with(*head))
    assert judged.exit_code == 2
    assert "nothing was judged" in judged.with_weight("inconclusive")[0].reason
    assert judged.with_weight("regression") == []


def test_runs_without_a_common_case_are_not_judged():
    base, head = gate_runs.pair(specs=SPECS[:1])[0], gate_runs.pair(specs=SPECS[1:3])[1]
    judged = judge(base, head)
    assert judged.exit_code == 2
    assert "base has 1 case, head 2 cases, and none is in both" in judged.findings[0].reason


@pytest.mark.parametrize("before", get_args(Status))
@pytest.mark.parametrize("after", get_args(Status))
def test_every_pair_of_statuses_has_a_verdict(before, after):
    good, _ = gate_runs.pair(rounds=1, specs=SPECS[1:2])
    runs = [
        synthetic.run([synthetic.record(SPECS[0], status), *good.records], session="one") for status in (before, after)
    ]
    assert judge(*runs).exit_code in (0, 1)
    new = synthetic.run(good.records, session="one")
    assert judge(new, runs[1]).exit_code == (0 if after in ("ok", "unsupported") else 1)


def as_read(run, without=()):
    """The run as it is read from a file of a version of the harness that does not have these fields."""
    records = [
        Record.model_validate({name: value for name, value in record.model_dump().items() if name not in without})
        for record in run.records
    ]
    return run.model_copy(update={"records": records})


def test_a_field_that_one_version_lacks_is_not_compared_and_a_note_says_so():
    base, head = gate_runs.pair(slower={SPECS[0]: 1.3})
    for record in base.records:
        record.kernel_launches = 3
    judged = judge(as_read(base), as_read(head, without=("kernel_launches", "memory", "compile_seconds", "checks")))
    assert {finding.metric.name for finding in judged.findings} == {"time"}
    assert [finding.case_id for finding in judged.with_weight("regression")] == [SPECS[0].case_id]
    assert len(judged.notes) == 4
    assert "memory is not compared: the version of the harness that measured head lacks it" in judged.notes
    same = judge(as_read(base, without=("memory", "kernel_launches")), as_read(head))
    assert [finding.verdict for finding in same.with_weight("regression")] == ["SLOWER"]


def test_a_sample_that_is_not_finite_is_invalid():
    base, head = gate_runs.pair(rounds=1, specs=SPECS[:1])
    head.records[0].timing.wall_seconds[0] = math.inf
    assert judge(base, head).exit_code == 2


def test_thresholds_of_a_case_pattern_override_the_general_ones():
    rules = Settings.model_validate(
        {
            "time": {"floor": 0.2},
            "cases": [{"pattern": "operation/yoso*", "time": {"floor": 0.02}}, {"pattern": "*n128-*", "memory": False}],
        }
    )
    runs = gate_runs.pair(slower=dict.fromkeys(SPECS, 1.1), larger=dict.fromkeys(SPECS, 2.0))
    judged = judgement.judge(*runs, rules)
    assert {case.split("-")[0] for case, verdict in verdicts(judged).items() if verdict == "SLOWER"} == {
        "operation/yoso"
    }
    assert len(verdicts(judged, "memory")) == len(SPECS) - 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-5, 1e3), min_size=5, max_size=12), st.floats(-3, 3), st.sampled_from([0.0, 0.02]))
def test_the_estimate_is_symmetric_in_base_and_head(values, shift, expected):
    """Swapping base and head changes the sign of the estimate and nothing else."""
    noise = np.log(values)
    errors = expected * np.arange(1, len(values) + 1)
    forward = combine_paired_rounds(noise + shift, errors, 0.98, "case")
    swapped = combine_paired_rounds(-(noise + shift), errors, 0.98, "case")
    assert forward.value == pytest.approx(-swapped.value)
    assert forward.low <= forward.value <= forward.high
    assert forward.p_value_above(0.05) == pytest.approx(swapped.p_value_below(-0.05))


def test_the_interval_of_few_rounds_has_its_nominal_coverage():
    """At 98% two-sided, 2% of the intervals should miss the true value, and not many more if the noise is skewed."""
    rng = np.random.default_rng(0)
    for draw in (rng.standard_normal, lambda n: rng.exponential(size=n) - 1):
        for rounds, expected in ((8, 0.0), (8, 1.0), (2, 1.0)):
            missed = sum(
                not estimate.low < 0 < estimate.high
                for estimate in (
                    combine_paired_rounds(draw(rounds), [expected] * rounds, 0.98, str(trial)) for trial in range(600)
                )
            )
            assert missed / 600 < 0.05


def rounds_of_unequal_noise(rng, rounds):
    """Differences of rounds, some of them ten times as noisy, and their standard errors, from six pairs each."""
    scale = 0.02 * np.exp(rng.normal(0, 1.2, rounds))
    estimates = [interquartile_mean(noise * np.sqrt(6) * rng.standard_normal(6)) for noise in scale]
    return [value for value, _ in estimates], [np.hypot(error, 0.014) for _, error in estimates]


def test_a_noisy_round_weighs_less():
    """With some noisy rounds the interval keeps its coverage, and the estimate varies less than with equal weights."""
    rng = np.random.default_rng(0)
    for rounds in (2, 5, 16):
        drawn = [rounds_of_unequal_noise(rng, rounds) for _ in range(300)]
        weighted = [combine_paired_rounds(*data, 0.98, str(trial)) for trial, data in enumerate(drawn)]
        assert np.mean([not estimate.low < 0 < estimate.high for estimate in weighted]) < 0.04
        equal = [combine_paired_rounds(values, [0.04] * rounds, 0.98, str(n)) for n, (values, _) in enumerate(drawn)]
        assert np.std([one.value for one in weighted]) < 0.7 * np.std([one.value for one in equal])
    # A wrong round with a small error of its own does not hide the result of the other fifteen.
    slower = [0.1 + 0.003 * number for number in range(-7, 8)]
    assert combine_paired_rounds([*slower, -0.2], [0.0173] * 16, 0.98, "case").low > 0.05
    spoiled = combine_paired_rounds([0.0, 0.01, -0.01, 0.9], [0.01, 0.01, 0.01, 0.5], 0.98, "case")
    assert abs(spoiled.value) < 0.01


def test_the_error_of_a_few_rounds_is_moderated_by_the_expected_one():
    agreeing = combine_paired_rounds([0.05, 0.0501, 0.0499], [0.02] * 3, 0.98, "case")
    assert agreeing.low < 0.03
    assert (
        agreeing.standard_error
        > 50 * combine_paired_rounds([0.05, 0.0501, 0.0499], [0.0] * 3, 0.98, "case").standard_error
    )
    far_apart = combine_paired_rounds([-0.1, 0.1], [0.02] * 2, 0.98, "case")
    assert 0.05 < far_apart.high < 0.5  # the bound from two rounds alone would be useless


def test_a_disturbance_of_a_few_turns_or_of_both_commits_does_not_change_a_round():
    speed = np.exp(0.2 * np.sin(np.arange(40.0)))  # of the machine, the same for neighbouring turns
    base = [[0.01 * factor] for factor in speed]
    head = [[0.0101 * factor] for factor in speed]
    for disturbed in (3, 17, 29):
        head[disturbed] = [0.5]
    difference, error = metric_change.round_difference(METRICS["time"], base, head)
    assert difference == pytest.approx(np.log(1.01))
    assert error < 1e-6


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.001, 0.4))
def test_benjamini_hochberg_is_the_step_up_rule(p_values, rate):
    """As published: reject all p-values up to p_(k), with the largest k for which p_(k) <= rate k / m."""
    ordered = sorted(p_values)
    largest = max((k for k, p in enumerate(ordered, 1) if p <= rate * k / len(ordered) * (1 + 1e-12)), default=0)
    limit = ordered[largest - 1] if largest else -1.0
    assert benjamini_hochberg(p_values, rate) == [p <= limit for p in p_values]
