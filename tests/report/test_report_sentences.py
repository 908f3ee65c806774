"""The sentences, tables and numbers of the report: computed from records, and absent without their evidence."""

import re

import numpy as np
import pytest
import synthetic
from report_page import Page, headline_of, of

from harness.core import quantities
from harness.core.record import Check, Quality, Record, Run
from harness.core.spec import OperationSpec, QualitySpec
from harness.report.model import amounts, tables
from harness.report.model.records_table import by_facets, report_rows, times_by_length
from harness.report.questions import attention_swaps, speed, verification, whole_models
from harness.statistics import growth


def words_of(run: Run) -> list[str]:
    return [str(sentence) for sentence in headline_of(run)]


@pytest.fixture(scope="module")
def realistic() -> Run:
    return synthetic.realistic()


@pytest.fixture(scope="module")
def page(realistic: Run) -> Page:
    return of(realistic)


def test_the_headline_is_computed_from_the_records(realistic: Run) -> None:
    words = words_of(realistic)
    rows = next(iter(by_facets(report_rows(realistic), "operation").values()))
    times = times_by_length(rows)
    fastest = min(("sdpa", "sdpa_flash"), key=lambda name: times[name][16384].value)
    assert words[0].startswith(f"At 16,384 tokens the fastest exact softmax attention is {fastest}")
    assert quantities.seconds_words(times[fastest][16384].value) in words[0]
    assert f"yoso with 32 hashes takes {quantities.seconds_words(times['yoso'][16384].value)}" in words[1]
    crossing = growth.crossover(times["yoso"], times["sdpa"])
    assert isinstance(crossing, growth.Crossover)
    assert crossing.length is not None
    assert any(
        f"faster than sdpa from about {amounts.format_length(crossing.length)} [" in sentence for sentence in words
    )
    assert any("softmax (out of memory)" in sentence for sentence in words)


def test_every_sentence_with_a_speed_has_its_error_or_says_that_it_was_not_measured(realistic: Run) -> None:
    speeds = re.compile(r"fast|slow|takes")
    with_speed = [sentence for sentence in words_of(realistic) if speeds.search(sentence)]
    assert len(with_speed) == 4
    assert with_speed[0].endswith("against softmax).")
    assert with_speed[1].endswith("times faster, and its error was not measured.")
    assert all("tokens, with an error of " in sentence for sentence in with_speed[2:])
    spec = QualitySpec(attention="yoso", seq_len=16384)
    errors = {"output": [0.5], "grad_v": [0.9]}
    measured = synthetic.record(spec, quality=Quality(reference="yoso_e, float64", errors=errors))
    words = words_of(synthetic.run([*realistic.records, measured]))
    fastest, yoso, *crossovers = (sentence for sentence in words if speeds.search(sentence))
    assert ", with an error of rounding only (" in fastest
    assert yoso.endswith(", with an error of 50.0% (output, against yoso_e) on inputs that are sharp.")
    forward, training = crossovers
    assert forward.endswith(
        "with an error of 50.0% (output, against yoso_e) on inputs that are sharp at 16,384 tokens."
    )
    assert "with an error of 90.0% (gradient of v, against yoso_e)" in training
    (operations, *_) = speed.crossovers(report_rows(synthetic.run([*realistic.records, measured])))
    cells = {(str(row[0]), str(row[1])): str(row[-1]) for row in operations.rows}
    assert cells["forward", "yoso"] == "50.0% (output, against yoso_e, sharp) at 16,384 tokens"
    assert cells["forward", "yoso_e"].startswith("not measured")


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("operation", "fastest exact"),
        ("operation", "Peak memory"),
        ("operation", "is faster than"),
        ("quality", "Relative error"),
        ("task", "Mean held-out"),
    ],
)
def test_a_sentence_is_absent_without_its_evidence(realistic: Run, gone: str, words: str) -> None:
    left = synthetic.run([record for record in realistic.records if record.spec.kind != gone])
    assert any(words in sentence for sentence in words_of(realistic))
    assert not any(words in sentence for sentence in words_of(left))


def test_the_fastest_within_a_budget_needs_an_error_against_softmax(realistic: Run) -> None:
    """YOSO's error is against another attention, so it wins nothing, and alone it is no contest."""

    def within(*errors: Record) -> list[str]:
        records = [*realistic.records, nystromformer, *errors]
        return [words for words in words_of(synthetic.run(records)) if "by error budget" in words]

    spec = OperationSpec(attention="nystromformer", seq_len=1024)
    nystromformer = synthetic.timed(spec, 1e-3, 1e6, np.random.default_rng(0), knobs={"num_landmarks": 64})
    assert within() == []
    measured = Quality(reference="softmax, float64", errors={"output": [0.3]})
    quality = QualitySpec(attention="nystromformer", seq_len=1024, knobs={"num_landmarks": 64})
    (words,) = within(synthetic.record(quality, knobs={"num_landmarks": 64}, quality=measured))
    assert words.startswith("Fastest with a known error against softmax at 1,024 tokens (forward) by error budget (")
    assert "within 1% and 10%, sdpa (" in words
    assert re.search(r"within 50% and any error, nystromformer \(64 landmarks, [\d.]+ (ms|µs), error 30\.0%", words)
    assert "yoso" not in words


def test_a_slower_yoso_is_reported_as_slower() -> None:
    rng = np.random.default_rng(0)
    cases = [
        synthetic.timed(OperationSpec(attention=name, seq_len=n), scale * n, 1e6, rng)
        for name, scale in (("yoso", 3e-5), ("sdpa", 1e-5))
        for n in (256, 512, 1024)
    ]
    text = " ".join(words_of(synthetic.run(cases)))
    assert "times slower" in text
    assert "yoso is slower than sdpa at every measured length, 256 to 1,024" in text


def test_equal_times_are_no_clear_difference() -> None:
    rng = np.random.default_rng(0)
    cases = [
        synthetic.timed(OperationSpec(attention=name, seq_len=n), 1e-5 * n, 1e6, rng)
        for name in ("yoso", "sdpa")
        for n in (256, 512, 1024, 2048)
    ]
    text = " ".join(words_of(synthetic.run(cases)))
    assert "no clear difference" in text
    assert "neither clearly faster nor clearly slower than sdpa" in text


def test_exponents_and_crossovers_are_in_the_tables(page: Page) -> None:
    exponent = next(row for row in page.rows if row[:2] == ["forward", "yoso"])
    assert float(exponent[2].split(" [")[0]) == pytest.approx(1.05, abs=0.02)
    crossing = next(row for row in page.rows if row[:3] == ["forward", "yoso", "sdpa"])
    assert crossing[3] == "faster from"
    length = re.fullmatch(r"(\d+) \[(\d+), (\d+)\]", crossing[4])
    assert length
    middle, low, high = (int(part) for part in length.groups())
    assert 400 < low < middle < high < 600


def test_series_without_an_exponent_are_counted_and_have_no_row() -> None:
    few = synthetic.realistic(lengths=(512, 1024)).records
    models = [record for record in few if record.spec.kind == "model"]
    enough = [record for record in synthetic.realistic().records if record.spec.kind == "operation"]
    (operations,) = speed.exponents(report_rows(synthetic.run([*enough, *models])))
    assert all(isinstance(row[-2], amounts.Amount) for row in operations.rows)
    short = OperationSpec(attention="new", seq_len=512)
    rng = np.random.default_rng(0)
    (with_short,) = speed.exponents(report_rows(synthetic.run([*enough, synthetic.timed(short, 1.0, 1e6, rng)])))
    assert with_short.rows == operations.rows
    words = "because they were timed at fewer than 3 lengths from 512 on: 1."
    assert str(with_short.note).endswith(words)
    assert {amount.value for amount in with_short.note.amounts} == {3, 512, 1}


def test_a_run_says_once_that_it_did_not_watch_for_other_processes(realistic: Run) -> None:
    unknown = "Whether other processes disturbed these times was not recorded in this run."
    assert of(realistic).text.count(unknown) == 1
    record = next(record for record in realistic.records if record.timing is not None)
    assert record.timing is not None
    judged = record.model_copy(update={"timing": record.timing.model_copy(update={"disturbed": False})})
    assert unknown not in words_of(synthetic.run([*realistic.records, judged]))
    assert unknown not in words_of(synthetic.run([each for each in realistic.records if each.timing is None]))


def test_each_pair_is_listed_once_and_only_with_a_clear_order(realistic: Run) -> None:
    operations, *_ = speed.crossovers(report_rows(realistic))
    names = [tuple(map(str, row[:3])) for row in operations.rows]
    assert ("forward", "sdpa", "softmax") in names
    assert ("forward", "softmax", "sdpa") not in names
    assert len(set(names)) == len(names)
    assert not any("sdpa_flash" in pair and "sdpa" in pair for pair in names)
    agreement = operations.columns.index("Agreement")
    assert all(row[agreement].value >= 0.95 for row in operations.rows)  # type: ignore[union-attr]
    assert "without a clear order" in str(operations.note)


def test_models_have_times_as_multiples_of_bert(realistic: Run) -> None:
    table = whole_models.model_table(report_rows(realistic))
    rows = [dict(zip(table.columns, map(str, row), strict=True)) for row in table.rows]
    at = [row for row in rows if row["Pass"] == "forward" and row["Length"] == "4,096"]
    multiples = {row["Model"]: row["Multiple of BERT's time"] for row in at}
    assert multiples["bert · sdpa"] == "1"
    assert float(multiples["transformers_yoso · yoso_e"].split()[0]) > 5
    assert float(multiples["yoso"].split()[0]) < 1


def test_models_without_bert_have_no_multiple(realistic: Run) -> None:
    left = [r for r in realistic.records if getattr(r.spec, "family", "") != "bert"]
    table = whole_models.model_table(report_rows(synthetic.run(left)))
    column = table.columns.index("Multiple of BERT's time")
    assert {row[column] for row in table.rows} == {"BERT has no time"}


def test_verification_gives_the_worst_check(realistic: Run) -> None:
    table = verification.verification_table(realistic)
    broken = next(row for row in table.rows if row[0] == "broken")
    assert [str(cell) for cell in broken[1:]] == ["output", "0.700", "1.00e-06", "700,000", "1", "1"]
    not_finite = Check(what="grad_q", error=None, allowed=1e-6, passed=False)
    spec = OperationSpec(attention="nan", seq_len=8)
    only = verification.verification_table(synthetic.run([synthetic.record(spec, "incorrect", checks=[not_finite])]))
    assert [str(cell) for cell in only.rows[0]] == ["nan", "grad_q", "not finite", "1.00e-06", "∞", "1", "1"]


def test_a_table_rejects_rows_that_do_not_fit_its_columns() -> None:
    with pytest.raises(ValueError, match="rows must have 2 cells"):
        tables.Table("t", ["a", "b"], [["1"]])


@pytest.mark.parametrize(
    ("words", "value", "expected"),
    [
        (quantities.seconds_words, 1.234, "1.23 s"),
        (quantities.seconds_words, 0.0999999, "100 ms"),
        (quantities.seconds_words, 4.5e-8, "45.0 ns"),
        (quantities.seconds_words, 7200.0, "7,200 s"),
        (quantities.bytes_words, 1536, "1.50 KiB"),
        (quantities.bytes_words, 12, "12 B"),
        (quantities.bytes_words, 2**30, "1.00 GiB"),
        (amounts.format_length, 16384, "16,384"),
        (amounts.format_length, 491.23, "491"),
        (quantities.number_words, 0.0, "0"),
        (quantities.number_words, 1e-7, "1.00e-07"),
    ],
)
def test_numbers_as_words(words: amounts.Formatter, value: float, expected: str) -> None:
    assert words(value) == expected


def test_words_agree_with_the_number_before_them() -> None:
    assert str(amounts.counted(1, "{} case is", "{} cases are")) == "1 case is"
    many = amounts.counted(1234, "{} case is", "{} cases are")
    assert str(many) == "1,234 cases are"
    assert [amount.value for amount in many.amounts] == [1234]
    swapped = report_rows(synthetic.run([synthetic.task("yoso", [0.3], [synthetic.swap("yoso_e", [0.3])])]))
    assert str(attention_swaps.swaps_finding(swapped)) == "1 evaluation of 1 trained model with another attention."
    alone = of(synthetic.run([synthetic.operation("yoso", 512, np.random.default_rng(0))])).text
    assert "All 4 checks passed." in alone
    assert not re.search(r"\b1 (?:cases|checks|attentions|times|samples|cores)\b", alone)
