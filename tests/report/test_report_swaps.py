"""Models trained with one attention and evaluated with others: plots, tables and sentences."""

import csv
from pathlib import Path
from typing import Any

import pytest
import synthetic
from report_page import embedded_runs, figures, headline_of, of, pictures
from synthetic import swap, task

from harness.core.record import Record
from harness.core.store import load
from harness.report.comparison import compare
from harness.report.formats import csv_table, latex, markdown
from harness.report.model.amounts import ABSENT
from harness.report.model.records_table import report_rows
from harness.report.questions import attention_swaps, trained_scores

ROOT = Path(__file__).parents[2]
OWN = [0.90, 0.80, 0.95]


def sentences(*records: Record) -> list[str]:
    return [str(sentence) for sentence in attention_swaps.sentences(report_rows(synthetic.run(records)))]


def rows_of(*records: Record) -> list[dict[str, Any]]:
    table = attention_swaps.swap_table(report_rows(synthetic.run(records)))
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def sampled(losses: dict[int, list[float]]) -> Record:
    """YOSO-E with the scores ``OWN``, evaluated with each number of hashes, with these losses per seed."""
    fewer = [
        swap("yoso", [own - loss for own, loss in zip(OWN, by_seed, strict=True)], num_hash=m)
        for m, by_seed in losses.items()
    ]
    return task("yoso_e", OWN, fewer)


def test_the_change_is_paired_by_seed() -> None:
    own, swapped = rows_of(task("yoso_e", OWN, [swap("yoso", [0.80, 0.75, 0.85], num_hash=32)]))
    assert (own["Evaluated with"], own["Change in points [95%]"]) == ("yoso_e, as trained", ABSENT)
    assert own["Score [95%]"].value == pytest.approx(0.88333, abs=1e-5)
    assert swapped["Hashes"].value == 32
    assert swapped["Score [95%]"].value == pytest.approx(0.8)
    change = swapped["Change in points [95%]"]
    # of -10, -5 and -10: the mean, and 4.3027 (Student's t, 2 degrees of freedom) times 2.8868 over the root of 3
    assert (change.value, change.low, change.high) == pytest.approx((-8.3333, -15.5047, -1.1620), abs=1e-3)
    assert str(change) == "-8.33 [-15.5, -1.16]"
    assert swapped["Evaluation"].value == 0.125


def test_an_interval_is_clipped_to_the_possible_scores() -> None:
    (_, wide) = rows_of(task("yoso_e", [1.0, 1.0], [swap("yoso", [0.7, 0.9], num_hash=4)]))
    assert (wide["Score [95%]"].low, wide["Score [95%]"].high) == (0.0, 1.0)
    assert wide["Change in points [95%]"].low == -100
    (_, wide) = rows_of(task("yoso_e", [1.0, 1.0], [swap("yoso", [0.1, 0.9], num_hash=4)], metric="matthews"))
    assert (wide["Score [95%]"].low, wide["Score [95%]"].high) == (-1.0, 1.0)


def test_the_sentence_names_significant_negligible_and_inconclusive_losses() -> None:
    (sentence,) = sentences(
        sampled({4: [0.30, 0.28, 0.31], 16: [0.00, 0.05, 0.02], 64: [0.001, 0.002, 0.001], 128: [0.0, 0.001, 0.0]})
    )
    assert sentence == (
        "On listops at 512 tokens the model trained with yoso_e scores 88.3%; evaluated with yoso and m hashes "
        "instead, it scores 58.7% at m = 4 and 88.3% at m = 128: the loss is significant at m = 4; from m = 64 on it "
        "loses at most 1 point; inconclusive at m = 16 (95% intervals over 3 seeds)."
    )


def test_a_small_loss_with_fewer_hashes_than_a_large_one_is_not_negligible() -> None:
    (sentence,) = sentences(sampled({4: [0.001, 0.002, 0.001], 16: [0.30, 0.28, 0.31]}))
    assert "loses at most" not in sentence
    assert "the loss is significant at m = 16; inconclusive at m = 4" in sentence


@pytest.mark.parametrize(("seeds", "words"), [(1, "1 seed is"), (2, "2 seeds are")])
def test_few_seeds_give_no_verdict_even_if_they_agree(seeds: int, words: str) -> None:
    fewer = [swap("yoso", [0.5] * seeds, num_hash=m) for m in (4, 8)]
    (sentence,) = sentences(task("yoso_e", [0.9] * seeds, fewer))
    assert f"50.0% at m = 4 and 50.0% at m = 8: {words} too few to tell a change from noise." in sentence


@pytest.mark.parametrize(
    "swaps_", [[], [swap("softmax", OWN)], [swap("yoso", OWN, num_hash=8)], [swap("yoso", [], "no room", num_hash=8)]]
)
def test_the_sentence_is_absent_without_its_evidence(swaps_: list[Any]) -> None:
    record = task("yoso_e", OWN, swaps_)
    assert sentences(record) == []
    assert sentences(sampled({4: [0.1] * 3, 8: [0.1] * 3}))
    assert any("Mean held-out" in str(words) for words in headline_of(synthetic.run([record])))


def test_the_headline_has_the_sentence_with_and_without_operations() -> None:
    record = sampled({4: [0.1] * 3, 8: [0.1] * 3})
    for records in ([record], [*synthetic.realistic(lengths=(512,), modes=("forward",)).records[:4], record]):
        assert any("and m hashes instead" in str(words) for words in headline_of(synthetic.run(records)))


def test_a_swap_that_could_not_run_has_its_reason_in_every_format(tmp_path: Path) -> None:
    reason = "torch has no cuDNN attention on a CPU"
    run = synthetic.run([task("yoso_e", OWN, [swap("yoso", OWN, num_hash=8), swap("sdpa_cudnn", [], reason)])])
    compared = compare([run])
    page = of(run)
    none = ABSENT
    assert ["yoso_e", "sdpa_cudnn", none, none, none, "0", none, reason] in page.rows
    assert embedded_runs(page) == [run]
    assert reason in markdown.render(compared)
    assert reason in latex.render(compared)
    csv_table.write(compared.swaps, tmp_path / "swaps.csv")
    with (tmp_path / "swaps.csv").open(encoding="utf-8", newline="") as file:
        hashed, refused = csv.DictReader(file)
    assert (hashed["evaluated_with"], hashed["num_hash"], float(hashed["change_points"])) == ("yoso", "8", 0)
    assert (refused["reason"], refused["score"], refused["seeds"]) == (reason, "", "0")
    section = next(section for section in compared.sections if section.id == "swapped")
    without = compare([synthetic.run([task("yoso_e", OWN, [swap("yoso", OWN, num_hash=8)])])])
    assert "Why there is no score" in section.tables[0].columns
    assert "Why there is no score" not in str([section.tables for section in without.sections])
    assert "swapped" not in [section.id for section in compare([synthetic.run([task("yoso_e", OWN)])]).sections]


def test_the_plot_has_every_number_of_hashes_the_models_own_score_and_the_baselines() -> None:
    fewer = [swap("yoso", scores, num_hash=m) for m, scores in ((32, [0.7, 0.9]), (4, [0.2, 0.4]))]
    (view,) = figures(of(synthetic.run([task("yoso_e", [0.9, 1.0], [*fewer, swap("softmax", [0.3, 0.3])])])))["swaps"]
    plot = view["plots"][0]
    assert view["facets"]["Trained with"] == "yoso_e"
    lines = {t["meta"]["series"]: t for t in plot["data"] if "band" not in t["meta"]}
    assert set(lines) == {"yoso", "yoso_e"}
    assert lines["yoso"]["x"] == [4, 32]
    assert lines["yoso"]["y"] == pytest.approx([0.3, 0.8])
    assert lines["yoso_e"]["y"] == pytest.approx([0.95, 0.95])
    assert lines["yoso_e"]["x"][0] < 4 < 32 < lines["yoso_e"]["x"][1]
    bands = {t["meta"]["series"]: t for t in plot["data"] if "band" in t["meta"]}
    assert bands["yoso"]["y"] == [0.4, 0.9, 0.7, 0.2]
    assert bands["yoso_e"]["y"] == [1.0, 1.0, 0.9, 0.9]
    assert {note["text"] for note in plot["layout"]["annotations"]} == {"chance 10.0%", "majority 17.2%"}
    assert [shape["y0"] for shape in plot["layout"]["shapes"]] == [0.1, 0.172]
    assert "seeds: 20.0%, 40.0%" in lines["yoso"]["hovertext"][0]


def test_knobs_that_distinguish_two_swaps_are_in_their_labels() -> None:
    twice = [swap("yoso", OWN, num_hash=8, hash_code_len=6, hash_family=name) for name in ("gaussian", "hadamard")]
    once = swap("yoso", OWN, num_hash=16, hash_code_len=6, hash_family="hadamard")
    _, *swapped = rows_of(task("yoso_e", OWN, [*twice, once]))
    names = ["yoso (hash_family=gaussian)", "yoso (hash_family=hadamard)", "yoso (hash_family=hadamard)"]
    assert [row["Evaluated with"] for row in swapped] == names
    (view,) = figures(of(synthetic.run([task("yoso_e", OWN, [*twice, once])])))["swaps"]
    assert {t["meta"]["series"] for t in view["plots"][0]["data"]} == {*names, "yoso_e"}


def test_scores_of_other_seeds_give_no_change() -> None:
    scores = [0.5, 0.5]
    _, swapped = rows_of(task("yoso_e", OWN, [swap("yoso", scores, num_hash=8)]))
    assert "Change in points [95%]" not in swapped, "no row has a change"
    assert of(synthetic.run([task("yoso_e", OWN, [swap("yoso", scores, num_hash=m) for m in (8, 16)])]))


def test_trained_scores_are_listed_with_their_change_from_softmax() -> None:
    records = [task("softmax", [0.7, 0.8]), task("sdpa", [0.72, 0.8]), task("yoso", [0.5, 0.6]), task("yoso_e", [0.9])]
    table = trained_scores.score_table(report_rows(synthetic.run(records)))
    found = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(found) == ["yoso_e", "sdpa", "softmax", "yoso"]
    changes = {name: row["Points from softmax [95%]"] for name, row in found.items()}
    assert changes["softmax"] == changes["yoso_e"] == ABSENT
    assert changes["sdpa"].value == pytest.approx(1.0)
    assert changes["yoso"].value == pytest.approx(-20.0)
    assert found["yoso"]["Baseline"].value == 0.172
    assert found["yoso"]["Peak memory"].value == 2**24 + 4 * 2**20
    words = "sdpa and softmax compute the same attention"
    assert words in of(synthetic.run(records)).text
    assert words not in of(synthetic.run(records[1:])).text


def test_score_against_time_and_against_memory_of_a_training() -> None:
    records = [task("yoso", [0.5, 0.6], train_seconds=[10.0, 30.0]), task("softmax", [0.7, 0.8])]
    (view,) = pictures(synthetic.run(records))["task"]
    plots = {plot["id"]: plot for plot in view["plots"]}
    assert list(plots) == ["score", "training", "memory", "front", "front-memory"]
    assert plots["front"]["title"] == "Pareto front: time of a training and held-out accuracy"
    assert plots["front-memory"]["title"] == "Pareto front: peak memory of a training pass and held-out accuracy"
    drawn = {(id_, t["meta"]["series"]): (t["x"], t["y"]) for id_, plot in plots.items() for t in plot["data"]}
    assert drawn["front", "yoso"] == ([20.0], [0.55])
    assert drawn["front-memory", "yoso"] == ([2**24 + 4 * 2**20], [0.55])
    assert drawn["memory", "softmax"] == ([512], [2**24 + 7 * 2**20])
    assert {plots[name]["layout"]["meta"]["front"] for name in ("front", "front-memory")} == {"higher"}
    ticks = plots["front-memory"]["layout"]["xaxis"]["ticktext"]
    assert {"20 MiB", "24 MiB"} <= set(ticks)


def test_without_memory_there_is_no_memory_plot() -> None:
    (view,) = pictures(synthetic.run([task("yoso", [0.5, 0.6], train_memory=None)]))["task"]
    assert [plot["id"] for plot in view["plots"]] == ["score", "training", "front"]


def test_scores_are_named_after_their_metric() -> None:
    page = of(synthetic.run([task("yoso", [0.5, 0.6], metric="matthews")]))
    assert "Mean held-out matthews on listops at 512 tokens: yoso 55.0%" in page.text
    assert "accuracy" not in figures(page)["seeds"][0]["plots"][0]["title"]


def test_the_published_run_shows_both_fronts_and_every_swap() -> None:
    run = load(ROOT / "reports/cpu-accuracy/run.json")
    page = of(run)
    views = figures(page) | pictures(run)
    assert len(views["task"]) == 3
    for view in views["task"]:
        fronts = [plot for plot in view["plots"] if plot["id"].startswith("front")]
        assert [len([t for t in plot["data"] if t["meta"]["series"]]) for plot in fronts] == [4, 4]
    assert [view["facets"]["Trained with"] for view in views["swaps"]] == ["yoso_e"] * 3
    swaps = sum(len(record.task.evaluated_with) for record in run.records if record.task)
    trained = sum(bool(record.task and record.task.evaluated_with) for record in run.records)
    table = next(section for section in compare([run]).sections if section.id == "swapped").tables[0]
    assert (swaps, len(table.rows)) == (33, 33 + trained)
    assert page.text.count("2 seeds are too few to tell a change from noise") == 3
