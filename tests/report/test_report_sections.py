"""The sections for experts: each number is checked on records with a known answer."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import pytest
import report_page
import synthetic
from test_report_bounds import made_up

from harness.core.record import Memory, Quality, Record, Timing
from harness.core.spec import ModelSpec, OperationSpec, QualitySpec
from harness.report.comparison import compare
from harness.report.model.amounts import Amount, Sentence
from harness.report.model.page_data import Setting
from harness.report.model.page_parts import Evidence
from harness.report.model.records_table import by_facets, report_rows
from harness.report.model.style import assign_styles
from harness.report.questions import approximation_error, memory_use, pareto, speed, whole_models
from harness.report.questions.memory_use import MemoryParts
from harness.report.questions.operation_page import operation_data
from harness.report.questions.pareto import ParetoPoint


def timed(spec: OperationSpec | ModelSpec, seconds: float, **more: object) -> Record:
    return synthetic.record(spec, timing=Timing(wall_seconds=[seconds] * 5, warmup_calls=1), **more)


def measured(m: int, bias: float, variance: float) -> Record:
    spec = QualitySpec(attention="yoso", seq_len=512, knobs={"num_hash": m})
    errors, biases = {"output": [float(np.sqrt(bias**2 + variance / m))] * 4}, {"output": [bias**2] * 4}
    return synthetic.record(
        spec, knobs={"num_hash": m}, quality=Quality(reference="yoso_e", errors=errors, squared_bias=biases)
    )


@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_bias_and_sampling_error_are_separated(bias: float) -> None:
    run = synthetic.run([measured(m, bias, 4.0) for m in (64, 128, 256)])
    table = approximation_error.bias_and_sampling(report_rows(run))
    assert [row[1].value for row in table.rows] == [64, 128, 256]
    assert [row[2].value for row in table.rows] == pytest.approx([bias] * 3)
    assert [row[3].value for row in table.rows] == pytest.approx([np.sqrt(4.0 / m) for m in (64, 128, 256)])


def test_features_and_landmarks_are_budgets_like_hashes() -> None:
    def of(name: str, knob: str, budget: int) -> Record:
        knobs = {knob: budget, "redraw": True}
        quality = Quality(reference="softmax", errors={"output": [1 / budget] * 2}, budget=knob)
        spec = QualitySpec(attention=name, seq_len=512, knobs={knob: budget})
        return synthetic.record(spec, knobs=knobs, quality=quality)

    attentions = (("performer", "features"), ("nystrom", "landmarks"))
    records = [of(name, knob, budget) for name, knob in attentions for budget in (8, 16)]
    (rows,) = by_facets(report_rows(synthetic.run(records)), "quality").values()
    assert approximation_error.errors_by_budget(rows, "output") == {
        name: {8: [1 / 8] * 2, 16: [1 / 16] * 2} for name in ("nystrom", "performer")
    }


def test_the_share_is_the_time_that_disappears_with_the_attention() -> None:
    records = [
        timed(ModelSpec(attention=name, seq_len=128), seconds) for name, seconds in (("none", 1.0), ("sdpa", 4.0))
    ]
    (row,) = whole_models.share_table(report_rows(synthetic.run(records))).rows
    assert (row[0], row[2].value) == ("sdpa", 0.75)
    assert whole_models.share_table(report_rows(synthetic.run(records[1:]))).rows == []


def test_memory_is_split_into_weights_inputs_results_and_the_rest() -> None:
    spec = OperationSpec(attention="sdpa", seq_len=128, heads=2, head_dim=8, dtype="bfloat16")
    tensor = 128 * 2 * 8 * 2
    memory = Memory(peak_bytes=tensor + 100, input_bytes=3 * tensor, source="made up", reserved_bytes=2**21)
    parts = memory_use.split_memory(synthetic.record(spec, memory=memory))
    assert parts == MemoryParts(0, 3 * tensor, tensor, 100, 2**21)
    step = ModelSpec(attention="sdpa", seq_len=128, mode="training_step")
    memory = Memory(peak_bytes=5000, input_bytes=4100, source="made up")
    parts = memory_use.split_memory(synthetic.record(step, memory=memory, parameters=1000))
    assert parts == MemoryParts(4000, 100, 4000, 1000, None)


def test_memory_that_is_not_in_the_peak_is_named_beside_it() -> None:
    fields = {"peak_bytes": 2**21, "input_bytes": 0, "source": "made up"}
    honest = Memory(**fields, outside_torch_bytes=5000, kept_bytes=65536, growth_bytes=0)
    wrong = Memory(**fields, outside_torch_bytes=100 * 2**20, kept_bytes=69 * 2**20, growth_bytes=2**20)
    records = [
        synthetic.record(OperationSpec(attention=name, seq_len=128), memory=memory)
        for name, memory in (("softmax", honest), ("sdpa", wrong))
    ]
    words = "keeps 69.0 MiB between calls, grows by 1.00 MiB a call, allocates 100 MiB outside torch"
    rows = report_rows(synthetic.run(records))
    (sentence,) = memory_use.sentences(rows)
    assert f"sdpa 2.00 MiB (and {words})" in str(sentence)
    assert {2.0**20, 69 * 2.0**20, 100 * 2.0**20} <= {amount.value for amount in sentence.amounts}
    plot = memory_use.memory_plot(rows, assign_styles([(row.series, row.base_series) for row in rows]))
    assert [str(remark) for remark in plot.remarks] == [f"Not in the peak: sdpa at 128 tokens {words}."]
    (parts,) = memory_use.memory_parts(rows)
    assert {str(row[0]): str(row[-1]) for row in parts.rows} == {"softmax": "\N{EN DASH}", "sdpa": words}
    (parts,) = memory_use.memory_parts(report_rows(synthetic.run(records[:1])))
    assert parts.columns[-1] == "Activations and workspace"


def test_what_was_not_verified_is_listed_and_otherwise_there_is_no_section() -> None:
    spec = ModelSpec(attention="linformer", seq_len=64)
    what = "the layers of the last timed step"
    records = [timed(spec, 1.0, unverified=[what]), timed(OperationSpec(attention="sdpa", seq_len=64), 1.0)]
    section = next(each for each in compare([synthetic.run(records)]).sections if each.id == "unverified")
    assert [str(cell) for cell in section.tables[0].rows[0]] == ["linformer", what, "1"]
    assert all(each.id != "unverified" for each in compare([synthetic.run(records[1:])]).sections)


def test_a_disturbed_time_is_marked_and_in_no_exponent_and_no_crossover() -> None:
    words = "the process had 0.33 of its 2 cores"
    records = [
        timed(OperationSpec(attention=name, seq_len=n), factor * n / 1e5)
        for name, factor in (("sdpa", 1.0), ("yoso", 0.5))
        for n in (512, 1024, 2048, 4096)
    ]
    assert records[3].timing is not None
    slow = {"wall_seconds": [9.0] * 5, "disturbed": True, "disturbance": words}
    records[3] = records[3].model_copy(update={"timing": records[3].timing.model_copy(update=slow)})
    rows = report_rows(synthetic.run(records))
    (table,) = speed.exponents(rows)
    lengths = {str(row[0]): str(row[2]) for row in table.rows}
    assert lengths == {"sdpa": "3 from 512 to 2,048", "yoso": "4 from 512 to 4,096"}
    assert all(isinstance(row[1], Amount) and abs(row[1].value - 1) < 1e-6 for row in table.rows)
    (crossovers,) = speed.crossovers(rows)
    assert [str(cell) for cell in crossovers.rows[0][-2:]] == ["3 from 512 to 2,048", "not measured"]
    plot = speed.time_plot(rows, assign_styles([(row.series, row.base_series) for row in rows]))
    remark = f"Disturbed by other processes, and so in no exponent and no crossover: sdpa at 4,096 tokens ({words})."
    assert [str(each) for each in plot.remarks] == [remark]
    assert any(f"disturbed: {words}" in text for trace in plot.figure["data"] for text in trace.get("hovertext") or [])
    fastest, beside = speed.fastest_sentences(settings_of(records))
    assert "none is called the fastest; the shortest is that of sdpa: 9.00 s [9.00 s, 9.00 s] (disturbed)" in str(
        fastest
    )
    assert amounts_of(fastest) >= {9.0}
    assert ": no comparison, because other processes disturbed a time, " in str(beside)
    other = timed(OperationSpec(attention="sdpa_flash", seq_len=4096), 10.0)
    fastest, beside = speed.fastest_sentences(settings_of([*records, other]))
    assert "whose times other processes did not disturb, is sdpa_flash: 10.0 s" in str(fastest)
    assert "times faster" in str(beside)
    undisturbed = speed.fastest_sentences(settings_of(records[4:]))
    assert "disturbed" not in " ".join(str(each) for each in undisturbed)


def settings_of(records: Sequence[Record]) -> list[Setting]:
    operation = operation_data(Evidence.of_run(synthetic.run(records)))
    assert operation is not None
    return operation.settings


def amounts_of(sentence: Sentence) -> set[float]:
    return {amount.value for amount in sentence.amounts}


def test_the_pareto_front_has_the_points_that_no_other_point_beats() -> None:
    points = [ParetoPoint(name, 512, x, y, "") for name, x, y in (("a", 1, 9), ("b", 2, 3), ("c", 3, 4), ("d", 4, 1))]
    assert [point.series for point in pareto.pareto_front(points, "lower")] == ["a", "b", "d"]
    assert [point.series for point in pareto.pareto_front(points, "higher")] == ["a"]


def test_a_time_is_matched_with_the_error_of_the_same_settings_only() -> None:
    operation = OperationSpec(attention="yoso", seq_len=512)
    records = [
        timed(operation, 1e-3, knobs={"num_hash": 64, "lsh_backward": True}),
        measured(32, 0, 4.0), measured(64, 0, 4.0),
    ]  # fmt: skip
    rows = report_rows(synthetic.run(records))
    operations = next(iter(by_facets(rows, "operation").values()))
    errors = approximation_error.ErrorIndex(rows)
    (inputs,) = errors.inputs
    (point,) = pareto.time_and_error(operations, errors, inputs).points
    assert point.y == pytest.approx(np.sqrt(4.0 / 64))


def test_published_accuracies_are_marked_as_not_measured_here() -> None:
    text = report_page.of(synthetic.run([synthetic.task("yoso", [0.35, 0.36])])).text
    assert "Published by others, not measured here" in text
    assert "arXiv 2102.03902" in text
    assert "37.10%" in text
    assert "Published by others" not in report_page.of(synthetic.run([])).text


def test_the_roofline_has_ceilings_and_every_counted_case() -> None:
    (view,) = report_page.figures(report_page.of(made_up()))["roofline"]
    data = view["plots"][0]["data"]
    assert [t["x"] for t in data if t["meta"]["series"] == "sdpa"] == [[8000.0]]
    assert [t["y"] for t in data if t["meta"]["series"] == "sdpa"] == [[8e11 / 2e-3]]
    assert {t["name"] for t in data if t["meta"]["series"] is None} == {"copy", "matmul bfloat16"}


def test_unequal_threads_are_in_the_fairness_section() -> None:
    records = [
        synthetic.record(
            OperationSpec(attention=name, seq_len=64), timing=Timing(wall_seconds=[1.0], warmup_calls=1, threads=n)
        )
        for name, n in (("sdpa", 2), ("softmax", 2), ("yoso", 1))
    ]
    page = report_page.of(synthetic.run(records))
    assert "Is it fair?" in page.text
    assert any(row[:2] == ["threads", "yoso"] for row in page.rows)


def test_plotly_accepts_every_figure() -> None:
    for run in (synthetic.realistic(), made_up()):
        for panel in compare([run]).panels:
            for view in panel.views:
                for plot in view.plots:
                    go.Figure(plot.figure)
