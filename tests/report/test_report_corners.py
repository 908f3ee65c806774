"""Runs with little in them: every fold has its finding, and no sentence says more, or less, than was measured."""

from collections.abc import Sequence

import pytest
import report_page
import synthetic
from test_report_comparable import finding, model, of, operation

from harness.core.record import Quality, Record
from harness.core.spec import OperationSpec, QualitySpec
from harness.report.comparison import Comparison, compare
from harness.report.model.records_table import report_rows
from harness.report.questions import approximation_error

TASK = synthetic.task("softmax", [0.5, 0.6])


def failed(*records: Record) -> list[Record]:
    return [synthetic.record(record.spec, "crashed") for record in records]


def disturbed(attention: str, length: int = 128) -> Record:
    return operation(attention, 1.0, length, disturbed=True)


ALL = [operation("sdpa", 1.0, n) for n in (128, 256)] + [model("sdpa", 1.0), model("none", 0.5), TASK]
CORNERS: dict[str, Sequence[Sequence[Record]]] = {
    "no records": [[]],
    "all failed": [failed(*ALL)],
    "all disturbed": [[disturbed("sdpa"), disturbed("yoso"), model("sdpa", 1.0, family="bert", disturbed=True),
                       model("sdpa", 1.0, disturbed=True), model("none", 1.0, disturbed=True)]],
    "one case": [[operation("sdpa", 1.0)]],
    "no attention": [[operation("none", 1.0), model("none", 1.0)]],
    "models alone": [[model(name, 1.0, n) for name in ("sdpa", "yoso", "none") for n in (128, 256, 512)]],
    "one model": [[model("sdpa", 1.0, family="bert")]],
    "two runs, one of failures": [ALL, failed(*ALL)],
    "two runs, one empty": [ALL, []],
}  # fmt: skip


def compared(runs: Sequence[Sequence[Record]]) -> Comparison:
    machines = ({"cpu": "First CPU", "logical_cores": 2}, {"cpu": "Second CPU", "logical_cores": 8})
    return compare([synthetic.run(run, machine=machine) for run, machine in zip(runs, machines, strict=False)])


@pytest.mark.parametrize("runs", CORNERS.values(), ids=CORNERS)
def test_every_fold_has_its_finding(runs: Sequence[Sequence[Record]]) -> None:
    report = compared(runs)
    findings = {section.id: str(section.finding) for section in report.sections}
    assert [id_ for id_, words in findings.items() if not words] == []
    assert all(summary.sentences for summary in report.summaries)
    assert str(report.finding)
    assert str(report.data_finding).startswith(f"Records: {sum(map(len, runs))}; samples of time: ")


def test_the_folds_of_the_summary_and_of_the_data_have_their_findings_on_the_page() -> None:
    page = report_page.of(synthetic.run([operation("sdpa", 1.0)]))
    findings = [block.text for block in page.blocks if block.kind == "finding"]
    assert findings[0].startswith("At 128 tokens the fastest exact softmax attention is sdpa: 1.00 s [")
    assert findings[0].endswith("and its error was not measured.")
    words = "Records: 1; samples of time: 5; checks: 0. All as JSON, and a setting of the attention alone as CSV."
    assert findings[-1] == words


def test_a_run_without_a_sentence_about_speed_says_what_it_has() -> None:
    def said(*records: Record) -> list[str]:
        return [str(sentence) for sentence in report_page.headline_of(synthetic.run(records))]

    assert said() == ["This run has no records: nothing was measured, so there is nothing to compare."]
    failures = [synthetic.record(OperationSpec(attention="sdpa", seq_len=64), "oom"), *failed(TASK)]
    assert said(*failures) == ["No case gave a result: of 2, 1 out of memory, 1 crashed."]
    assert said(model("sdpa", 1.0), *failed(TASK)) == ["Of 2 cases these gave a result: 1 of whole models."]
    once = operation("sdpa", 1.0, samples=1), operation("softmax", 2.0, samples=1), operation("yoso", 0.5, samples=1)
    first, second, *_ = said(*once)
    assert "so none is called the fastest; the shortest time is that of sdpa: 1.00 s" in first
    assert (
        "yoso takes 500 ms: no comparison, because a time was taken only once, and its error was not measured" in second
    )
    training = operation("sdpa", 1.0)
    spec = OperationSpec(attention="sdpa", seq_len=128, mode="forward_backward")
    only_training = training.model_copy(update={"spec": spec, "case_id": spec.case_id})
    assert "(forward + backward)" in said(*failed(training), only_training)[0]


def test_a_run_of_failures_does_not_describe_times_that_it_does_not_have() -> None:
    assert "Times and memory" not in report_page.of(synthetic.run(failed(*ALL))).text
    assert finding(of(*failed(*ALL)), "accuracy") == "No training gave a score."


def test_errors_of_exactly_0_are_named_and_not_called_unmeasured() -> None:
    spec = QualitySpec(attention="linformer", seq_len=128)
    quality = Quality(reference="softmax, float64", errors={"output": [0.0, 0.0]})
    records = [operation("linformer", 1.0), synthetic.record(spec, quality=quality)]
    rows = report_rows(synthetic.run(records))
    errors = approximation_error.ErrorIndex(rows)
    (plot,) = approximation_error.error_plots(rows[:1], {}, errors, errors.inputs)
    assert plot.figure["data"] == []
    assert plot.empty.startswith("No approximation error above 0 was measured")
    (remark,) = plot.remarks
    assert str(remark) == "An error of exactly 0 cannot be drawn on a log axis: linformer at 128 tokens."


def test_a_training_without_a_recorded_time_is_not_said_to_have_no_score() -> None:
    (panel,) = of(synthetic.task("softmax", [0.5], train_seconds=[])).levels
    empty = {plot.id: plot.empty for plot in panel.views[0].plots}
    assert empty["training"] == "No time of a training was recorded."
    (panel,) = of(*failed(TASK)).levels
    empty = {plot.id: plot.empty for plot in panel.views[0].plots}
    assert empty["training"] == "No training gave a score."
