"""Errors on different kinds of inputs are kept apart wherever a report shows, matches or ranks them."""

import csv
from pathlib import Path

import numpy as np
import pytest
import synthetic
from report_page import figures, headline_of, of, pictures

from harness.core.record import Conditions, Quality, Record
from harness.core.spec import OperationSpec, QualityInputs, QualitySpec
from harness.report.comparison import compare
from harness.report.formats import csv_table, latex, markdown
from harness.report.model.records_table import by_facets, report_rows
from harness.report.questions import approximation_error, fairness, pareto

SHARP, SMOOTH = "sharp (one key per query)", "smooth (tokens in clusters)"
RANDOM = "random (standard normal, as timed)"
ERRORS: dict[str, dict[QualityInputs, float]] = {
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
    errors = {"output": [error, error], "grad_v": [error, error]}
    quality = Quality(reference="softmax", errors=errors, squared_bias={"output": [0.0, 0.0]}, budget=knob)
    return synthetic.record(spec, knobs=knobs, quality=quality)


def timed(name: str) -> Record:
    knob = KNOBS[name]
    spec = OperationSpec(attention=name, seq_len=512)
    knobs = {knob: 32} if knob else {}
    return synthetic.timed(spec, SECONDS[name], 1e6, np.random.default_rng(0), knobs=knobs)


def both_kinds() -> list[Record]:
    errors = [(name, inputs, error) for name, by_inputs in ERRORS.items() for inputs, error in by_inputs.items()]
    small_budget = [measured(name, inputs, error) for name, inputs, error in errors]
    large_budget = [measured(name, inputs, error / 2, 128) for name, inputs, error in errors if KNOBS[name]]
    return [*small_budget, *large_budget, *(timed(name) for name in ERRORS)]


def headline_words() -> list[str]:
    return [str(sentence) for sentence in headline_of(synthetic.run(both_kinds()))]


def test_a_time_is_matched_with_the_error_on_each_kind_separately() -> None:
    rows = report_rows(synthetic.run(both_kinds()))
    operations = next(iter(by_facets(rows, "operation").values()))
    errors = approximation_error.ErrorIndex(rows)
    assert errors.inputs == [SHARP, SMOOTH]
    for inputs, kind in ((SHARP, "matched"), (SMOOTH, "clustered")):
        points = pareto.time_and_error(operations, errors, inputs).points
        assert {point.series: point.y for point in points} == {name: ERRORS[name][kind] for name in ERRORS}  # type: ignore[index]


def test_the_fastest_within_a_budget_is_named_for_each_kind() -> None:
    sharp, smooth = (words for words in headline_words() if "by error budget" in words)
    assert "on inputs that are sharp: within 1% and 10%, sdpa (" in sharp
    assert "within 50%, yoso (" in sharp
    assert "on inputs that are smooth: within 1%, sdpa (" in smooth
    assert "within 10%, 50% and any error, nystrom (" in smooth


def test_the_error_in_the_headline_names_its_kind() -> None:
    assert [words for words in headline_words() if "Relative error" in words] == [
        f"Relative error of the output against softmax, at 512 tokens, on inputs that are {SHARP}: "
        "yoso 40.0% with 32 hashes and 20.0% with 128 hashes.",
        f"Relative error of the output against softmax, at 512 tokens, on inputs that are {SMOOTH}: "
        "yoso 5.00% with 32 hashes and 2.50% with 128 hashes.",
    ]


def test_the_plots_of_both_kinds_have_one_scale() -> None:
    views = figures(of(synthetic.run(both_kinds())))["hashes"]
    assert [view["facets"]["Error of"] for view in views] == ["the output", "the gradient of v"]
    for view in views:
        sharp, smooth = view["plots"]
        assert sharp["title"].endswith(f"; inputs: {SHARP}")
        assert smooth["title"].endswith(f"; inputs: {SMOOTH}")
        for plot, kind in ((sharp, "matched"), (smooth, "clustered")):
            lines = {t["meta"]["series"]: t["y"] for t in plot["data"] if "hovertext" in t}
            assert lines == {name: [ERRORS[name][kind], ERRORS[name][kind] / 2] for name in ("nystrom", "yoso")}
        assert sharp["layout"]["yaxis"]["range"] == smooth["layout"]["yaxis"]["range"]
        low, high = sharp["layout"]["yaxis"]["range"]
        assert 10**low < 0.01
        assert 10**high > 0.99


def test_the_first_screen_has_an_error_and_a_front_for_each_kind() -> None:
    (view,) = pictures(synthetic.run(both_kinds()))["operation"]
    ids = [plot["id"] for plot in view["plots"]]
    assert ids == ["time", "memory", "error", "error-2", "front", "front-2"]
    titles = [plot["title"] for plot in view["plots"][2:]]
    assert [title.split("; inputs: ")[1] for title in titles] == [SHARP, SMOOTH, SHARP, SMOOTH]


def test_a_kind_without_errors_at_the_timed_settings_has_no_plot() -> None:
    """Without any error there is one Pareto front, of time and memory."""
    other = measured("yoso", "clustered", 0.1).spec.model_copy(update={"seq_len": 4096})
    other_length = synthetic.record(other, quality=Quality(reference="truth", errors={"output": [0.1]}))
    sharp = [record for record in both_kinds() if getattr(record.spec, "inputs", "") != "clustered"]
    (view,) = pictures(synthetic.run([*sharp, other_length]))["operation"]
    assert [plot["id"] for plot in view["plots"]] == ["time", "memory", "error", "front"]
    assert SHARP in view["plots"][2]["title"]
    (view,) = pictures(synthetic.run([timed("sdpa"), other_length]))["operation"]
    assert [plot["title"] for plot in view["plots"][2:]] == [
        "Error of the output against length",
        "Pareto front: time and peak memory",
    ]


def test_rounding_against_an_own_definition_is_no_approximation_error() -> None:
    """Only what another attention estimates, and exact softmax, are ranked among the approximations."""

    def against(name: str, reference: str, exact: bool = False) -> Record:
        spec = QualitySpec(attention=name, seq_len=512, inputs="normal")
        quality = Quality(reference=f"{reference}, float64", errors={"output": [1e-7]}, budget=None)
        return synthetic.record(spec, quality=quality, exact_softmax=exact)

    pairs = [("none", "none"), ("yoso_e", "yoso_e"), ("yoso", "yoso_e")]
    errors = [*(against(*pair) for pair in pairs), against("sdpa_math", "sdpa_math", exact=True)]
    names = ("none", "yoso_e", "yoso", "sdpa_math")
    times = [
        synthetic.timed(OperationSpec(attention=name, seq_len=512), 1e-3, 1e6, np.random.default_rng(0))
        for name in names
    ]
    rows = report_rows(synthetic.run([*errors, *times]))
    index = approximation_error.ErrorIndex(rows)
    timed_rows = next(iter(by_facets(rows, "operation").values()))
    assert {row.series for row in timed_rows if index.of(row, RANDOM)} == {"yoso_e", "yoso", "sdpa_math"}


def test_errors_over_the_length_match_by_the_same_rules_as_all_others() -> None:
    """Recorded inputs have the head size of their model, and another drawing of features has the same error."""

    def error_of(error: float, **fields: object) -> Record:
        spec = QualitySpec.model_validate({"attention": "performer", "seq_len": 512, "head_dim": 32} | fields)
        quality = Quality(reference="softmax, float64", errors={"output": [error]}, budget=None)
        return synthetic.record(spec, knobs={"redraw": False}, quality=quality)

    spec = OperationSpec(attention="performer", seq_len=512)
    time = synthetic.timed(spec, 1e-3, 1e6, np.random.default_rng(0), knobs={"redraw": True})
    recorded = error_of(0.3, inputs="recorded", recording="rxnmapper")
    rows = report_rows(synthetic.run([time, recorded, error_of(0.1), error_of(0.2, inputs="normal", head_dim=64)]))
    index = approximation_error.ErrorIndex(rows)
    found = {kind: matched.median for kind in index.inputs if (matched := index.of(rows[0], kind)) is not None}
    assert found == {"recorded (query, key and value of a trained model: rxnmapper, heads of 32)": 0.3, RANDOM: 0.2}


def test_recorded_inputs_are_named_with_what_was_recorded() -> None:
    def recorded(**fields: str) -> Record:
        spec = QualitySpec.model_validate({"attention": "yoso", "seq_len": 512, "inputs": "recorded"} | fields)
        quality = Quality(reference="yoso_e, float64", errors={"output": [0.5]})
        return synthetic.record(spec, knobs={"num_hash": 32}, quality=quality)

    of_model, of_file = (
        recorded(recording="rxnmapper"),
        recorded(recording="my.safetensors", recording_sha256="ab" * 32),
    )
    text = of(synthetic.run([of_model, of_file])).text
    assert "recorded (query, key and value of a trained model: rxnmapper, heads of 64)" in text
    assert "recorded (query, key and value of a trained model: my.safetensors, file abababab, heads of 64)" in text
    assert "Recorded inputs are the query, key and value that the layers of a trained model received" in text


@pytest.mark.parametrize("changes", [{"inputs": "clustered"}, {"similarity": 0.5}])
def test_different_inputs_are_different_settings_and_are_not_compared(changes: dict) -> None:
    first = measured("yoso", "matched", 0.4)
    other = measured("yoso", **({"inputs": "matched", "error": 0.1} | changes))
    rows = report_rows(synthetic.run([first, other]))
    assert [len(group) for group in by_facets(rows, "quality").values()] == [1, 1]
    assert {row.series for row in rows} == {"yoso"}

    def with_parameters(record: Record, parameters: int) -> Record:
        conditions = Conditions(parameters=parameters, compiled=False, float32_matmul="highest")
        return record.model_copy(update={"conditions": conditions})

    assert fairness.findings([with_parameters(first, 1), with_parameters(other, 2)]) == []


def test_every_format_states_the_kind_of_inputs(tmp_path: Path) -> None:
    compared = compare([synthetic.run(both_kinds())])
    for text in (markdown.render(compared).replace("\\", ""), latex.render(compared), of(compared.raw[0]).text):
        assert text.count(SHARP) > 2
        assert text.count(SMOOTH) > 2
    csv_table.write(compared.cases, tmp_path / "cases.csv")
    with (tmp_path / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    errors = {(row["attention"], row["inputs"]): float(row["error_output"]) for row in rows if row["num_hash"] != "128"
              and row["level"] == "quality"}  # fmt: skip
    assert errors[("yoso", "matched")] == 0.4
    assert errors[("yoso", "clustered")] == 0.05
    assert {row["inputs"] for row in rows if row["level"] == "operation"} == {""}
    (bias,) = [table for section in compared.sections if section.id == "budget" for table in section.tables]
    assert bias.columns[0] == "Inputs"
    assert {str(row[0]) for row in bias.rows} == {SHARP, SMOOTH}


def test_the_section_explains_the_kinds_of_inputs_that_it_has() -> None:
    both = of(synthetic.run(both_kinds())).text
    sharp = [record for record in both_kinds() if getattr(record.spec, "inputs", "") != "clustered"]
    only_sharp = of(synthetic.run(sharp)).text
    assert "On sharp inputs" in both
    assert "On smooth inputs" in both
    assert "On sharp inputs" in only_sharp
    assert "smooth" not in only_sharp
