"""The sections for experts: each number from records whose answer is known beforehand."""

import numpy as np
import plotly.graph_objects as go
import pytest
import report_page
import synthetic
from test_report_bounds import made_up

from harness.core.record import Memory, Quality, Record, Timing
from harness.core.spec import ModelSpec, OperationSpec, QualitySpec
from harness.report.model.comparison import compare
from harness.report.model.records_table import frame, views
from harness.report.questions import errors, memory_parts, pareto_fronts, rivals
from harness.report.questions.pareto_fronts import Choice


def timed(spec: OperationSpec | ModelSpec, seconds: float, **more: object) -> Record:
    return synthetic.record(spec, timing=Timing(wall_seconds=[seconds] * 5, warmup_calls=1), **more)


def measured(m: int, bias: float, variance: float) -> Record:
    spec = QualitySpec(attention="yoso", seq_len=512, knobs={"num_hash": m})
    errors, biases = {"output": [float(np.sqrt(bias**2 + variance / m))] * 4}, {"output": [bias**2] * 4}
    return synthetic.record(
        spec, knobs={"num_hash": m}, quality=Quality(reference="yoso_e", errors=errors, squared_bias=biases)
    )


@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_bias_and_sampling_error_are_told_apart(bias: float) -> None:
    table = errors.bias_and_sampling(frame(synthetic.run([measured(m, bias, 4.0) for m in (64, 128, 256)])))
    assert [row[1].value for row in table.rows] == [64, 128, 256]
    assert [row[2].value for row in table.rows] == pytest.approx([bias] * 3)
    assert [row[3].value for row in table.rows] == pytest.approx([np.sqrt(4.0 / m) for m in (64, 128, 256)])


def test_features_and_landmarks_are_budgets_as_hashes_are() -> None:
    def of(name: str, knob: str, budget: int) -> Record:
        knobs = {knob: budget, "redraw": True}
        found = Quality(reference="softmax", errors={"output": [1 / budget] * 2}, budget=knob)
        spec = QualitySpec(attention=name, seq_len=512, knobs={knob: budget})
        return synthetic.record(spec, knobs=knobs, quality=found)

    records = [of(*one, budget) for one in (("performer", "features"), ("nystrom", "landmarks")) for budget in (8, 16)]
    (view,) = views(frame(synthetic.run(records)), "quality").values()
    assert errors.by_budget(view, "output") == {
        name: {8: [1 / 8] * 2, 16: [1 / 16] * 2} for name in ("nystrom", "performer")
    }


def test_the_share_is_what_goes_away_with_the_attention() -> None:
    records = [
        timed(ModelSpec(attention=name, seq_len=128), seconds) for name, seconds in (("none", 1.0), ("sdpa", 4.0))
    ]
    (row,) = rivals.shares(frame(synthetic.run(records))).rows
    assert (row[0], row[2].value) == ("sdpa", 0.75)
    assert rivals.shares(frame(synthetic.run(records[1:]))).rows == []


def test_memory_is_taken_apart_into_what_must_be_and_the_rest() -> None:
    spec = OperationSpec(attention="sdpa", seq_len=128, heads=2, head_dim=8, dtype="bfloat16")
    tensor = 128 * 2 * 8 * 2
    memory = Memory(peak_bytes=tensor + 100, input_bytes=3 * tensor, source="made up", reserved_bytes=2**21)
    assert memory_parts.parts(synthetic.record(spec, memory=memory)) == (0, 3 * tensor, tensor, 100, 2**21)
    step = ModelSpec(attention="sdpa", seq_len=128, mode="training_step")
    memory = Memory(peak_bytes=5000, input_bytes=4100, source="made up")
    assert memory_parts.parts(synthetic.record(step, memory=memory, parameters=1000)) == (4000, 100, 4000, 1000, None)


def test_the_front_holds_what_nothing_beats_in_both_costs() -> None:
    choices = [Choice(name, 512, x, y, "") for name, x, y in (("a", 1, 9), ("b", 2, 3), ("c", 3, 4), ("d", 4, 1))]
    assert [one.series for one in pareto_fronts.unbeaten(choices, "lower")] == ["a", "b", "d"]
    assert [one.series for one in pareto_fronts.unbeaten(choices, "higher")] == ["a"]


def test_a_time_meets_the_error_of_its_own_settings_only() -> None:
    operation = OperationSpec(attention="yoso", seq_len=512)
    records = [
        timed(operation, 1e-3, knobs={"num_hash": 64, "lsh_backward": True}),
        measured(32, 0, 4.0), measured(64, 0, 4.0),
    ]  # fmt: skip
    table = frame(synthetic.run(records))
    rows = next(iter(views(table, "operation").values()))
    joined = errors.Errors(table)
    (inputs,) = joined.inputs
    (choice,) = pareto_fronts.error_front(rows, joined, inputs).choices
    assert choice.y == pytest.approx(np.sqrt(4.0 / 64))


def test_published_accuracies_stand_beside_and_are_marked() -> None:
    text = report_page.of(synthetic.run([synthetic.task("yoso", [0.35, 0.36])])).text
    assert "Published elsewhere, not measured here" in text
    assert "arXiv 2102.03902" in text
    assert "37.10%" in text
    assert "Published elsewhere" not in report_page.of(synthetic.run([])).text


def test_the_roofline_has_ceilings_and_every_counted_case() -> None:
    (one,) = report_page.figures(report_page.of(made_up()))["roofline"]
    data = one["plots"][0]["data"]
    assert [t["x"] for t in data if t["meta"]["series"] == "sdpa"] == [[8000.0]]
    assert [t["y"] for t in data if t["meta"]["series"] == "sdpa"] == [[8e11 / 2e-3]]
    assert {t["name"] for t in data if t["meta"]["series"] is None} == {"copy", "matmul bfloat16"}


def test_unequal_threads_are_said_beside_the_comparison() -> None:
    records = [
        synthetic.record(
            OperationSpec(attention=name, seq_len=64), timing=Timing(wall_seconds=[1.0], warmup_calls=1, threads=n)
        )
        for name, n in (("sdpa", 2), ("softmax", 2), ("yoso", 1))
    ]
    page = report_page.of(synthetic.run(records))
    assert "Is the comparison fair?" in page.text
    assert any(row[:2] == ["threads", "yoso"] for row in page.rows)


def test_plotly_knows_every_part_of_every_figure() -> None:
    for run in (synthetic.realistic(), made_up()):
        for panel in compare([run]).panels:
            for one in panel.views:
                for plot in one.plots:
                    go.Figure(plot.figure)
