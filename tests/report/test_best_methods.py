"""The fastest exact attention and the fastest within an allowed error: one rule for cards, chart, index and summary."""

from typing import Any

import pytest
import synthetic
from report_page import headline_of
from test_page_data import data_of, disturbed, error_of, of_records, setting_of, timed

from harness.core.record import Record
from harness.report.formats.runs_matrix import winners
from harness.report.model.page_data import BestMethods, BestWithin
from harness.report.questions.best_methods import ALLOWED_ERRORS

KERNEL = "torch sdpa"


def best_of(*records: Record, pass_: str = "forward", inputs: str = "sharp") -> BestMethods:
    return setting_of(of_records(*records), 512, pass_).best[inputs]


def within(best: BestMethods, allowed: float | None = 0.1) -> BestWithin:
    return best.at(allowed)


def winner(best: BestMethods, allowed: float | None = 0.1) -> str:
    found = within(best, allowed).winner
    assert found is not None
    assert found.verdict
    return found.row.series


def approximation(name: str, seconds: float, error: float, noise: float = 0.01, **more: Any) -> list[Record]:
    knobs = more.pop("knobs", {})
    return [
        timed(name, 512, seconds, noise, spec_knobs=knobs, knobs=knobs),
        error_of(name, 512, error / 1.1, error, knobs=knobs, **more),
    ]


def test_what_is_not_compared_with_softmax_wins_nothing_and_is_named_with_its_error() -> None:
    best = best_of(
        timed("sdpa", 512, 8e-3), timed("linear", 512, 1e-3), timed("unmeasured", 512, 1e-3),
        error_of("linear", 512, 3e-7, 3e-7, reference="linear"),
        *approximation("yoso", 2e-3, 0.05, reference="yoso_e"), *approximation("nystromformer", 4e-3, 0.08),
    )  # fmt: skip
    assert {allowed: winner(best, allowed) for allowed in ALLOWED_ERRORS} == {
        None: "nystromformer", 0.5: "nystromformer", 0.1: "nystromformer", 0.01: "sdpa",
    }  # fmt: skip
    assert [row.series for row in within(best).faster] == ["nystromformer"]
    assert [row.series for row in within(best).not_counted] == ["unmeasured", "linear", "yoso"]
    (remark,) = map(str, within(best).remarks)
    assert remark == (
        "Faster than nystromformer, but not counted: linear (exact by its own definition, error up to 3.3e-7); "
        "yoso (error 5.00% against yoso_e); unmeasured (error not measured)."
    )
    strict = [str(each) for each in within(best, 0.01).remarks]
    assert strict[0] == "Approximations with an error against softmax: 1, none within 1%."
    assert "linear" in strict[1]
    assert "yoso" not in strict[1]


def test_only_what_is_faster_than_the_winner_is_named_as_not_counted_and_three_at_most() -> None:
    best = best_of(
        timed("sdpa", 512, 8e-3), *approximation("winner", 2e-3, 0.08), timed("slower", 512, 4e-3),
        *(timed(name, 512, 1e-3) for name in "abcde"),
    )  # fmt: skip
    for allowed in (None, 0.1):
        assert sorted(row.series for row in within(best, allowed).not_counted) == list("abcde")
        (remark,) = map(str, within(best, allowed).remarks)
        assert remark.startswith("Faster than winner, but not counted: ")
        assert remark.endswith(" (error not measured) and 2 more.")
        assert "slower" not in remark


def test_cards_index_and_summary_name_the_same_winners() -> None:
    run = synthetic.run(
        [
            timed("sdpa", 512, 8e-3), timed("yoso_e", 512, 1e-3),
            error_of("yoso_e", 512, 3e-7, 3e-7, reference="yoso_e"), *approximation("nystromformer", 4e-3, 0.08),
        ]
    )  # fmt: skip
    data = data_of(run)
    best = setting_of(data, 512).best["sharp"]
    assert winner(best) == "nystromformer"
    index = winners(data)
    assert index is not None
    cell = index.cells[512]
    assert cell.exact is not None
    assert cell.within is not None
    assert (cell.exact.row, cell.within.row) == (best.exact and best.exact.row, within(best).winner.row)  # type: ignore[union-attr]
    assert cell.is_faster
    summary = [str(each) for each in headline_of(run)]
    assert any("fastest exact softmax attention is sdpa" in words for words in summary)
    (by_budget,) = (words for words in summary if "by error budget" in words)
    assert "within 1%, sdpa (" in by_budget
    assert "within 10%, 50% and any error, nystromformer (" in by_budget
    assert data.rule in summary
    assert data.as_json()["rule"] == data.rule


def test_more_allowed_error_is_never_slower_and_each_time_has_its_own_knob() -> None:
    sizes = {16: (1e-3, 0.9), 64: (2e-3, 0.4), 128: (3e-3, 0.05)}
    best = best_of(
        timed("sdpa", 512, 8e-3),
        *(
            record
            for m, (seconds, error) in sizes.items()
            for record in approximation("nystromformer", seconds, error, knobs={"num_landmarks": m})
        ),
    )
    found = {allowed: within(best, allowed).winner for allowed in ALLOWED_ERRORS}
    assert {allowed: each and each.row.knob for allowed, each in found.items()} == {
        None: "16 landmarks", 0.5: "64 landmarks", 0.1: "128 landmarks", 0.01: "",
    }  # fmt: skip
    for allowed, each in found.items():
        assert each is not None
        assert each.row in within(best, allowed).methods  # the ranking has the very row of the card
        assert [row.attention for row in within(best, allowed).methods].count("nystromformer") == 1
    assert "128 landmarks" in str(
        best_of(timed("sdpa", 512, 1e-3), *approximation("a", 3e-3, 0.05, knobs={"num_landmarks": 128}))
        .at(0.1)
        .remarks[0]
    )


def test_ties_say_which_they_are() -> None:
    names = (("sdpa", 4e-3, KERNEL), ("sdpa_flash", 3.6e-3, KERNEL), ("near", 3.8e-3, None), ("far", 8e-3, None))
    best = best_of(*(timed(name, 512, seconds, 1e-3, kernel=kernel, exact_softmax=True)
                     for name, seconds, kernel in names), inputs="random")  # fmt: skip
    assert best.exact is not None
    assert best.exact.row.series == "sdpa"  # the reference of the tied ones, though not the shortest
    assert [row.series for row in best.exact.tied] == ["sdpa_flash", "near"]
    assert str(best.exact.same_kernel_words).startswith("Same kernel: sdpa_flash (3.60 ms, error 2.0e-7)")
    assert "they differ by less than the two names of one kernel do, 1" in str(best.exact.tied_words)
    noisy = best_of(timed("sdpa", 512, 4e-3, 0.2), timed("softmax", 512, 4e-3, 0.2), inputs="random")
    assert noisy.exact is not None
    assert str(noisy.exact.tied_words).endswith("error 2.0e-7): their intervals overlap.")


def test_tied_approximations_are_named_at_most_three_of_them() -> None:
    names = ("a", "b", "c", "d", "e")
    records = [record for name in names for record in approximation(name, 2e-3, 0.08, noise=0.3)]
    best = best_of(timed("sdpa", 512, 80e-3), *records)
    found = within(best).winner
    assert found is not None
    assert found.row.series in names
    assert len(found.tied) == 4
    assert str(found.tied_words).count("error 8.00%") == 3
    assert str(found.tied_words).endswith("and 1 more: their intervals overlap.")
    index = winners(of_records(timed("sdpa", 512, 80e-3), *records))
    assert index is not None
    assert index.cells[512].within is not None
    assert index.cells[512].within.tied_words.endswith("and 1 more")


def test_an_approximation_that_is_tied_with_an_exact_attention_does_not_win() -> None:
    best = best_of(timed("sdpa", 512, 2e-3, 0.3), *approximation("nystromformer", 1.9e-3, 0.08, noise=0.3))
    assert winner(best) == "sdpa"
    assert within(best).faster == ()
    assert "nystromformer" in str(within(best).winner.tied_words)  # type: ignore[union-attr]
    assert "no clear difference from sdpa" in str(within(best).remarks[0])


@pytest.mark.parametrize("alone", [disturbed("sdpa", 512, 1e-3), timed("sdpa", 512, 1e-3, samples=1)])
def test_times_that_cannot_be_compared_win_nothing(alone: Record) -> None:
    only = best_of(alone, inputs="random")
    assert only.exact is not None
    assert not only.exact.verdict
    assert within(only).faster == ()
    assert winners(of_records(alone)) is None
    (words,) = (str(each) for each in headline_of(synthetic.run([alone])) if "fastest" in str(each))
    assert "none is called the fastest" in words
    beside = best_of(alone, timed("softmax", 512, 9e-3), inputs="random")
    assert beside.exact is not None
    assert beside.exact.verdict
    assert beside.exact.row.series == "softmax"


def test_the_error_of_training_is_the_worst_of_output_and_gradients_for_every_winner() -> None:
    records = [timed("sdpa", 512, 8e-3, mode="forward_backward"), timed("a", 512, 1e-3, mode="forward_backward"),
               timed("b", 512, 2e-3, mode="forward_backward"), error_of("a", 512, 0.01, 0.9),
               error_of("b", 512, 0.02, 0.08)]  # fmt: skip
    run = synthetic.run(records)
    data = data_of(run)
    best = setting_of(data, 512, "forward + backward").best["sharp"]
    assert winner(best) == "b"
    assert [row.series for row in within(best).faster] == ["b"]
    assert str(winners(data).cells[512].within.words).startswith("b, 1.99 ms")  # type: ignore[union-attr]
    (by_budget,) = (str(each) for each in headline_of(run) if "by error budget" in str(each))
    assert "relative error of the worst of output and gradients" in by_budget
    assert "within 10% and 50%, b (" in by_budget


def test_an_error_of_the_output_alone_wins_no_training() -> None:
    output = error_of("a", 512, 0.01, 0.01)
    assert output.quality is not None
    alone = output.model_copy(update={"quality": output.quality.model_copy(update={"errors": {"output": [0.01]}})})
    timings = [timed(name, 512, seconds, mode=mode) for mode in ("forward", "forward_backward")
               for name, seconds in (("sdpa", 8e-3), ("a", 1e-3))]  # fmt: skip
    assert winner(best_of(*timings, alone)) == "a"
    training = best_of(*timings, alone, pass_="forward + backward")
    assert winner(training) == "sdpa"
    assert any("error 1.00% of the output alone against softmax" in str(each) for each in within(training).remarks)


def test_an_error_against_any_exact_softmax_attention_counts() -> None:
    assert winner(best_of(timed("sdpa", 512, 8e-3), *approximation("a", 1e-3, 0.05, reference="sdpa"))) == "a"
