"""Trained models, whole models and the folds: their data, and what a browser shows of them at three widths."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic

from harness.core.record import Run, Timing
from harness.core.spec import ModelSpec
from harness.core.store import load
from harness.report.comparison import Comparison, compare
from harness.report.formats import html
from harness.report.questions import whole_models

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 1280, 1920)


def model(attention: str, seconds: list[float], length: int = 128, **timing: object) -> object:
    spec = ModelSpec(attention=attention, seq_len=length)
    return synthetic.record(spec, timing=Timing(wall_seconds=seconds, warmup_calls=1, **timing))


def made_up() -> Run:
    """Like a run of today: shares of rare rows, many seeds, long names, a share within noise and a disturbed time."""
    run = synthetic.realistic(lengths=(256, 1024), modes=("forward", "forward_backward"))
    names = ["an_attention_with_a_very_long_name_that_nobody_can_place", "linear", "nystromformer"]
    swaps = [synthetic.swap("yoso", [0.2 + m / 400, 0.3 + m / 400], num_hash=m) for m in (1, 2, 4, 8, 16, 32, 64, 128)]
    others = [synthetic.swap("yoso", [0.3, 0.3 + m / 300], num_hash=m) for m in (8, 32)]
    tasks = [
        synthetic.task("yoso", [0.9, 0.91], rows_below_one_collision=[0.25, 0.5]),
        synthetic.task("yoso_e", [0.95, 0.95], swaps),
        synthetic.task("softmax", [0.951, 0.949], others),
        *(synthetic.task(name, [0.5 + 0.01 * seed for seed in range(12)]) for name in names),
    ]
    models = [
        model(name, [base * (1 + 0.001 * i) for i in range(5)], length, **more)
        for length in (128, 512, 1024, 4096)
        for name, base, more in (
            ("none", 1.0, {}),
            ("sdpa", 1.3, {}),
            ("yoso", 1.0002, {}),
            ("linear", 0.9, {}),
            (names[0], 2.0, {"disturbed": True, "disturbance": "the process had 0.4 of its 2 cores"}),
        )
        if name != "none" or length < 4096
    ]
    kept = [record for record in run.records if record.spec.kind in ("operation", "quality")]
    return run.model_copy(update={"records": [*kept, *tasks, *models]})


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return compare([made_up()])


def test_a_share_is_split_only_where_it_is_above_noise(compared: Comparison) -> None:
    (model_,) = compared.whole_models
    assert [times.base is not None for times in model_.lengths] == [True, True, True, False]
    rows = {row.series: row for row in model_.lengths[0].rows}
    assert rows["sdpa"].share is not None
    assert rows["sdpa"].share.value == pytest.approx(1 - 1 / 1.3)
    assert rows["sdpa"].share.low is not None
    assert [(rows[name].share, rows[name].within_noise) for name in ("yoso", "linear")] == [(None, True)] * 2
    disturbed = next(row for row in rows.values() if row.disturbance)
    assert (disturbed.share, disturbed.within_noise) == (None, False)
    assert all(row.share is None and not row.within_noise for row in model_.lengths[3].rows)
    assert str(model_.finding) == (
        "At 1,024 tokens attention takes 23.1% [22.9%, 23.3%] (sdpa) of the time; within noise in 2 of 3. At 1,024 "
        "tokens with yoso the model takes 76.9% [76.7%, 77.1%] of the time with sdpa. Not split at 4,096: none without "
        "attention was timed there. Errors inside whole models were not measured."
    )


def test_no_table_and_no_plot_has_a_negative_share(compared: Comparison) -> None:
    section = next(section for section in compared.sections if section.id == "share")
    cells = [str(row[-1]) for row in section.tables[0].rows]
    assert cells.count(whole_models.WITHIN_NOISE) == 6
    assert not any(cell.startswith("-") for cell in cells)
    plots = [plot for panel in compared.panels for view in panel.views for plot in view.plots if plot.id == "share"]
    assert plots
    assert all(value > 0 for plot in plots for trace in plot.figure["data"] for value in trace["y"])
    assert "6 of 9 shares are within noise and not drawn." in [str(remark) for remark in plots[0].remarks]


def test_trained_tasks_have_every_seed_and_the_share_of_rare_rows(compared: Comparison) -> None:
    (task,) = compared.trained
    assert [row.series for row in task.rows[:3]] == ["softmax", "yoso_e", "yoso"]
    assert [score.value for score in task.rows[2].scores] == [0.9, 0.91]
    assert task.rows[2].rare_rows is not None
    assert task.rows[2].rare_rows.value == 0.375
    assert task.rows[0].rare_rows is None
    assert task.chance is not None
    assert task.chance.value == 0.172
    assert [(curve.trained_with, curve.tested_with, len(curve.points)) for curve in task.swaps] == [
        ("yoso_e", "yoso", 8),
        ("softmax", "yoso", 2),
    ]
    assert "Trained with softmax and tested with yoso: 31.3% with 8 and 35.3% with 32 hashes." in str(task.finding)


@pytest.fixture(scope="module")
def pages(compared: Comparison, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("parts")
    runs = {name: compare([load(ROOT / "reports" / name / "run.json")]) for name in ("cpu-standard", "gpu-h100")}
    return {name: html.write(made, folder / f"{name}.html") for name, made in {**runs, "made up": compared}.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


CHECK = """() => {
    const box = (one) => one.getBoundingClientRect();
    const labels = (id) => [...document.querySelectorAll(`#${id} svg text`)]
        .map((one) => ({ words: one.textContent, ...box(one).toJSON() }));
    const collisions = [], outside = [];
    for (const id of ['trained', 'models']) {
        const place = box(document.getElementById(id));
        const all = labels(id);
        all.forEach((a, i) => {
            if (a.left < place.left - 1 || a.right > place.right + 1) outside.push(a.words);
            for (const b of all.slice(i + 1)) {
                const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const along = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (across > 1 && along > 3) collisions.push([a.words, b.words]);
            }
        });
    }
    const sideways = document.documentElement.scrollWidth > innerWidth;
    return { collisions, outside, sideways };
}"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["cpu-standard", "gpu-h100", "made up"])
def test_labels_are_apart_and_inside_at_every_width(browser, pages: dict[str, Path], name: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    messages: list[str] = []
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("console", lambda message: messages.append(message.text))
    for link in ("", "#pass=forward"):
        page.goto(pages[name].as_uri() + link)
        page.wait_for_function("document.documentElement.dataset.ready")
        assert page.evaluate(CHECK) == {"collisions": [], "outside": [], "sideways": False}
        empty = page.evaluate("['trained', 'models'].filter((id) => document.getElementById(id).checkVisibility())")
        assert empty == ([] if name == "gpu-h100" else ["trained", "models"])
    assert messages == []
    page.close()


def test_bars_dots_and_words_are_those_of_the_data(browser, pages: dict[str, Path], compared: Comparison) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages["made up"].as_uri())
    page.wait_for_function("document.documentElement.dataset.ready")
    (task,), (model_,) = compared.trained, compared.whole_models
    seeds = sum(len(row.scores) for row in task.rows)
    swapped = sum(len(point.scores) for curve in task.swaps for point in curve.points)
    assert page.locator("#trained circle").count() == seeds + swapped
    words = page.locator("#trained").inner_text()
    assert all(part in words for part in (task.heading, str(task.finding), "guess 17.2%", "37.5%", "< 1 collision"))
    marks = page.locator("#models .mark").evaluate_all("(all) => all.map((one) => one.dataset.tip)")
    assert len(marks) == sum(len(times.rows) for times in model_.lengths)
    assert all("error inside the model not measured" in tip for tip in marks)
    assert sum("within noise" in tip for tip in marks) == 6
    assert not any("-" in tip.split(": ", 1)[1] for tip in marks)
    shares = page.locator("#models rect[fill^='var(--series'], #models rect[fill='var(--rest)']").count()
    assert shares == len(marks) + sum(row.share is not None for times in model_.lengths for row in times.rows)
    page.close()


def test_a_fold_says_what_it_found_before_it_is_opened(browser, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages["cpu-standard"].as_uri())
    page.wait_for_function("document.documentElement.dataset.ready")
    findings = page.locator("#folds > details[id^=section-] > summary .finding").all_inner_texts()
    assert len(findings) > 10
    assert all(any(character.isdigit() for character in words) for words in findings)
    assert page.locator("#folds > details[open]").count() == 0
    rows = page.locator("#folds tbody tr").all_text_contents()
    assert len(rows) > 300
    assert not any("not enough lengths" in row or "no clear order" in row for row in rows)
    reasons = page.locator("#section-failures tbody tr td:nth-child(2)").all_text_contents()
    assert len(reasons) == len(set(reasons)) == 13
    page.close()
