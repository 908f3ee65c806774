"""The data of the attention alone that the page's scripts read: computed from records, worded, and never a verdict
without its evidence."""

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import report_page
import synthetic

from harness.core.record import Check, Quality, Record, Run, Timing
from harness.core.spec import Dtype, OperationMode, OperationSpec, QualityInputs, QualitySpec
from harness.report.comparison import compare
from harness.report.formats import html
from harness.report.model.amounts import Amount
from harness.report.model.page_data import MethodRow, OperationData, SeriesLine, Setting
from harness.report.model.records_table import report_rows
from harness.report.questions.run_differences import case_pairs
from harness.statistics.intervals import LEVEL, percentile_bounds

LENGTHS = (512, 1024, 2048, 4096)
SDPA, FLASH = "torch sdpa, flash on cpu", "sdpa_flash"


def timed(
    attention: str,
    length: int,
    seconds: float,
    noise: float = 0.01,
    mode: OperationMode = "forward",
    dtype: Dtype = "float32",
    samples: int = 15,
    **more: object,
) -> Record:
    spec_knobs = more.pop("spec_knobs", {})
    spec = OperationSpec(attention=attention, seq_len=length, mode=mode, dtype=dtype, knobs=spec_knobs)
    rng = np.random.default_rng([length, *attention.encode()])
    walls = (seconds * np.exp(noise * rng.standard_normal(samples))).tolist()
    timing = {"wall_seconds": walls, "warmup_calls": 1, **dict(more.pop("timing", {}))}  # type: ignore[call-overload]
    checks = [Check(what=what, error=error, allowed=1e-5, passed=True)
              for what, error in (("output", 2e-7), ("grad_q", 9e-7), ("output, worst row", 5e-6))]  # fmt: skip
    return synthetic.record(spec, timing=Timing(**timing), **({"checks": checks} | more))  # type: ignore[arg-type]


def error_of(
    attention: str, length: int, output: float, grad_k: float, inputs: QualityInputs = "matched", **more: Any
) -> Record:
    reference = more.pop("reference", "softmax")
    knobs = more.pop("knobs", {})
    spec = QualitySpec(attention=attention, seq_len=length, inputs=inputs, knobs=knobs, **more)
    errors = {"output": [output, 1.1 * output, 1.2 * output], "grad_k": [grad_k, grad_k, grad_k]}
    return synthetic.record(
        spec, knobs=knobs, quality=Quality(reference=f"{reference}, float64", errors=errors, budget=None)
    )


def disturbed(attention: str, length: int, seconds: float) -> Record:
    return timed(attention, length, seconds, timing={"disturbed": True, "disturbance": "1 of 2 cores"})


def data_of(*runs: Run) -> OperationData:
    found = compare(runs).operation
    assert found is not None
    return found


def of_records(*records: Record, **fields: object) -> OperationData:
    return data_of(synthetic.run(records, **fields))


def setting_of(data: OperationData, length: int, pass_: str = "forward") -> Setting:
    (found,) = [setting for setting in data.settings if (setting.length, setting.pass_) == (length, pass_)]
    return found


def row_of(data: OperationData, series: str, length: int, pass_: str = "forward") -> MethodRow:
    (found,) = [row for row in setting_of(data, length, pass_).rows if row.series == series]
    return found


def line_of(data: OperationData, series: str) -> SeriesLine:
    (found,) = [line for line in data.lines if line.series == series]
    return found


def lengths_of(attention: str, seconds: Sequence[float], **more: Any) -> list[Record]:
    return [timed(attention, length, each, **more) for length, each in zip(LENGTHS, seconds, strict=True)]


def test_one_case_is_its_own_reference_and_has_the_error_of_its_verification() -> None:
    data = of_records(timed("sdpa", 512, 1e-3))
    (row,) = setting_of(data, 512).rows
    assert (row.order, row.samples, row.checks, setting_of(data, 512).reference) == ("reference", 15, (3, 3), "sdpa")
    assert row.errors["random"].worst.words == "2.0e-7"
    assert row.errors["random"].rounding
    assert row.errors["random"].reference == "softmax"
    assert data.inputs == ["random"]
    assert (data.start.length, data.start.pass_, data.start.inputs) == (512, "forward", "random")
    (line,) = data.lines
    assert (line.comparison, line.crossing) == ("the others are compared with it", None)


def test_without_any_exact_attention_there_is_no_reference_and_no_error() -> None:
    data = of_records(timed("yoso", 512, 1e-3))
    row = row_of(data, "yoso", 512)
    assert (setting_of(data, 512).reference, row.order, row.ratio, row.errors) == (None, "no reference", None, {})
    assert data.inputs == []


def test_a_run_without_operations_has_no_data_and_one_without_a_result_has_its_reasons() -> None:
    assert compare([synthetic.run([synthetic.task("yoso", [0.3, 0.4])])]).operation is None
    failed = [
        synthetic.record(OperationSpec(attention=name, seq_len=512), "unsupported", reasons=[reason])
        for name, reason in (("b", "no GPU"), ("a", "no GPU"), ("c", "not installed"))
    ]
    data = of_records(*failed)
    setting = setting_of(data, 512)
    assert (setting.rows, setting.reference, data.lines) == ((), None, [])
    found = [(group.series, group.status, group.reason) for group in setting.without_result]
    assert found == [("a, b", "unsupported", "no GPU"), ("c", "unsupported", "not installed")]
    assert (data.start.length, data.start.inputs) == (512, "")


def test_a_ratio_has_its_interval_and_its_words() -> None:
    data = of_records(timed("sdpa", 512, 10e-3), timed("yoso", 512, 1e-3), timed("linear", 512, 30e-3))
    yoso, linear = row_of(data, "yoso", 512), row_of(data, "linear", 512)
    assert yoso.ratio is not None
    assert yoso.ratio.low is not None
    assert yoso.ratio.high is not None
    assert yoso.ratio.low < yoso.ratio.value < yoso.ratio.high
    assert yoso.ratio.value == pytest.approx(0.1, rel=0.02)
    assert yoso.order == "faster"
    assert yoso.comparison == f"{Amount(1 / yoso.ratio.value, 'number')} times faster than sdpa"
    assert linear.order == "slower"
    assert linear.comparison.endswith("times slower than sdpa")
    assert [row.series for row in setting_of(data, 512).rows] == ["yoso", "sdpa", "linear"]


@pytest.mark.parametrize(("exact", "expected"), [(("sdpa", "softmax"), "sdpa"), (("softmax",), "softmax")])
def test_the_reference_is_sdpa_or_softmax(exact: tuple[str, ...], expected: str) -> None:
    records = [timed(name, 512, 1e-2) for name in exact]
    data = of_records(*records, timed("flex", 512, 1e-4, exact_softmax=True))
    assert setting_of(data, 512).reference == expected
    without = of_records(*(timed(name, 512, 1e-3, exact_softmax=True) for name in ("flex", "flash_attn")))
    assert setting_of(without, 512).reference == setting_of(without, 512).rows[0].series


def test_a_disturbed_time_has_no_ratio_and_no_verdict_and_is_named() -> None:
    data = of_records(
        *lengths_of("sdpa", (1e-3, 2e-3, 4e-3, 8e-3)), timed("yoso", 512, 1e-4), disturbed("yoso", 1024, 9.0),
        disturbed("linear", 512, 1e-4),
    )  # fmt: skip
    row = row_of(data, "yoso", 1024)
    assert (row.order, row.ratio, row.disturbance) == ("unclear", None, "1 of 2 cores")
    assert row.comparison == "this time was disturbed by other processes: no comparison with sdpa"
    (notice,) = setting_of(data, 1024).notices
    assert str(notice) == "Other processes disturbed 1 of 2 times, which is in no comparison: yoso."
    assert [amount.value for amount in notice.amounts] == [1, 2]
    assert line_of(data, "yoso").comparison == "faster at 512 tokens"
    assert [point.disturbed for point in line_of(data, "yoso").points] == [False, True]
    assert line_of(data, "linear").comparison == "no undisturbed length in common with sdpa"
    against = of_records(disturbed("sdpa", 512, 1e-3), timed("yoso", 512, 1e-4))
    assert row_of(against, "yoso", 512).comparison.startswith("the time of sdpa was disturbed")
    assert row_of(against, "yoso", 512).ratio is None


def test_of_several_records_of_one_case_the_undisturbed_ones_count() -> None:
    data = of_records(disturbed("sdpa", 512, 9.0), timed("sdpa", 512, 1e-3), timed("sdpa", 512, 2e-3))
    (row,) = setting_of(data, 512).rows
    (point,) = line_of(data, "sdpa").points
    assert (row.disturbance, point.disturbed) == (None, False)
    assert row.time.value == point.time.value == pytest.approx(2**0.5 * 1e-3, rel=0.05)  # one each of two processes


def test_a_disturbed_time_is_in_no_comparison_of_two_runs() -> None:
    runs = [synthetic.run([timed("sdpa", 512, 1e-3)]), synthetic.run([disturbed("sdpa", 512, 1e-2)])]
    (pair,) = case_pairs(report_rows(*runs), 1)
    assert pair.ratio is None


def test_a_time_of_one_sample_has_no_verdict() -> None:
    data = of_records(timed("sdpa", 512, 1e-2), timed("yoso", 512, 1e-3, samples=1))
    row = row_of(data, "yoso", 512)
    assert (row.order, row.comparison) == ("unclear", "timed only once: no verdict against sdpa")
    assert any("Timed only once" in str(notice) for notice in setting_of(data, 512).notices)


def test_overlapping_intervals_are_tied() -> None:
    data = of_records(timed("sdpa", 512, 1e-2, noise=0.2), timed("yoso", 512, 1.01e-2, noise=0.2))
    row = row_of(data, "yoso", 512)
    assert (row.order, row.comparison, row.ratio) == ("tied", "no clear difference to sdpa", None)


def test_two_names_of_one_kernel_set_the_difference_below_which_times_are_tied() -> None:
    names = {"sdpa": (1e-3, 2e-3, 4e-3, 8e-3), FLASH: (1e-3, 2e-3, 4.8e-3, 8e-3)}
    records = [
        record for name, seconds in names.items() for record in lengths_of(name, seconds, kernel=SDPA, noise=0.001)
    ]
    near, far = (lengths_of(name, (1e-3, 2e-3, 4e-3, seconds), noise=0.001)
                 for name, seconds in (("near", 7.2e-3), ("far", 4e-3)))  # fmt: skip
    data = of_records(*records, *near, *far)
    tie = setting_of(data, 512).tie
    assert tie is not None
    assert tie.factor.value == pytest.approx(1.2, rel=0.01)
    assert str(tie.explanation).startswith(
        "sdpa and sdpa_flash are one kernel under two names, and differ by up to 19.9%"
    )
    assert row_of(data, "near", 4096).order == "tied"
    assert row_of(data, "far", 4096).order == "faster"
    assert row_of(data, FLASH, 2048).comparison == "same kernel as sdpa"
    assert row_of(data, FLASH, 2048).order == "same kernel"
    assert line_of(data, FLASH).comparison == "same kernel as sdpa"
    assert line_of(data, "near").comparison == "no clear difference to sdpa"
    # Faster than the reference, and not than the reference's kernel under its other name.
    noisy = of_records(*(timed(name, 512, seconds, kernel=kernel, noise=noise) for name, seconds, kernel, noise in (
        ("sdpa", 1.5e-3, SDPA, 0.001), (FLASH, 1.25e-3, SDPA, 0.001), ("between", 1.2e-3, None, 0.05))))  # fmt: skip
    assert row_of(noisy, "between", 512).order == "tied"
    alone = of_records(*lengths_of("sdpa", names["sdpa"], noise=0.001), *near)
    assert setting_of(alone, 512).tie is None
    assert row_of(alone, "near", 4096).order == "faster"


def test_approximations_with_one_kernel_are_no_two_names_of_it() -> None:
    data = of_records(*(timed(name, 512, seconds, kernel="native")
                        for name, seconds in (("sdpa", 1e-3), ("yoso", 1e-4), ("yoso_e", 4e-4))))  # fmt: skip
    assert setting_of(data, 512).tie is None
    assert row_of(data, "yoso", 512).order == "faster"


def test_a_crossing_is_stated_only_where_it_is_certain() -> None:
    sdpa = lengths_of("sdpa", (1e-3, 4e-3, 16e-3, 64e-3))
    data = of_records(
        *sdpa,
        *lengths_of("crosses", (2e-3, 4.5e-3, 9e-3, 18e-3)),
        *lengths_of("slow", (2e-3, 8e-3, 32e-3, 128e-3)),
        *lengths_of("noisy", (1e-3, 4e-3, 16e-3, 50e-3), noise=0.3),
        *lengths_of("barely", (1e-3, 4e-3, 16e-3, 32e-3), noise=0.05),
    )
    crosses = line_of(data, "crosses")
    assert crosses.crossing is not None
    assert 1024 < crosses.crossing.value < 2048
    assert crosses.comparison == f"faster from {crosses.crossing.words} tokens"
    assert crosses.crossing.interval.startswith("[1,")
    assert (line_of(data, "slow").comparison, line_of(data, "slow").crossing) == ("always slower", None)
    assert line_of(data, "noisy").crossing is None
    assert line_of(data, "noisy").comparison in {"no clear order", "no clear difference to sdpa"}
    assert line_of(data, "barely").crossing is None


def test_the_error_is_the_worst_of_output_and_gradients_in_training_and_the_outputs_otherwise() -> None:
    records = [
        timed(name, 512, seconds, mode=mode)
        for mode in ("forward", "forward_backward")
        for name, seconds in (("sdpa", 2e-3), ("performer", 1e-3))
    ]
    quality = error_of("performer", 512, 0.25, 3.0)
    data = of_records(*records, quality)
    assert quality.quality is not None
    output = quality.quality.model_copy(update={"errors": {"output": [0.2]}})
    forward_only = quality.model_copy(update={"quality": output})
    forward = row_of(data, "performer", 512).errors["sharp"]
    training = row_of(data, "performer", 512, "forward + backward").errors["sharp"]
    assert (forward.of, forward.worst.value, forward.draws) == ("output", pytest.approx(0.275), 3)
    assert (training.of, training.worst.value, training.worst.words) == ("gradient of k", 3.0, "300%")
    assert (training.reference, training.rounding) == ("softmax", False)
    exact = row_of(data, "sdpa", 512, "forward + backward").errors["sharp"]
    assert (exact.of, exact.worst.words, exact.rounding) == ("gradient of q", "9.0e-7", True)
    without = of_records(*records, forward_only)
    assert row_of(without, "performer", 512, "forward + backward").errors["sharp"].of == (
        "output, no gradient was measured"
    )
    assert data.start.pass_ == "forward + backward"
    assert [length.has_errors for length in data.lengths] == [True]


def test_an_attention_with_a_definition_of_its_own_has_rounding_errors_on_every_kind_of_inputs() -> None:
    data = of_records(
        timed("sdpa", 512, 2e-3), timed("linear", 512, 1e-3), timed("performer", 512, 1e-3),
        error_of("linear", 512, 3e-7, 4e-7, reference="linear"), error_of("performer", 512, 0.1, 0.1, "clustered"),
        error_of("sdpa", 512, 0.2, 0.2, "clustered", reference="sdpa"),
    )  # fmt: skip
    errors = row_of(data, "linear", 512).errors
    assert {kind: (error.reference, error.rounding) for kind, error in errors.items()} == {
        "sharp": ("its own definition", True), "smooth": ("its own definition", True),
    }  # fmt: skip
    assert errors["sharp"].worst.value == pytest.approx(3.3e-7)
    assert errors["smooth"].worst.value == 2e-7
    assert "sharp" not in row_of(data, "performer", 512).errors
    wrong = row_of(data, "sdpa", 512).errors["smooth"]
    assert (wrong.rounding, wrong.worst.value) == (False, pytest.approx(0.22))


def test_an_error_of_another_head_size_is_shown_only_for_recorded_inputs_whose_name_says_it() -> None:
    data = of_records(
        timed("sdpa", 512, 2e-3), timed("performer", 512, 1e-3),
        error_of("performer", 512, 0.1, 0.1, "clustered", head_dim=32),
        error_of("performer", 512, 0.3, 0.3, "recorded", head_dim=32, recording="rxnmapper"),
    )  # fmt: skip
    assert set(row_of(data, "performer", 512).errors) == {"recorded (rxnmapper, heads of 32)"}
    assert data.inputs == ["recorded (rxnmapper, heads of 32)"]


def test_an_error_belongs_to_the_knobs_that_were_timed() -> None:
    knobs = {"num_hash": 32, "hash_code_len": 9}
    data = of_records(
        timed("yoso", 512, 1e-3, knobs=knobs), timed("yoso", 512, 3e-3, spec_knobs={"num_hash": 64},
                                                       knobs=knobs | {"num_hash": 64}),
        error_of("yoso", 512, 0.5, 0.5, knobs={"num_hash": 64}), error_of("yoso", 512, 0.7, 0.7, knobs={"num_hash": 8}),
    )  # fmt: skip
    default, larger = setting_of(data, 512).rows
    assert (default.knob, default.is_default, default.errors) == ("32 hashes", True, {})
    assert (larger.knob, larger.is_default) == ("64 hashes", False)
    assert larger.errors["sharp"].worst.value == pytest.approx(0.55)
    assert larger.budget is not None
    assert (larger.budget.name, larger.budget.words, larger.budget.value) == ("num_hash", "64 hashes", 64)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"num_features": 256, "redraw": False}, "256 features"),
        ({"num_landmarks": 64, "iterations": 6}, "64 landmarks"),
        ({"window": 64}, "window of 64"),
        ({"window": 3, "block": 64, "random_blocks": 3}, "blocks of 64"),
        ({"projected_length": 1024, "sharing": "none"}, "1,024 projected keys"),
        ({"epsilon": 1e-6}, ""),
    ],
)
def test_knobs_are_in_words(knobs: dict[str, Any], words: str) -> None:
    (row,) = setting_of(of_records(timed("performer", 512, 1e-3, knobs=knobs)), 512).rows
    assert row.knob == words


def test_no_attention_is_the_floor_and_no_method() -> None:
    data = of_records(timed("none", 512, 1e-5), timed("sdpa", 512, 1e-3))
    setting = setting_of(data, 512)
    assert setting.floor is not None
    assert [row.series for row in setting.rows] == ["sdpa"]
    assert [line.series for line in data.lines] == ["sdpa"]


def test_the_first_place_has_times_and_errors_of_two_methods() -> None:
    records = [
        timed(name, length, length * 1e-6, mode=mode)
        for name in ("sdpa", "performer")
        for mode in ("forward", "forward_backward")
        for length in LENGTHS
    ]
    errors = [error_of("performer", 1024, 0.2, 0.3), error_of("performer", 512, 0.2, 0.3, "clustered")]
    start = of_records(*records, *errors).start
    assert (start.length, start.pass_, start.inputs) == (1024, "forward + backward", "sharp")
    assert of_records(*records).start.length == 4096
    most_at_512 = [timed(name, 512, 1e-3, mode="forward_backward") for name in ("linear", "softmax", "yoso_e")]
    assert of_records(*records, *most_at_512, *errors).start.length == 512


def test_the_score_is_that_of_models_trained_with_the_same_budget() -> None:
    knobs = {"num_hash": 32, "hash_code_len": 7}
    trained = synthetic.task("yoso", [0.7, 0.9]).model_copy(update={"knobs": knobs})
    data = of_records(
        trained, *(timed("yoso", 512, 1e-3 * m, spec_knobs={"num_hash": m}, knobs={"num_hash": m, "hash_code_len": 9})
                   for m in (32, 64)),
    )  # fmt: skip
    scores = {row.knob: row.score for row in setting_of(data, 512).rows}
    assert scores["64 hashes"] is None
    assert scores["32 hashes"] is not None
    assert (scores["32 hashes"].task, scores["32 hashes"].mean.words) == ("listops at 512 tokens", "80.0%")


@pytest.mark.parametrize(
    ("command", "names", "yours"),
    [
        ("pytest suites --profile=quick", ("sdpa", "yoso"), None),
        ("pytest suites --attention=yoso", ("sdpa", "yoso"), "yoso"),
        ("harness run --attention yoso,sdpa", ("sdpa", "yoso"), None),
        ("pytest suites", ("sdpa", "my_attention"), "my_attention"),
        ("pytest 'suites", ("sdpa", "yoso"), None),
    ],
)
def test_yours_is_the_attention_that_was_asked_for_or_added(
    command: str, names: Sequence[str], yours: str | None
) -> None:
    assert of_records(*(timed(name, 512, 1e-3) for name in names), command=command).yours == yours


def test_the_command_of_a_case_selects_it_with_the_options_of_the_run() -> None:
    spec = {"command": "pytest suites -v --benchmark-json=out.json --profile=quick --seq-len 512 --dtype=float32"}
    row = row_of(of_records(timed("sdpa", 512, 1e-3), **spec), "sdpa", 512)
    assert shlex.split(row.command) == [
        "harness", "run", "--profile=quick", "--device=cpu", "--seq-len=512", "--dtype=float32",
        "-k", f"[{row.case_id}]",
    ]  # fmt: skip
    spec = {"command": "harness run --attention=sdpa --only --heads 8 --padding=0.0 --rounds 2 --out=run.json"}
    row = row_of(of_records(timed("sdpa", 512, 1e-3), **spec), "sdpa", 512)
    assert shlex.split(row.command) == [
        "harness", "run", "--profile=standard", "--device=cpu", "--attention=sdpa", "--only", "--heads=8",
        "--padding=0.0", "-k", f"[{row.case_id}]",
    ]  # fmt: skip


def test_runs_of_two_machines_are_never_in_one_setting() -> None:
    other = {"cpu": "Other CPU", "cores": 64, "torch": "2.13.0", "cuda_device": None}
    data = data_of(
        synthetic.run([timed("sdpa", 512, 1e-3), timed("yoso", 512, 1e-4)]),
        synthetic.run([timed("softmax", 512, 1e-3)], machine=other),
    )
    assert len(data.facets["Run"]) == 2
    assert [(setting.reference, len(setting.rows)) for setting in data.settings] == [("sdpa", 2), ("softmax", 1)]
    assert data.start.facets["Run"] == data.facets["Run"][0]


def test_hostile_names_reach_the_page_as_text_and_the_shell_as_one_word() -> None:
    name = "</script><b>$(rm -rf ~)'\"`"
    run = synthetic.run([timed(name, 512, 1e-3), timed("sdpa", 512, 2e-3)], command=f"pytest --inputs='{name[:9]}'")
    (row, _) = setting_of(data_of(run), 512).rows
    assert (row.attention, row.series) == (name, name)
    assert shlex.split(row.command)[:2] == ["harness", "run"]
    assert f"--inputs={name[:9]}" in shlex.split(row.command)
    page = html.render(compare([run]))
    assert name not in page
    settings = report_page.data(report_page.Page(page))["page"]["operation"]["settings"]
    assert settings[0]["rows"][0]["series"] == name


def test_every_amount_of_the_json_has_its_value_its_words_and_its_interval() -> None:
    data = data_of(synthetic.realistic(lengths=(512, 1024)))
    amounts = list(_amounts(data.as_json()))
    assert len(amounts) > 100
    assert all({"value", "unit", "words", "interval"} <= set(amount) for amount in amounts)
    with_interval = [amount for amount in amounts if "low" in amount and "high" in amount]
    assert with_interval
    assert all(amount["interval"] for amount in with_interval)
    example = Amount(0.196, "s", 0.1954, 0.1977).as_json()
    assert (example["words"], example["interval"]) == ("196 ms", "[195, 198]")
    assert Amount(0.799, "fraction", 0.7, 0.9).as_json()["interval"] == "[70.0%, 90.0%]"
    assert Amount(1.0, "s", 0.998, 1.02).interval == "[0.998, 1.02]"
    assert Amount(2.0, "number").interval == ""


def _amounts(found: object) -> Any:
    if isinstance(found, dict):
        if "unit" in found:
            yield found
        for value in found.values():
            yield from _amounts(value)
    elif isinstance(found, list):
        for value in found:
            yield from _amounts(value)


def test_the_bounds_of_an_interval_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 19, 40, 999, 1000):
        draws = rng.standard_normal(size)
        draws[rng.random(size) < 0.1] = np.inf
        expected = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
        assert percentile_bounds(draws) == tuple(expected)
