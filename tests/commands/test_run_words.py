"""What a run says at its end and in the line of a case, at 80 columns."""

import pytest
import synthetic

from harness.core.case_words import case_words
from harness.core.quantities import bytes_words, error_words, remaining_words, seconds_words, share_words
from harness.core.record import Check, Memory, Quality, Timing
from harness.core.setting_error import SettingErrors, error_phrase, explanation
from harness.core.spec import ModelSpec, OperationSpec, QualitySpec
from harness.pytest_plugin import terminal

LENGTHS = (128, 512, 2048, 8192)


def timed(attention, n, seconds, mode="forward", exact=False, **more):
    spec = OperationSpec(attention=attention, seq_len=n, mode=mode)
    timing = Timing(wall_seconds=[seconds] * 3, warmup_calls=1, threads=2)
    memory = Memory(peak_bytes=2**20, input_bytes=0, source="made up")
    return synthetic.record(spec, timing=timing, memory=memory, exact_softmax=exact, **more)


def quality(attention, n, output, gradient=None, inputs="matched", reference="softmax", exact=False, **more):
    spec = QualitySpec(attention=attention, seq_len=n, inputs=inputs, draws=1)
    errors = {"output": [output]} | ({} if gradient is None else {"grad_k": [gradient]})
    return synthetic.record(
        spec, quality=Quality(reference=f"{reference}, float64", errors=errors), exact_softmax=exact, **more
    )


@pytest.fixture
def records():
    found = []
    for n in LENGTHS:
        for mode, factor in (("forward", 1), ("forward_backward", 3)):
            found += [timed("sdpa", n, n * 1e-6 * factor, mode, exact=True), timed("mine", n, n * 2e-4 * factor, mode)]
    found += [quality("mine", 2048, 0.031, 0.25), quality("sdpa", 2048, 1e-7, 1e-7, reference="sdpa", exact=True)]
    return found


def test_the_attention_that_was_named_first_is_said_first_with_its_error_and_the_exact_one(records):
    said = terminal.result_sentences(records, ("mine", "sdpa"))
    assert said == [
        "mine, forward + backward of 2,048 tokens: 1.23 s, error 25.0% (grad of k); 200 times slower than the fastest "
        "exact attention there, sdpa with 6.14 ms",
        "sdpa, forward + backward of 2,048 tokens: 6.14 ms, only rounding error; it is the fastest exact attention "
        "there",
    ]
    (fastest,) = terminal.result_sentences(records, ())
    assert fastest.startswith("fastest: sdpa, forward + backward of 2,048 tokens: 6.14 ms, only rounding error")
    rows = [
        line.split()[0] for line in terminal.tables(records, 80, ("mine", "sdpa")) if line.startswith(("mine", "sdpa"))
    ]
    assert rows[:2] == ["mine", "sdpa"]


def test_an_error_that_nobody_measured_is_said_beside_the_speed():
    record = timed("mine", 128, 0.01)
    assert terminal.result_sentences([record], ("mine",)) == [
        "mine, forward of 128 tokens: 10.0 ms, error not measured; no exact attention was timed there"
    ]
    assert terminal.one_line(record, terminal.error_beside(record, [], comes_later=True)) == (
        "10.0 ms, error not measured yet, 1.00 MiB"
    )
    measured = [quality("mine", 128, 0.5)]
    assert (
        terminal.one_line(record, terminal.error_beside(record, measured, comes_later=True))
        == "10.0 ms, error 50.0%, 1.00 MiB"
    )
    assert terminal.error_beside(measured[0], measured, comes_later=False) is None


def test_tables_fit_80_columns_with_every_length_and_units_that_suit(records):
    lines = terminal.tables(records, 80)
    assert max(map(len, lines[:-3])) <= 80
    text = "\n".join(lines)
    assert all(f"n={n}" in text for n in LENGTHS)
    assert "e+0" not in text
    assert "1.23 s" in text
    row = next(line for line in lines if line.startswith("mine") and "410 ms" in line)
    assert "410 ms   3.10%     1.00 MiB" in row
    assert "unknown: error not measured" in lines
    assert max(map(len, terminal.wrapped(lines, 80))) <= 80


def test_a_table_names_a_status_where_there_is_no_time_and_leaves_out_rows_without_any():
    failed = synthetic.record(OperationSpec(attention="big", seq_len=512), "oom")
    never = synthetic.record(OperationSpec(attention="never", seq_len=512), "unsupported")
    lines = terminal.tables([timed("big", 128, 0.1), failed, never], 80)
    assert any(line.startswith("big") and line.endswith("oom") for line in lines)
    assert not any(line.startswith("never") for line in lines)


def test_a_part_of_a_table_has_no_row_of_an_attention_that_has_no_case_at_its_lengths():
    lengths = 128, 512, 1024, 2048
    all_lengths = [timed("everywhere", n, 0.01) for n in lengths]
    text = "\n".join(terminal.tables([*all_lengths, timed("short", 128, 0.01)], 60))
    first, *others = text.split("n=1024")
    assert others
    assert "short" in first
    assert "short" not in "".join(others)
    assert all("everywhere" in part for part in (first, *others))


def test_no_ratio_is_given_where_the_intervals_of_two_times_overlap():
    def noisy(attention, *seconds, exact=False):
        record = timed(attention, 512, seconds[0], exact=exact)
        return record.model_copy(update={"timing": record.timing.model_copy(update={"wall_seconds": list(seconds)})})

    exact = noisy("sdpa", 1.0, 1.2, 1.1, exact=True)
    (near,) = terminal.result_sentences([exact, noisy("mine", 1.1, 1.3, 1.2)], ["mine"])
    assert "; no clear difference from the fastest exact attention there, sdpa with 1.10 s" in near
    (far,) = terminal.result_sentences([exact, noisy("mine", 5.0, 5.1, 5.2)], ["mine"])
    assert "; 4.64 times slower than the fastest exact attention there, sdpa" in far
    (once,) = terminal.result_sentences([exact, noisy("mine", 5.0)], ["mine"])
    assert once.endswith("; no comparison, because a time was taken only once")


def test_a_models_time_says_that_its_error_inside_the_model_was_not_measured():
    model = timed("mine", 512, 0.01).model_copy(update={"spec": ModelSpec(attention="mine", seq_len=512)})
    assert terminal.error_beside(model, [], comes_later=True) == "error inside the model not measured"


def test_two_thousand_cases_of_hostile_names_stay_in_the_terminal():
    names = [f"a\x1b[31m\n{number}" for number in range(250)]
    records = [timed(name, n, 0.01) for name in names for n in range(128, 136)]
    lines = terminal.tables(records, 80)
    assert "\x1b" not in "".join(lines)
    assert not any("\n" in line for line in lines)
    assert max(map(len, lines[:-2])) <= 80


def test_a_case_that_failed_has_its_first_reason_in_its_line():
    record = synthetic.record(
        OperationSpec(attention="a", seq_len=8), "crashed", reasons=["no\nluck " + "x" * 400, "b"]
    )
    line = terminal.one_line(record)
    assert line.startswith("crashed: no luck xxx")
    assert line.endswith("x...")
    assert "\n" not in line


def test_the_error_of_a_setting_needs_its_length_head_size_knobs_and_gradients():
    known = quality("mine", 128, 0.5, knobs={"num_hash": 8})
    errors = SettingErrors([known, quality("mine", 128, 0.2, inputs="normal", knobs={"num_hash": 8})])
    assert str(errors.of(timed("mine", 128, 1.0, knobs={"num_hash": 8}))) == "50.0%"  # sharp inputs before random ones
    assert errors.of(timed("mine", 128, 1.0, knobs={"num_hash": 16})) is None
    assert errors.of(timed("mine", 256, 1.0)) is None
    assert errors.of(timed("other", 128, 1.0)) is None
    assert errors.of(timed("mine", 128, 1.0, "forward_backward", knobs={"num_hash": 8})) is None
    assert errors.of(synthetic.record(ModelSpec(attention="mine", seq_len=128))) is None


def test_an_attention_that_estimates_no_other_is_marked():
    own = SettingErrors([quality("linear", 128, 1e-7, reference="linear")])
    assert str(own.of(timed("linear", 128, 1.0))) == "rounding*"
    target = SettingErrors(
        [quality("yoso_e", 128, 1e-7, reference="yoso_e"), quality("yoso", 128, 0.4, reference="yoso_e")]
    )
    assert str(target.of(timed("yoso_e", 128, 1.0))) == "rounding"


def test_an_exact_attention_has_the_rounding_error_of_its_verification_where_no_case_measured_one(records):
    checks = [Check(what=what, error=error, allowed=1e-5, passed=True)
              for what, error in (("output", 2e-7), ("grad_q", 9e-7), ("output, worst row", 5e-6))]  # fmt: skip
    exact = timed("sdpa", 128, 1.0, exact=True, checks=checks)
    error = SettingErrors([]).of(exact)
    assert (str(error), error.value, error.inputs, error.is_measured) == ("rounding", 2e-7, "random", False)
    assert error_phrase(error) == "only rounding error"
    assert explanation([error]).endswith("of an exact attention whose error no case measured, that of its verification")
    assert SettingErrors([]).of(timed("mine", 128, 1.0, checks=checks)) is None
    # It moves no sentence from the longest length at which an error was measured.
    longer = [record.model_copy(update={"checks": checks}) if record.exact_softmax else record for record in records]
    assert terminal.result_sentences(longer, ()) == terminal.result_sentences(records, ())
    assert terminal.result_sentences(longer, ("sdpa",)) == terminal.result_sentences(records, ("sdpa",))


def test_rounding_in_a_small_dtype_is_called_rounding_with_its_size():
    checks = [Check(what="output", error=0.003, allowed=0.01, passed=True)]
    spec = OperationSpec(attention="sdpa", seq_len=128, dtype="bfloat16")
    error = SettingErrors([]).of(synthetic.record(spec, exact_softmax=True, checks=checks))
    assert (str(error), error_phrase(error)) == ("0.300% (rounding)", "only rounding error (0.300%)")


def test_the_error_of_another_drawing_of_features_is_that_of_one_drawing():
    knobs = {"num_features": 64, "redraw": False}
    errors = SettingErrors([quality("performer", 128, 0.5, knobs=knobs)])
    assert str(errors.of(timed("performer", 128, 1.0, knobs=knobs | {"redraw": True}))) == "50.0%"
    assert errors.of(timed("performer", 128, 1.0, knobs=knobs | {"num_features": 32})) is None
    both = SettingErrors(
        [quality("performer", 128, 0.5, knobs=knobs), quality("performer", 128, 0.4, knobs=knobs | {"redraw": True})]
    )
    assert str(both.of(timed("performer", 128, 1.0, knobs=knobs | {"redraw": True}))) == "40.0%"


def test_recorded_inputs_have_a_head_size_of_their_own_and_come_after_sharp_and_smooth_ones():
    spec = QualitySpec(attention="mine", seq_len=128, inputs="recorded", recording="made up", head_dim=32)
    recorded = synthetic.record(spec, quality=Quality(reference="softmax, float64", errors={"output": [0.3]}))
    of_time = timed("mine", 128, 1.0)
    random_, smooth = (
        quality("mine", 128, error, inputs=kind) for kind, error in (("normal", 0.1), ("clustered", 0.2))
    )
    assert SettingErrors([random_, recorded]).of(of_time).inputs == "recorded"
    assert SettingErrors([random_, recorded, smooth]).of(of_time).inputs == "smooth"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (seconds_words(1.77), "1.77 s"),
        (seconds_words(0.9996), "1.00 s"),
        (seconds_words(0.0123), "12.3 ms"),
        (seconds_words(4.56e-5), "45.6 \N{MICRO SIGN}s"),
        (seconds_words(5e-9), "5.00 ns"),
        (bytes_words(0), "0 B"),
        (bytes_words(4 * 2**20), "4.00 MiB"),
        (share_words(0.0312), "3.12%"),
        (error_words(3e-7), "rounding"),
        (remaining_words(0.2), "1 s"),
        (remaining_words(300), "5 min"),
        (remaining_words(7500), "2 h 05 min"),
    ],
)
def test_quantities_have_three_digits_and_a_unit_that_suits(words, expected):
    assert words == expected


def test_what_all_cases_share_is_said_once_and_names_stay_different():
    specs = [OperationSpec(attention=name, seq_len=n) for name in ("sdpa", "yoso") for n in (128, 512)]
    words = case_words(spec.case_id for spec in specs)
    assert words.shared == "operation b1 h8 d64 fwd fp32 cpu"
    assert [words[spec.case_id] for spec in specs] == ["sdpa n128", "sdpa n512", "yoso n128", "yoso n512"]
    assert case_words(["op/a-b"])["op/a-b"] == "op/a-b"
    with_and_without = case_words(["op/a-b", "op/a-b-k=1"])
    assert with_and_without.names == {"op/a-b": "op", "op/a-b-k=1": "op k=1"}
    turned = case_words(["a-b-c", "a-c-b"])
    assert (turned.shared, turned.names) == ("", {"a-b-c": "a-b-c", "a-c-b": "a-c-b"})
    assert case_words(["x-1", "x-2"])["never seen"] == "never seen"


def test_the_table_has_the_round_that_was_not_disturbed():
    quiet, loud = timed("mine", 128, 0.01), timed("mine", 128, 0.09)
    loud = loud.model_copy(update={"timing": loud.timing.model_copy(update={"disturbed": True})})
    for rounds in ([quiet, loud], [loud, quiet]):
        (row,) = (line for line in terminal.tables(rounds) if line.startswith("mine"))
        assert "10.0 ms" in row
