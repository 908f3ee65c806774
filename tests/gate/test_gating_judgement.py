import math

import gate_runs
import numpy as np
import pytest
import synthetic
from gate_runs import SPECS
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.spec import OperationSpec
from harness.gate.judge import contrast, judgement
from harness.gate.judge.gated_metrics import METRICS
from harness.gate.judge.thresholds import Settings
from harness.statistics import meta_analysis

DEFAULTS = Settings()


def judge(base, head, **options):
    return judgement.judge(base, head, DEFAULTS, **options)


def verdicts(found, metric="time"):
    return {one.case_id: one.verdict for one in found.findings if one.metric is not None and one.metric.name == metric}


def status(found):
    return [(one.verdict, one.weight) for one in found.findings if one.metric is None]


@pytest.mark.parametrize("session", ["one", None], ids=["in turns", "one after the other"])
def test_the_same_code_is_the_same_in_every_case(session):
    for seed in range(40):
        found = judge(*gate_runs.pair(seed, session=session))
        assert found.exit_code == 0, found.with_weight("regression")
        assert set(verdicts(found).values()) == {"SAME"}


@pytest.mark.parametrize("session", ["one", None], ids=["in turns", "one after the other"])
def test_a_tenth_slower_is_found_and_the_other_cases_are_not_blamed(session):
    slow = SPECS[2]
    for seed in range(40):
        found = judge(*gate_runs.pair(seed, slower={slow: 1.1}, session=session))
        assert found.exit_code == 1
        assert [one.case_id for one in found.with_weight("regression")] == [slow.case_id]
        assert verdicts(found)[slow.case_id] == "SLOWER"


def test_a_tenth_faster_is_no_reason_to_fail():
    found = judge(*gate_runs.pair(slower={SPECS[0]: 0.9}))
    assert found.exit_code == 0
    assert verdicts(found)[SPECS[0].case_id] == "FASTER"


def test_a_change_at_the_floor_is_ambiguous_and_no_pass():
    found = judge(*gate_runs.pair(slower={SPECS[0]: 1.06}, process=0.02))
    assert verdicts(found)[SPECS[0].case_id] == "AMBIGUOUS"
    assert found.exit_code == 2


def test_one_process_a_side_cannot_know_a_tenth_but_knows_thrice_as_much():
    found = judge(*gate_runs.pair(rounds=1, slower={SPECS[0]: 1.1}, session=None))
    assert verdicts(found)[SPECS[0].case_id] == "AMBIGUOUS"
    assert found.exit_code == 2
    found = judge(*gate_runs.pair(rounds=1, slower={SPECS[0]: 3.0}, session=None))
    assert verdicts(found)[SPECS[0].case_id] == "SLOWER"


def test_what_was_only_screened_is_never_called_slower():
    found = judge(*gate_runs.pair(rounds=1, slower={SPECS[0]: 2.0}))
    assert verdicts(found)[SPECS[0].case_id] == "AMBIGUOUS"
    assert found.exit_code == 2


def test_a_case_that_was_let_go_as_the_same_still_shares_the_false_discovery_rate():
    """One case has eight rounds and is slower; the others were the same after three."""

    def slower(others, factor):
        runs = gate_runs.pair(slower={SPECS[0]: factor}, specs=SPECS[:1], process=0.004)
        for one, more in zip(runs, gate_runs.pair(seed=1, rounds=3, specs=others, process=0.004), strict=True):
            one.records.extend(more.records)
        found = judge(*runs)
        assert all(one.tested for one in found.findings)
        assert {verdicts(found)[spec.case_id] for spec in others} <= {"SAME"}
        return verdicts(found)[SPECS[0].case_id] == "SLOWER"

    others = [spec.model_copy(update={"seed": seed}) for seed in range(1, 5) for spec in SPECS]
    factors = np.linspace(1.04, 1.08, 21)
    alone, among = (sum(slower(which, factor) for factor in factors) for which in ((), others))
    assert alone > among > 0


@pytest.mark.parametrize(("factor", "verdict"), [(1.05, "LARGER"), (1.01, "LARGER"), (1.001, "SAME"), (0.9, "SMALLER")])
@pytest.mark.parametrize("rounds", [1, 8])
def test_memory_is_tight(factor, verdict, rounds):
    found = judge(*gate_runs.pair(larger={SPECS[0]: factor}, rounds=rounds))
    assert verdicts(found, "memory")[SPECS[0].case_id] == verdict
    assert (found.exit_code == 1) == (verdict == "LARGER")


def test_samples_of_one_process_are_no_independent_witnesses():
    """A thousand samples of one process know nothing of the next process."""
    for seed in range(20):
        found = judge(*gate_runs.pair(seed, rounds=1, session=None, process=0.04, samples=1000))
        assert not found.with_weight("regression")


def test_too_few_samples_is_said():
    found = judge(*gate_runs.pair(rounds=1, session=None, samples=2, specs=SPECS[:1]))
    assert found.exit_code == 2
    (finding,) = found.with_weight("cannot judge")
    assert (finding.verdict, finding.case_id) == ("INVALID", SPECS[0].case_id)
    assert finding.reason == "too few samples: base has 2 in a process, 3 are needed"


NOT_OK = ("unsupported", "incorrect", "oom", "timeout", "crashed")


@pytest.mark.parametrize("after", NOT_OK)
def test_a_case_that_fails_now_fails_the_gate(after):
    base, head = gate_runs.pair(rounds=1, specs=SPECS[:1])
    head = head.model_copy(update={"records": [synthetic.record(SPECS[0], after)]})
    found = judge(base, head)
    names = {"unsupported": "NEWLY UNSUPPORTED", "incorrect": "NEWLY INCORRECT"}
    assert status(found) == [(names.get(after, "NEWLY FAILING"), "regression")]
    assert found.exit_code == 1
    assert judge(head, base).exit_code == 0


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("unsupported", "unsupported", 0),
        ("crashed", "unsupported", 0),
        ("oom", "incorrect", 1),
        ("crashed", "incorrect", 1),
        ("unsupported", "oom", 1),
    ],
)
def test_a_case_that_failed_before_may_not_fail_worse(before, after, code):
    base, head = (synthetic.run([synthetic.record(SPECS[0], one)]) for one in (before, after))
    assert judge(base, head).exit_code == code


def test_one_crash_in_eight_rounds_is_a_failure():
    base, head = gate_runs.pair(specs=SPECS[:1])
    head.records[3] = synthetic.record(SPECS[0], "crashed")
    assert status(judge(base, head)) == [("NEWLY FAILING", "regression")]


def test_a_vanished_case_and_a_vanished_metric_fail():
    base, head = gate_runs.pair(rounds=1)
    gone = head.model_copy(update={"records": head.records[1:]})
    assert status(judge(base, gone)) == [("VANISHED", "regression")]
    head.records[0] = head.records[0].model_copy(update={"memory": None})
    assert verdicts(judge(base, head), "memory")[SPECS[0].case_id] == "VANISHED"
    assert judge(base, head).exit_code == 1


@pytest.mark.parametrize(("now", "code"), [("unsupported", 0), ("crashed", 1)])
def test_a_new_case_must_not_fail(now, code):
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
    found = judge(base, other)
    assert found.exit_code == 2
    assert status(found) == [("INVALID", "cannot judge")]
    assert f"{name}: base has {base.machine.get(name) or 'none'}, head {value}" in found.findings[0].reason
    assert judge(base, other, anyway=True).exit_code == 0


def test_load_and_temperature_are_no_other_machine():
    base, head = gate_runs.pair()
    assert judge(base, head.model_copy(update={"machine": head.machine | {"load_1min": 9.0}})).exit_code == 0


def test_other_settings_are_invalid():
    base, head = gate_runs.pair()
    found = judge(base, head.model_copy(update={"profile": "full"}))
    assert found.findings[0].reason.endswith("profile: base has standard, head full")
    other = tuple(spec.model_copy(update={"dtype": "bfloat16"}) for spec in SPECS)
    found = judge(base, gate_runs.pair(specs=other)[1])
    assert found.findings[0].reason.endswith("dtype: base has float32, head bfloat16")
    head.records[0].timing.threads = 1
    assert "threads: base has 2, head 1" in judge(base, head).with_weight("cannot judge")[0].reason


def test_a_run_without_cases_is_no_pass():
    empty = synthetic.run([])
    assert judge(empty, empty).exit_code == 2


def test_what_is_not_a_number_is_invalid():
    base, head = gate_runs.pair(rounds=1, specs=SPECS[:1])
    head.records[0].timing.wall_seconds[0] = math.inf
    assert judge(base, head).exit_code == 2


def test_thresholds_of_a_case_pattern_win_over_the_general_ones():
    rules = Settings.model_validate(
        {
            "time": {"floor": 0.2},
            "cases": [{"pattern": "operation/yoso*", "time": {"floor": 0.02}}, {"pattern": "*n128-*", "memory": False}],
        }
    )
    runs = gate_runs.pair(slower=dict.fromkeys(SPECS, 1.1), larger=dict.fromkeys(SPECS, 2.0))
    found = judgement.judge(*runs, rules)
    assert {case.split("-")[0] for case, verdict in verdicts(found).items() if verdict == "SLOWER"} == {
        "operation/yoso"
    }
    assert len(verdicts(found, "memory")) == len(SPECS) - 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-5, 1e3), min_size=5, max_size=12), st.floats(-3, 3), st.sampled_from([0.0, 0.02]))
def test_the_sign_of_a_change_is_its_own_mirror(values, shift, expected):
    """Head against base says the opposite of base against head."""
    noise = np.log(values)
    errors = expected * np.arange(1, len(values) + 1)
    there = meta_analysis.paired(noise + shift, errors, 0.98, "case")
    back = meta_analysis.paired(-(noise + shift), errors, 0.98, "case")
    assert there.value == pytest.approx(-back.value)
    assert there.low <= there.value <= there.high
    assert there.chance_above(0.05) == pytest.approx(back.chance_below(-0.05))


def test_the_interval_of_few_rounds_keeps_its_level():
    """At 98% two-sided, 2% of the intervals miss, and of a skewed noise too not many more."""
    rng = np.random.default_rng(0)
    for draw in (rng.standard_normal, lambda n: rng.exponential(size=n) - 1):
        for rounds, expected in ((8, 0.0), (8, 1.0), (2, 1.0)):
            missed = sum(
                not effect.low < 0 < effect.high
                for effect in (
                    meta_analysis.paired(draw(rounds), [expected] * rounds, 0.98, str(trial)) for trial in range(600)
                )
            )
            assert missed / 600 < 0.05


def restless_rounds(rng, rounds):
    """Differences and errors of rounds of which some are ten times as restless; their errors are from six pairs."""
    scale = 0.02 * np.exp(rng.normal(0, 1.2, rounds))
    found = [meta_analysis.middle(one * np.sqrt(6) * rng.standard_normal(6)) for one in scale]
    return [value for value, _ in found], [np.hypot(error, 0.014) for _, error in found]


def test_a_restless_round_counts_for_less():
    """The interval keeps its level where some rounds were restless, and is the narrower for knowing it."""
    rng = np.random.default_rng(0)
    for rounds in (2, 5, 16):
        drawn = [restless_rounds(rng, rounds) for _ in range(300)]
        found = [meta_analysis.paired(*one, 0.98, str(trial)) for trial, one in enumerate(drawn)]
        assert np.mean([not effect.low < 0 < effect.high for effect in found]) < 0.04
        equal = [meta_analysis.paired(one, [0.04] * rounds, 0.98, str(trial)) for trial, (one, _) in enumerate(drawn)]
        assert np.std([one.value for one in found]) < 0.7 * np.std([one.value for one in equal])
    # A round that is off and calm in itself does not hide what the other fifteen say.
    slower = [0.1 + 0.003 * number for number in range(-7, 8)]
    assert meta_analysis.paired([*slower, -0.2], [0.0173] * 16, 0.98, "case").low > 0.05
    spoiled = meta_analysis.paired([0.0, 0.01, -0.01, 0.9], [0.01, 0.01, 0.01, 0.5], 0.98, "case")
    assert abs(spoiled.value) < 0.01


def test_a_few_rounds_that_agree_by_chance_are_not_believed_more_than_the_machine_allows():
    agreeing = meta_analysis.paired([0.05, 0.0501, 0.0499], [0.02] * 3, 0.98, "case")
    assert agreeing.low < 0.03
    assert (
        agreeing.standard_error
        > 50 * meta_analysis.paired([0.05, 0.0501, 0.0499], [0.0] * 3, 0.98, "case").standard_error
    )
    far_apart = meta_analysis.paired([-0.1, 0.1], [0.02] * 2, 0.98, "case")
    assert 0.05 < far_apart.high < 0.5  # two rounds alone would give no bound that says anything


def test_a_disturbance_of_a_few_turns_or_of_both_sides_does_not_move_a_round():
    speed = np.exp(0.2 * np.sin(np.arange(40.0)))  # the machine's, the same for neighbouring turns
    base = [[0.01 * one] for one in speed]
    head = [[0.0101 * one] for one in speed]
    for disturbed in (3, 17, 29):
        head[disturbed] = [0.5]
    gap, error = contrast.difference(METRICS["time"], base, head)
    assert gap == pytest.approx(np.log(1.01))
    assert error < 1e-6


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.001, 0.4))
def test_discoveries_are_the_step_up_rule(chances, rate):
    """Benjamini and Hochberg's own words: the largest k with p_(k) <= rate k / m, and all below it."""
    ordered = sorted(chances)
    largest = max((k for k, p in enumerate(ordered, 1) if p <= rate * k / len(ordered) * (1 + 1e-12)), default=0)
    limit = ordered[largest - 1] if largest else -1.0
    assert meta_analysis.discoveries(chances, rate) == [p <= limit for p in chances]
