"""Records that differ in one setting only are kept apart, and unequal batches are compared per instance."""

from typing import Any

import numpy as np
import pytest
import synthetic
from report_page import of, pictures

from harness.core.record import Conditions, Record
from harness.core.spec import ModelSpec, TaskSpec
from harness.report.comparison import compare
from harness.report.model.plain_rows import plain_rows
from harness.report.model.records_table import by_facets, report_rows
from harness.report.questions import fairness, memory_use, speed
from harness.report.questions.hardware_bounds import device_and_host

LARGEST = "per instance at the largest batch that fits, 2 layers, width 256, 4 heads, vocabulary of 1,024"


def model(seconds: float = 1e-2, peak: float = 1e6, batch: int | None = None, **fields: Any) -> Record:
    given = {"attention": "yoso", "seq_len": 512, "family": "lra", "head": "sequence_classification"}
    spec = ModelSpec.model_validate(given | fields)
    knobs = dict(spec.knobs)
    return synthetic.timed(spec, seconds, peak, np.random.default_rng(0), knobs=knobs, batch=batch)


def task(score: float, **fields: Any) -> Record:
    plain = synthetic.task("yoso", [score, score])
    spec = plain.spec.model_copy(update=fields)
    return plain.model_copy(update={"spec": spec, "case_id": spec.case_id})


def test_two_models_of_one_task_are_two_views() -> None:
    run = synthetic.run([task(0.25, family="yoso"), task(0.5, family="lra")])
    groups = by_facets(report_rows(run), "task")
    assert [dict(facets)["Model"] for facets in groups] == ["Long Range Arena's model", "YOSO's model"]
    assert [len(rows) for rows in groups.values()] == [1, 1]
    page = of(run)
    drawn = {view["facets"]["Model"]: view["plots"][0]["data"] for view in pictures(run)["task"]}
    assert {name: data[1]["y"] for name, data in drawn.items()} == {
        "Long Range Arena's model": [0.5],
        "YOSO's model": [0.25],
    }
    assert "listops in Long Range Arena's model at 512 tokens: yoso 50.0%" in page.text
    assert "listops in YOSO's model at 512 tokens: yoso 25.0%" in page.text


def test_the_only_model_of_a_task_is_not_named_in_its_sentence() -> None:
    assert "accuracy on listops at 512 tokens: yoso 50.0%" in of(synthetic.run([task(0.5, family="lra")])).text


def test_a_models_convolution_is_in_the_label_where_it_differs() -> None:
    def labels(*records: Record) -> list[str]:
        return sorted(row.series for row in report_rows(synthetic.run(records)))

    both = [model(), model(conv_window=33)]
    assert labels(*both) == ["lra · yoso", "lra · yoso (conv_window=33)"]
    assert labels(model(conv_window=33), model(conv_window=5)) == [
        "lra · yoso (conv_window=33)", "lra · yoso (conv_window=5)",
    ]  # fmt: skip
    assert labels(both[1], model(conv_window=33, seq_len=1024)) == ["lra · yoso"] * 2
    hashed = [model(knobs={"num_hash": m}, conv_window=w) for m in (16, 32) for w in (None, 33)]
    assert labels(*hashed) == [
        "lra · yoso (conv_window=33, num_hash=16)",
        "lra · yoso (conv_window=33, num_hash=32)",
        "lra · yoso (num_hash=16)",
        "lra · yoso (num_hash=32)",
    ]
    own = [model(attention="yoso_conv", knobs={"conv_window": w}) for w in (5, 33)]
    assert labels(*own) == ["lra · yoso_conv (conv_window=33)", "lra · yoso_conv (conv_window=5)"]
    (drawn,) = pictures(synthetic.run(both))["model"]
    assert {trace["meta"]["series"] for trace in drawn["plots"][0]["data"]} == {
        "lra · yoso", "lra · yoso (conv_window=33)",
    }  # fmt: skip


def test_the_largest_batch_has_its_own_view_with_values_per_instance() -> None:
    common, largest = model(0.32, 64e6), model(0.32, 64e6, batch=16, largest_batch=True)
    table = report_rows(synthetic.run([common, largest]))
    whole, part = table
    assert whole.time is not None
    assert part.time is not None
    assert whole.time.low is not None
    assert whole.time.high is not None
    assert dict(part.facets)["Shape"] == LARGEST
    assert dict(whole.facets)["Shape"] == LARGEST.replace("per instance at the largest batch that fits", "batch 1")
    assert part.time.value == pytest.approx(whole.time.value / 16)
    assert (part.time.low, part.time.high) == pytest.approx((whole.time.low / 16, whole.time.high / 16), rel=0.05)
    assert (whole.peak_bytes, part.peak_bytes) == (64e6, 4e6)
    assert part.input_bytes == whole.input_bytes
    rows = plain_rows(table, ["a run"])
    assert [(row["per"], row["batch"]) for row in rows] == [("call", 1), ("instance", 16)]
    assert rows[1]["seconds"] == part.time.value
    assert LARGEST in str(rows[1]["setting"])


def test_titles_say_whether_values_are_per_call_or_per_instance() -> None:
    run = synthetic.run([model(), model(batch=16, largest_batch=True), model(attention="sdpa", largest_batch=True)])
    titles = {one["facets"]["Shape"]: [plot["title"] for plot in one["plots"]] for one in pictures(run)["model"]}
    batch_1 = LARGEST.replace("per instance at the largest batch that fits", "batch 1")
    assert titles[LARGEST][:2] == [
        "Time per instance against length (wall time)",
        "Peak memory per instance against length",
    ]
    assert titles[LARGEST][3] == "Pareto front: time per instance and peak memory per instance"
    assert titles[batch_1][:2] == ["Time per call against length (wall time)", "Peak memory against length"]
    assert "time and memory are those of a call divided by its batch" in compare([run]).levels[0].lead
    assert "divided by its batch" not in compare([synthetic.run([model()])]).levels[0].lead
    time, memory = next(one for one in pictures(run)["model"] if one["facets"]["Shape"] == LARGEST)["plots"][:2]
    assert time["layout"]["yaxis"]["title"]["text"] == "time per instance"
    assert memory["layout"]["yaxis"]["title"]["text"] == "peak memory per instance"
    assert "per instance in a call of 16 at the peak" in memory["data"][0]["hovertext"][0]
    assert time["remarks"] == ["Cases with a result but no time: 1."], (
        "a case whose batch was not recorded has no time per instance"
    )
    (settings,) = [value for name, value in compare([run]).runs[0].settings if name == "batch"]
    assert str(settings) == "1, the largest that fits"


def test_different_batches_do_not_decide_which_attention_is_faster() -> None:
    """A call of softmax takes half the time, but processes a tenth of the instances."""
    records = [
        model(seconds * n / 512, 1e6, batch, attention=name, seq_len=n, family="yoso", largest_batch=True)
        for n in (512, 1024, 2048)
        for name, seconds, batch in (("softmax", 0.5, 4), ("yoso", 1.0, 40))
    ]
    (table,) = speed.crossovers(report_rows(synthetic.run(records)))
    (row,) = table.rows
    assert row[:3] == ["yoso", "softmax", "faster everywhere"]
    assert LARGEST in str(table.note)


def test_values_of_whole_calls_name_the_batch() -> None:
    largest = model(0.32, 64e6, batch=16, largest_batch=True)
    assert largest.timing is not None
    largest.timing.device_seconds = [0.32] * 15
    table = report_rows(synthetic.run([largest]))
    (parts,) = memory_use.memory_parts(table)
    assert str(parts.rows[0][0]) == "lra · yoso, batch 16"
    assert float(parts.rows[0][4].value) + float(parts.rows[0][5].value) == 64e6
    (device,) = device_and_host(table)
    assert str(device.rows[0][0]) == "lra · yoso, batch 16"
    assert device.rows[0][2].value == 0.32


def test_fairness_compares_within_one_model_of_a_task_and_across_convolutions() -> None:
    def with_parameters(record: Record, parameters: int) -> Record:
        conditions = Conditions(parameters=parameters, compiled=False, float32_matmul="highest")
        return record.model_copy(update={"conditions": conditions})

    tasks = [with_parameters(task(0.5, family="yoso"), 100), with_parameters(task(0.5, family="lra"), 200)]
    assert isinstance(tasks[0].spec, TaskSpec)
    assert fairness.findings(tasks) == []
    models = [
        with_parameters(model(), 100),
        with_parameters(model(attention="sdpa"), 100),
        with_parameters(model(conv_window=33), 232),
    ]
    (finding,) = fairness.findings(models)
    assert finding.reason == (
        "yoso in lra with a convolution of 33 tokens had 232 trainable parameters, "
        "where others had 100 trainable parameters"
    )
