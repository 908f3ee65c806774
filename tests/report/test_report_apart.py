"""Records that differ in one setting alone are told apart, and what is of unequal batches is compared an instance."""

from typing import Any

import numpy as np
import pytest
import synthetic
from report_page import figures, of

from harness.core.record import Conditions, Record
from harness.core.spec import ModelSpec, TaskSpec
from harness.report.model import case_rows, comparison
from harness.report.model.records_table import each, frame, views
from harness.report.questions import fairness, memory_parts, scaling
from harness.report.questions.bounds import device_and_host

LARGEST = "an instance at the largest batch that fits, 2 layers, width 256, 4 heads, 1,024 words"


def model(seconds: float = 1e-2, peak: float = 1e6, batch: int | None = None, **fields: Any) -> Record:
    given = {"attention": "yoso", "seq_len": 512, "family": "lra", "head": "sequence_classification"}
    spec = ModelSpec.model_validate(given | fields)
    knobs = dict(spec.knobs)
    return synthetic.timed(spec, seconds, peak, np.random.default_rng(0), knobs=knobs, batch=batch)


def task(score: float, **fields: Any) -> Record:
    plain = synthetic.task("yoso", [score, score])
    spec = plain.spec.model_copy(update=fields)
    return plain.model_copy(update={"spec": spec, "case_id": spec.case_id})


def test_a_tasks_models_are_two_views() -> None:
    run = synthetic.run([task(0.25, family="yoso"), task(0.5, family="lra")])
    found = views(frame(run), "task")
    assert [dict(facets)["Model"] for facets in found] == ["Long Range Arena's model", "YOSO's model"]
    assert [len(rows) for rows in found.values()] == [1, 1]
    page = of(run)
    shown = {one["facets"]["Model"]: one["plots"][0]["data"] for one in figures(page)["task"]}
    assert {name: data[1]["y"] for name, data in shown.items()} == {
        "Long Range Arena's model": [0.5],
        "YOSO's model": [0.25],
    }
    assert "listops in Long Range Arena's model at 512 tokens: yoso 50.0%" in page.text
    assert "listops in YOSO's model at 512 tokens: yoso 25.0%" in page.text


def test_a_tasks_only_model_is_not_in_its_sentence() -> None:
    assert "accuracy on listops at 512 tokens: yoso 50.0%" in of(synthetic.run([task(0.5, family="lra")])).text


def test_a_models_convolution_is_in_the_label_where_it_differs() -> None:
    def labels(*records: Record) -> list[str]:
        return sorted(frame(synthetic.run(records))["series"])

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
    (drawn,) = figures(of(synthetic.run(both)))["model"]
    assert {trace["meta"]["series"] for trace in drawn["plots"][0]["data"]} == {
        "lra · yoso", "lra · yoso (conv_window=33)",
    }  # fmt: skip


def test_the_largest_batch_is_a_view_of_its_own_and_its_numbers_are_an_instances() -> None:
    common, largest = model(0.32, 64e6), model(0.32, 64e6, batch=16, largest_batch=True)
    table = frame(synthetic.run([common, largest]))
    whole, part = each(table)
    assert dict(part.facets)["Shape"] == LARGEST
    assert dict(whole.facets)["Shape"] == LARGEST.replace("an instance at the largest batch that fits", "batch 1")
    assert part.time.value == pytest.approx(whole.time.value / 16)
    assert (part.time.low, part.time.high) == pytest.approx((whole.time.low / 16, whole.time.high / 16), rel=0.05)
    assert (whole.peak_bytes, part.peak_bytes) == (64e6, 4e6)
    assert part.input_bytes == whole.input_bytes
    rows = case_rows.rows(table, ["a run"])
    assert [(row["per"], row["batch"]) for row in rows] == [("call", 1), ("instance", 16)]
    assert rows[1]["seconds"] == part.time.value
    assert LARGEST in str(rows[1]["setting"])


def test_titles_say_what_the_numbers_are_of() -> None:
    run = synthetic.run([model(), model(batch=16, largest_batch=True), model(attention="sdpa", largest_batch=True)])
    page = of(run)
    titles = {one["facets"]["Shape"]: [plot["title"] for plot in one["plots"]] for one in figures(page)["model"]}
    batch_1 = LARGEST.replace("an instance at the largest batch that fits", "batch 1")
    assert titles[LARGEST][:2] == [
        "Time an instance against length (wall time)",
        "Peak memory an instance against length",
    ]
    assert titles[LARGEST][3] == "Pareto front: time an instance and peak memory an instance"
    assert titles[batch_1][:2] == ["Time a call against length (wall time)", "Peak memory against length"]
    assert "time and memory are a call's divided by its batch" in page.text
    assert "divided by its batch" not in of(synthetic.run([model()])).text
    time, memory = next(one for one in figures(page)["model"] if one["facets"]["Shape"] == LARGEST)["plots"][:2]
    assert time["layout"]["yaxis"]["title"]["text"] == "time an instance"
    assert memory["layout"]["yaxis"]["title"]["text"] == "peak memory an instance"
    assert "an instance, in a call of 16," in memory["data"][0]["hovertext"][0]
    assert time["remarks"] == ["Cases with a result but no time: 1."], "without its batch a case has no time to show"
    (settings,) = [value for name, value in comparison.compare([run]).runs[0].settings if name == "batch"]
    assert str(settings) == "1, the largest that fits"


def test_batches_that_differ_do_not_decide_who_is_faster() -> None:
    """Softmax's call takes half the time, for a tenth of the instances."""
    records = [
        model(seconds * n / 512, 1e6, batch, attention=name, seq_len=n, family="yoso", largest_batch=True)
        for n in (512, 1024, 2048)
        for name, seconds, batch in (("softmax", 0.5, 4), ("yoso", 1.0, 40))
    ]
    (table,) = scaling.crossovers(frame(synthetic.run(records)))
    (row,) = table.rows
    assert row[:3] == ["yoso", "softmax", "faster everywhere"]
    assert LARGEST in table.note


def test_what_is_said_of_whole_calls_names_the_batch() -> None:
    largest = model(0.32, 64e6, batch=16, largest_batch=True)
    assert largest.timing is not None
    largest.timing.device_seconds = [0.32] * 15
    table = frame(synthetic.run([largest]))
    (parts,) = memory_parts.memory_parts(table)
    assert str(parts.rows[0][0]) == "lra · yoso, batch 16"
    assert float(parts.rows[0][4].value) + float(parts.rows[0][5].value) == 64e6
    (device,) = device_and_host(table)
    assert str(device.rows[0][0]) == "lra · yoso, batch 16"
    assert device.rows[0][2].value == 0.32


def test_a_comparison_is_of_one_tasks_model_and_of_any_convolution() -> None:
    def seen(record: Record, parameters: int) -> Record:
        conditions = Conditions(parameters=parameters, compiled=False, float32_matmul="highest")
        return record.model_copy(update={"conditions": conditions})

    tasks = [seen(task(0.5, family="yoso"), 100), seen(task(0.5, family="lra"), 200)]
    assert isinstance(tasks[0].spec, TaskSpec)
    assert fairness.findings(tasks) == []
    models = [seen(model(), 100), seen(model(attention="sdpa"), 100), seen(model(conv_window=33), 232)]
    (finding,) = fairness.findings(models)
    assert finding.reason == (
        "yoso in lra with a convolution of 33 tokens had 232 trainable parameters, "
        "where others had 100 trainable parameters"
    )
