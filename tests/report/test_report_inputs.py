"""Errors on one kind of inputs and on another: told apart wherever a report shows, joins or ranks them."""

import csv
from pathlib import Path

import numpy as np
import pytest
import synthetic
from report_page import figures, of

from harness.core.record import Conditions, Quality, Record
from harness.core.spec import OperationSpec, QualityInputs, QualitySpec
from harness.report.formats import latex, markdown
from harness.report.model import case_rows, comparison
from harness.report.model.records_table import frame, views
from harness.report.questions import answer, errors, fairness, pareto_fronts

SHARP, SMOOTH = "sharp (a key for each query)", "smooth (tokens in clusters)"
FOUND: dict[str, dict[QualityInputs, float]] = {
    "yoso": {"matched": 0.4, "clustered": 0.05},
    "nystrom": {"matched": 0.99, "clustered": 0.02},
    "sdpa": {"matched": 3e-7, "clustered": 2e-7},
}
SECONDS = {"yoso": 2e-3, "nystrom": 1e-3, "sdpa": 8e-3}
KNOBS = {"yoso": "num_hash", "nystrom": "num_landmarks", "sdpa": None}


def measured(name: str, inputs: QualityInputs, error: float, budget: int = 32, similarity: float = 0.9) -> Record:
    knob = KNOBS[name]
    knobs = {knob: budget} if knob else {}
    spec = QualitySpec(attention=name, seq_len=512, inputs=inputs, similarity=similarity, knobs=knobs)
    found = {"output": [error, error], "grad_v": [error, error]}
    quality = Quality(reference="truth", errors=found, squared_bias={"output": [0.0, 0.0]}, budget=knob)
    return synthetic.record(spec, knobs=knobs, quality=quality)


def timed(name: str) -> Record:
    knob = KNOBS[name]
    spec = OperationSpec(attention=name, seq_len=512)
    knobs = {knob: 32} if knob else {}
    return synthetic.timed(spec, SECONDS[name], 1e6, np.random.default_rng(0), knobs=knobs)


def both() -> list[Record]:
    found = [measured(name, inputs, error) for name, its in FOUND.items() for inputs, error in its.items()]
    more = [measured(name, inputs, error / 2, 128) for name, its in FOUND.items() for inputs, error in its.items()
            if KNOBS[name]]  # fmt: skip
    return [*found, *more, *(timed(name) for name in FOUND)]


def test_a_time_meets_the_error_on_each_kind_apart() -> None:
    table = frame(synthetic.run(both()))
    rows = next(iter(views(table, "operation").values()))
    joined = errors.Errors(table)
    assert joined.inputs == [SHARP, SMOOTH]
    for inputs, kind in ((SHARP, "matched"), (SMOOTH, "clustered")):
        choices = pareto_fronts.error_front(rows, joined, inputs).choices
        assert {one.series: one.y for one in choices} == {name: FOUND[name][kind] for name in FOUND}  # type: ignore[index]


def test_the_fastest_within_a_budget_is_named_for_each_kind() -> None:
    said = [str(one) for one in answer.sentences(frame(synthetic.run(both()))) if "by error budget" in str(one)]
    sharp, smooth = said
    assert f"on inputs that are {SHARP}: within 1% and 10%, sdpa (" in sharp
    assert "within 50%, yoso (" in sharp
    assert f"on inputs that are {SMOOTH}: within 1%, sdpa (" in smooth
    assert "within 10% and 50%, nystrom (" in smooth


def test_the_error_of_the_answer_names_its_kind() -> None:
    said = [str(one) for one in answer.sentences(frame(synthetic.run(both()))) if "Relative error" in str(one)]
    assert said == [
        f"Relative error of the output against truth, at 512 tokens, on inputs that are {SHARP}: "
        "yoso 40.0% with 32 hashes and 20.0% with 128 hashes.",
        f"Relative error of the output against truth, at 512 tokens, on inputs that are {SMOOTH}: "
        "yoso 5.00% with 32 hashes and 2.50% with 128 hashes.",
    ]


def test_curves_of_each_kind_stand_beside_one_another_at_one_scale() -> None:
    shown = figures(of(synthetic.run(both())))["hashes"]
    assert [one["facets"]["Error of"] for one in shown] == ["the output", "the gradient of v"]
    for one in shown:
        sharp, smooth = one["plots"]
        assert sharp["title"].endswith(f"; inputs: {SHARP}")
        assert smooth["title"].endswith(f"; inputs: {SMOOTH}")
        for plot, kind in ((sharp, "matched"), (smooth, "clustered")):
            lines = {t["meta"]["series"]: t["y"] for t in plot["data"] if "hovertext" in t}
            assert lines == {name: [FOUND[name][kind], FOUND[name][kind] / 2] for name in ("nystrom", "yoso")}
        assert sharp["layout"]["yaxis"]["range"] == smooth["layout"]["yaxis"]["range"]
        low, high = sharp["layout"]["yaxis"]["range"]
        assert 10**low < 0.01
        assert 10**high > 0.99


def test_the_first_screen_has_an_error_and_a_front_for_each_kind() -> None:
    (one,) = figures(of(synthetic.run(both())))["operation"]
    ids = [plot["id"] for plot in one["plots"]]
    assert ids == ["time", "memory", "error", "error-2", "front", "front-2"]
    titles = [plot["title"] for plot in one["plots"][2:]]
    assert [title.split("; inputs: ")[1] for title in titles] == [SHARP, SMOOTH, SHARP, SMOOTH]


def test_a_kind_without_an_error_of_what_was_timed_has_no_plot_there() -> None:
    """And without any error there is the front of time and memory, once."""
    other = measured("yoso", "clustered", 0.1).spec.model_copy(update={"seq_len": 4096})
    elsewhere = synthetic.record(other, quality=Quality(reference="truth", errors={"output": [0.1]}))
    sharp = [record for record in both() if getattr(record.spec, "inputs", "") != "clustered"]
    (one,) = figures(of(synthetic.run([*sharp, elsewhere])))["operation"]
    assert [plot["id"] for plot in one["plots"]] == ["time", "memory", "error", "front"]
    assert SHARP in one["plots"][2]["title"]
    (one,) = figures(of(synthetic.run([timed("sdpa"), elsewhere])))["operation"]
    assert [plot["title"] for plot in one["plots"][2:]] == [
        "Error of the output against length",
        "Pareto front: time and peak memory",
    ]


@pytest.mark.parametrize("changes", [{"inputs": "clustered"}, {"similarity": 0.5}])
def test_what_inputs_are_makes_a_setting_and_a_comparison_of_its_own(changes: dict) -> None:
    one = measured("yoso", "matched", 0.4)
    other = measured("yoso", **({"inputs": "matched", "error": 0.1} | changes))
    table = frame(synthetic.run([one, other]))
    assert [len(rows) for rows in views(table, "quality").values()] == [1, 1]
    assert set(table["series"]) == {"yoso"}

    def seen(record: Record, parameters: int) -> Record:
        conditions = Conditions(parameters=parameters, compiled=False, float32_matmul="highest")
        return record.model_copy(update={"conditions": conditions})

    assert fairness.findings([seen(one, 1), seen(other, 2)]) == []


def test_every_format_says_which_kind_a_number_is_of(tmp_path: Path) -> None:
    compared = comparison.compare([synthetic.run(both())])
    for text in (markdown.render(compared).replace("\\", ""), latex.render(compared), of(compared.raw[0]).text):
        assert text.count(SHARP) > 2
        assert text.count(SMOOTH) > 2
    case_rows.write_csv(compared.cases, tmp_path / "cases.csv")
    with (tmp_path / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["attention"], row["inputs"]): float(row["error_output"]) for row in rows if row["num_hash"] != "128"
             and row["level"] == "quality"}  # fmt: skip
    assert found[("yoso", "matched")] == 0.4
    assert found[("yoso", "clustered")] == 0.05
    assert {row["inputs"] for row in rows if row["level"] == "operation"} == {""}
    (bias,) = [one for section in compared.sections if section.id == "budget" for one in section.tables]
    assert bias.columns[0] == "Inputs"
    assert {str(row[0]) for row in bias.rows} == {SHARP, SMOOTH}


def test_the_section_says_what_the_kinds_are_that_it_has() -> None:
    whole = of(synthetic.run(both())).text
    old = of(synthetic.run([record for record in both() if getattr(record.spec, "inputs", "") != "clustered"])).text
    assert "On sharp inputs" in whole
    assert "On smooth inputs" in whole
    assert "On sharp inputs" in old
    assert "smooth" not in old
