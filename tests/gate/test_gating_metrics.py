"""The metrics besides time and memory that the gate compares: errors, accuracy, counts, compile time."""

import gate_runs
import numpy as np
import pytest
import synthetic
from gate_runs import SPECS

from harness.core.record import Check, Conditions, Quality
from harness.core.spec import QualitySpec
from harness.gate.judge import judgement
from harness.gate.judge.thresholds import Settings


def judge(base, head):
    return judgement.judge(base, head, Settings())


def verdicts(judged, metric):
    findings = [finding for finding in judged.findings if finding.metric is not None]
    return {finding.case_id: finding.verdict for finding in findings if finding.metric.name == metric}


def quality(errors):
    spec = QualitySpec(attention="yoso", seq_len=64, draws=len(errors))
    return synthetic.run([synthetic.record(spec, quality=Quality(reference="yoso_e", errors={"output": errors}))])


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ([0.2, 0.21, 0.19, 0.2], "SAME"),
        ([0.3, 0.31, 0.29, 0.3], "WORSE"),
        ([0.1, 0.11, 0.09, 0.1], "BETTER"),
        ([0.2, 0.32, 0.19, 0.2], "AMBIGUOUS"),
    ],
)
def test_an_approximation_that_gets_worse_is_found(after, verdict):
    judged = judge(quality([0.2, 0.21, 0.19, 0.2]), quality(after))
    assert list(verdicts(judged, "error").values()) == [verdict]


def test_a_change_of_rounding_passes():
    assert judge(quality([3e-7]), quality([9e-7])).exit_code == 0
    assert judge(quality([3e-7]), quality([9e-3])).exit_code == 1


def test_a_check_whose_error_approaches_its_limit_is_a_regression():
    def checked(error):
        check = Check(what="output", error=error, allowed=1e-6, passed=True)
        return synthetic.run([synthetic.record(SPECS[0], checks=[check])])

    assert judge(checked(2e-7), checked(3e-7)).exit_code == 0
    assert judge(checked(2e-7), checked(9e-7)).exit_code == 1


def test_the_worst_of_many_rows_is_not_gated():
    def checked(error):
        total = Check(what="output", error=2e-7, allowed=1e-6, passed=True)
        row = Check(what="output, worst row", error=error, allowed=1e-6, passed=True, where="row 3 of head 0")
        return synthetic.run([synthetic.record(SPECS[0], checks=[total, row])])

    assert judge(checked(2e-7), checked(9e-7)).exit_code == 0


def test_a_lower_task_accuracy_is_worse():
    def scored(scores):
        return synthetic.run([synthetic.task("yoso", scores)])

    before = [0.5, 0.52, 0.51, 0.5, 0.53]
    assert judge(scored(before), scored(before)).exit_code == 0
    worse = judge(scored(before), scored([score - 0.1 - 0.002 * i for i, score in enumerate(before)]))
    assert list(verdicts(worse, "accuracy").values()) == ["WORSE"]
    assert judge(scored(before[:1]), scored([0.1])).exit_code == 2


def counted(launches, operators, seconds):
    conditions = Conditions(parameters=0, compiled=operators is None, float32_matmul="highest", operators=operators)
    changes = {"kernel_launches": launches, "conditions": conditions, "compile_seconds": seconds}
    return synthetic.run([gate_runs.timed(SPECS[0], np.random.default_rng(0)).model_copy(update=changes)])


def test_counts_and_compile_time_are_gated_if_the_record_has_them():
    judged = judge(counted(4, 20, 10.0), counted(5, 21, 30.0))
    assert {finding.metric.name: finding.verdict for finding in judged.with_weight("regression")} == {
        "launches": "MORE",
        "operators": "MORE",
        "compile_time": "SLOWER",
    }
    assert verdicts(judge(counted(0, 0, None), counted(0, 1, None)), "operators") == {SPECS[0].case_id: "MORE"}
    assert verdicts(judge(counted(0, 0, None), counted(0, 1, None)), "launches") == {SPECS[0].case_id: "SAME"}
    assert verdicts(judge(counted(4, 20, 10.0), counted(4, 20, 10.2)), "compile_time") == {SPECS[0].case_id: "SAME"}
    assert verdicts(judge(counted(4, 20, None), counted(4, 20, 10.0)), "compile_time") == {SPECS[0].case_id: "SLOWER"}
    assert verdicts(judge(counted(4, 20, 10.0), counted(4, 20, None)), "compile_time") == {SPECS[0].case_id: "FASTER"}


def test_a_case_that_is_compiled_now_has_no_operator_count_and_is_no_regression():
    judged = judge(counted(4, 20, None), counted(4, None, None))
    assert not judged.with_weight("regression")
    assert not verdicts(judged, "operators")
    assert verdicts(judge(counted(4, 20, None), counted(None, 20, None)), "launches") == {SPECS[0].case_id: "VANISHED"}
