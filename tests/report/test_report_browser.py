"""The page in a browser: the bar, the answer, the ranking, the folds; on a phone, by keyboard, from a link."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import report_page
import synthetic
from test_page_data import disturbed, error_of, timed

from harness.core.record import Run
from harness.core.spec import OperationSpec
from harness.core.store import load
from harness.report.comparison import compare
from harness.report.formats import html, published_runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

ROOT = Path(__file__).parents[2]
READY = "document.documentElement.dataset.ready === 'yes'"
IDLE = "![...document.querySelectorAll('details[open] .panel-of-plots')].some((one) => one.ariaBusy !== 'false')"
OPEN_FOLDS = "document.querySelectorAll('#folds > details').forEach((one) => { one.open = true; })"
PLOTS = "[...document.querySelectorAll('details[open] .plot')].filter((plot) => plot.data)"
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def realistic() -> Run:
    return synthetic.realistic(lengths=(256, 512, 1024, 16384))


@pytest.fixture(scope="module")
def path(realistic: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return html.write(compare([realistic]), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of the runs in reports/, by their folder."""
    folder = tmp_path_factory.mktemp("published")
    names = ("cpu-standard", "gpu-h100")
    runs = {name: load(ROOT / "reports" / name / "run.json") for name in names}
    return {name: html.write(compare([run]), folder / f"{name}.html") for name, run in runs.items()}


@pytest.fixture
def opened(browser: Browser, request: pytest.FixtureRequest) -> Iterator["Opened"]:
    found = Opened(browser, **getattr(request, "param", {}))
    yield found
    found.context.close()
    assert found.messages == []
    assert found.requests == []


class Opened:
    """A page with its console messages and network requests; ``go`` opens a file and waits until it is drawn."""

    def __init__(self, browser: Browser, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True, accept_downloads=True
        )
        self.page: Page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda one: self.requests.append(one.url) if one.url.startswith("http") else None)

    def go(self, path: Path, link: str = "") -> Page:
        self.page.goto(path.as_uri() + link)
        self.page.wait_for_function(READY, timeout=20_000)
        return self.page

    def settle(self) -> None:
        """Wait until every panel in an open fold is drawn."""
        self.page.wait_for_timeout(50)
        self.page.wait_for_function(IDLE, timeout=30_000)


def cards(page: Page) -> list[str]:
    return page.locator("#cards .card").all_inner_texts()


def ranked(page: Page) -> list[str]:
    """The attentions of the ranking, in its order."""
    return page.locator("#ranking .row .attention button").all_inner_texts()


def choose(page: Page, name: str, value: str) -> None:
    """Choose a value of a field of the bar, whether it has buttons or is a list."""
    if page.locator(f"#choices select[name='{name}']").count():
        page.select_option(f"#choices select[name='{name}']", value)
    else:
        page.check(f"#choices input[name='{name}'][value='{value}']", force=True)


def test_it_opens_offline_and_both_downloads_are_the_data(opened: Opened, path: Path, realistic: Run) -> None:
    page = opened.go(path)
    assert len(cards(page)) == 3
    assert page.locator("#error").is_hidden()
    page.click("#raw-data summary")
    with page.expect_download() as downloaded:
        page.click("#download")
    data = json.loads(downloaded.value.path().read_text("utf-8"))
    assert [Run.model_validate(run) for run in data["runs"]] == [realistic]
    assert set(data) == {"runs", "report", "page"}
    assert {"operation", "panels"} < set(data["page"])
    with page.expect_download() as downloaded:
        page.click("#download-csv")
    rows = list(csv.DictReader(StringIO(downloaded.value.path().read_text("utf-8"))))
    assert {row["attention"] for row in rows} >= set(ranked(page))
    sdpa = next(row for row in rows if row["attention"] == "sdpa")
    medians = {record.case_id: np.median(record.timing.wall_seconds) for record in realistic.records if record.timing}
    assert float(sdpa["seconds"]) == medians[sdpa["case"]]


def test_the_cards_name_winners_ties_and_what_does_not_count(opened: Opened, tmp_path: Path) -> None:
    errors = {16: 0.4, 64: 0.08}
    landmarks = [
        record
        for m, seconds in ((16, 1e-3), (64, 3.5e-3))
        for record in (
            timed("nystromformer", 512, seconds, 0.1, spec_knobs={"num_landmarks": m}, knobs={"num_landmarks": m}),
            error_of("nystromformer", 512, errors[m] / 1.1, 0.0, knobs={"num_landmarks": m}),
        )
    ]
    records = [
        timed("sdpa", 512, 8e-3), timed("linear", 512, 5e-4), error_of("linear", 512, 3e-7, 0.0, reference="linear"),
        *landmarks, timed("performer", 512, 4.1e-3, 0.1), error_of("performer", 512, 0.05 / 1.1, 0.0),
    ]  # fmt: skip
    page = opened.go(html.write(compare([synthetic.run(records)]), tmp_path / "winners.html"))
    exact, within, _ = cards(page)
    assert exact.startswith("Fastest exact softmax\n\nsdpa")
    assert within.startswith("Fastest within 10% error, with 64 landmarks\n\nnystromformer")
    assert re.search(r"Tied with performer \([\d.]+ ms, error 5\.00%\): their intervals overlap\.", within)
    assert "but not counted: linear (exact by its own definition, error up to 3.3e-7)." in within
    assert "compared only with its own definition" in page.inner_text("#cards .rule")
    assert "nystromformer\n64 landmarks" in page.inner_text("#ranking")
    choose(page, "allowed", "null")
    assert cards(page)[1].startswith("Fastest with a known error against softmax, with 16 landmarks\n\nnystromformer")
    assert "Tied with" not in cards(page)[1]
    assert "nystromformer\n16 landmarks" in page.inner_text("#ranking")
    choose(page, "allowed", "0.01")
    assert cards(page)[1].startswith("Fastest within 1% error\n\nsdpa")
    assert "Approximations with an error against softmax: 2, none within 1%." in cards(page)[1]


def test_cards_show_ties_whoever_wins_the_interval_and_how_a_time_was_disturbed(opened: Opened, tmp_path: Path) -> None:
    records = [timed("sdpa", 512, 4e-3, 0.2), timed("softmax", 512, 4e-3, 0.2), disturbed("yoso", 512, 1e-3)]
    page = opened.go(html.write(compare([synthetic.run(records)]), tmp_path / "ties.html"))
    exact, within, yoso = cards(page)
    for card in (exact, within):
        assert "Tied with softmax (" in card
        assert re.search(r"\[[\d., ]+\], 15 samples", card)
    tips = page.locator("#cards .interval").evaluate_all("(all) => all.map((one) => one.dataset.tip)")
    assert all("] within one process, 15 samples" in tip for tip in tips)
    assert "Other processes disturbed this time: 1 of 2 cores." in yoso


def test_everything_obeys_the_bar_and_a_link_restores_it(opened: Opened, browser: Browser, path: Path) -> None:
    page = opened.go(path)
    before = cards(page), page.inner_text("#ranking")
    assert "forward + backward" in page.inner_text("#ranking h2")
    choose(page, "pass", "forward")
    choose(page, "length", "1024")
    choose(page, "allowed", "null")
    assert page.inner_text("#ranking h2") == "Ranking at 1,024 tokens, forward"
    changed = cards(page)
    assert "Fastest with a known error against softmax" in changed[1]
    assert all(old != new for old, new in zip(before[0], changed, strict=True))
    page.click("#ranking .row .attention button >> nth=1")
    page.click("#ranking th.memory button")
    order = ranked(page)
    link = page.evaluate("location.hash")
    again = Opened(browser)
    restored = again.go(path, link)
    assert cards(restored) == changed
    assert ranked(restored) == order
    assert restored.locator("#ranking .detail").count() == 1
    assert restored.locator("#choices input[name=pass]:checked").get_attribute("value") == "forward"
    assert restored.get_attribute("#ranking th.memory", "aria-sort") == "ascending"
    again.context.close()
    page.evaluate("location.hash = ''")
    page.wait_for_function("document.querySelector('#ranking h2').textContent.includes('backward')")
    assert cards(page) == before[0]


def test_no_speed_is_without_its_error(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    for length, allowed in (("1024", "0.1"), ("256", "null")):
        choose(page, "length", length)
        choose(page, "allowed", allowed)
        assert all("error" in text.split("\n", 1)[1] for text in cards(page) if " samples" in text)
        errors = page.locator("#ranking .row td.error").all_inner_texts()
        assert len(errors) == len(ranked(page)) > 3
        assert all(re.fullmatch(r"not measured|rounding|own definition|[\d.,e-]+%", words) for words in errors)


def test_the_columns_sort_in_both_directions(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    assert page.get_attribute("#ranking th.time", "aria-sort") == "ascending"
    by_time = ranked(page)
    page.click("#ranking th.time button")
    assert ranked(page) == by_time[::-1]
    assert page.get_attribute("#ranking th.time", "aria-sort") == "descending"
    page.click("#ranking th.attention button")
    assert ranked(page) == sorted(by_time)
    for _ in range(2):  # what has no error is last in both directions
        page.click("#ranking th.error button")
        errors = page.locator("#ranking .row td.error").all_inner_texts()
        assert "not measured" in errors
        known = [words != "not measured" for words in errors]
        assert known == sorted(known, reverse=True)
    page.click("#ranking th.score button")  # the best is first at once
    assert page.get_attribute("#ranking th.score", "aria-sort") == "descending"
    scores = page.locator("#ranking .row td.score:not(.missing)").all_inner_texts()
    assert len(scores) > 1
    assert scores == sorted(scores, reverse=True)
    page.click("#ranking th.score button")
    assert page.get_attribute("#ranking th.score", "aria-sort") == "ascending"


def test_the_page_works_with_the_keyboard_alone(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    page.focus("#choices input[name=pass]:checked")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#ranking h2").endswith(", forward")
    page.focus("#ranking th.memory button")
    page.keyboard.press("Space")
    assert page.get_attribute("#ranking th.memory", "aria-sort") == "ascending"
    assert page.evaluate("document.activeElement.closest('th')?.className") == "memory"
    page.focus("#ranking .row .attention button")
    page.keyboard.press("Enter")
    assert "harness run" in page.inner_text("#ranking .detail")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.keyboard.press("Enter")
    assert page.locator("#ranking .detail").count() == 0
    page.focus("#section-fronts summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fronts .plot .main-svg")
    opened.settle()
    page.focus("#fronts .points summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fronts .points[open] tbody tr")
    rows = page.locator("#fronts .points[open] tbody tr").all_inner_texts()
    assert any("sdpa" in row for row in rows)


def test_panels_are_drawn_when_their_fold_opens_and_follow_the_bar(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    assert page.locator(".main-svg").count() == 0
    page.click("#section-fronts > summary")
    page.wait_for_selector("#fronts .plot .main-svg")
    opened.settle()
    drawn = f"{PLOTS}.map((plot) => plot.data.filter((t) => t.hovertext).flatMap((t) => t.y))"
    series = f"{PLOTS}.flatMap((plot) => plot.data.map((trace) => trace.meta.series))"
    training = page.evaluate(drawn)
    choose(page, "pass", "forward")
    opened.settle()
    assert page.evaluate(drawn) != training
    assert "sdpa" in page.evaluate(series)
    page.click('#fronts .legend button[data-series="sdpa"]')
    opened.settle()
    assert "sdpa" not in page.evaluate(series)
    assert page.get_attribute('#fronts .legend button[data-series="sdpa"]', "aria-pressed") == "false"


@pytest.mark.parametrize(
    "opened",
    [
        {"width": width, "height": 900, "scheme": scheme}
        for width, scheme in ((1280, "light"), (1280, "dark"), (768, "light"), (390, "dark"))
    ],
    indirect=True,
)
def test_axe_finds_nothing_and_nothing_is_cut_off(opened: Opened, path: Path) -> None:
    page = opened.go(path, "#open=yoso")
    if page.locator("#filters").is_visible():
        page.click("#filters")
    page.evaluate(OPEN_FOLDS)
    opened.settle()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("opened", [{"width": 390, "height": 844}], indirect=True)
def test_on_a_phone_the_filters_are_behind_one_button(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    assert page.locator("#choices").is_hidden()
    assert "forward + backward" in page.inner_text("#filters")
    page.click("#filters")
    assert page.get_attribute("#filters", "aria-expanded") == "true"
    choose(page, "pass", "forward")
    assert "backward" not in page.inner_text("#filters")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


BOXES = """() => {
    const box = (one) => one.getBoundingClientRect().toJSON();
    const shown = [...document.querySelectorAll('#cards > *, main .panel')].filter((one) => one.checkVisibility());
    const checked = '.card *, .ranking td, .ranking th, #choices span, .panel h2, .panel svg text';
    const texts = [...document.querySelectorAll(checked)];
    const cut = texts.filter((one) => one.checkVisibility() && !one.closest('.hidden-text')).filter((one) => {
        const { left, right } = box(one);
        const isCut = one instanceof HTMLElement && one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1;
        return left < -1 || right > innerWidth + 1 || isCut;
    });
    return {
        boxes: shown.map((one) => ({ name: one.querySelector('h2')?.textContent, ...box(one) })),
        cut: cut.map((one) => one.outerHTML.slice(0, 120)),
        folds: document.querySelector('#folds').getBoundingClientRect().top + scrollY,
        bar: box(document.querySelector('#bar')).bottom,
    };
}"""


@pytest.mark.parametrize(
    "opened", [{"width": width, "height": 900} for width in (390, 1280, 1920)], indirect=True
)  # fmt: skip
@pytest.mark.parametrize(
    ("name", "link"),
    [("cpu-standard", ""), ("cpu-standard", "#pass=training&length=8192"), ("gpu-h100", "#pass=training&length=8192")],
)
def test_the_first_screens_answer_and_nothing_overlaps(
    opened: Opened, published: dict[str, Path], name: str, link: str
) -> None:
    page = opened.go(published[name], link)
    layout = page.evaluate(BOXES)
    assert layout["cut"] == []
    assert (
        page.evaluate("(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(document.querySelector('.wide'))")
        == 0
    )
    boxes = layout["boxes"]
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            apart = one["right"] <= other["left"] or other["right"] <= one["left"]
            assert apart or one["bottom"] <= other["top"] or other["bottom"] <= one["top"], (one, other)
    found = cards(page)
    assert [text.split("\n")[0] for text in found] == [
        "Fastest exact softmax",
        "Fastest within 10% error",
        "YOSO, with 32 hashes",
    ]
    assert all(re.search(r"\d (ns|µs|ms|s)\b", text) and "error" in text.split("\n", 1)[1] for text in found)
    if page.viewport_size["width"] >= 1280:
        assert max(box["bottom"] for box in boxes[:3]) <= 900
        assert layout["folds"] <= 2 * 900
    if page.viewport_size["width"] == 1920:
        assert max(box["right"] for box in boxes) > 1800


def test_a_place_without_a_measurement_says_so(opened: Opened, published: dict[str, Path]) -> None:
    page = opened.go(published["cpu-standard"], "#length=16384")
    padded = page.locator("#choices select[name='facet-Shape'] option").nth(1).get_attribute("value")
    assert padded is not None
    choose(page, "facet-Shape", padded)
    words = page.inner_text("#cards")
    assert words.startswith("Nothing was measured at 16,384 tokens with")
    assert "; this length has times with float32, cpu, batch 1, 8 heads of 64, forward" in words
    assert "Lengths with a time:" in words
    panels = page.locator("main .panel:visible").all_inner_texts()
    assert all(text.strip() for text in panels)


def test_a_length_without_any_time_says_why(opened: Opened, published: dict[str, Path]) -> None:
    page = opened.go(published["gpu-h100"], "#length=131072")
    words = page.inner_text("#cards")
    place = "bfloat16, cuda, batch 1, 1 heads of 64, forward + backward"
    assert words.startswith(
        f"At 131,072 tokens no attention has a time. Without one, with {place}: yoso (timed out: not begun: the run's "
        "175 s were over). Lengths with a time: 512,"
    )
    assert "Errors are those at 131,072 tokens." in page.inner_text("#multiples")


@pytest.mark.parametrize("link", ["", "#pass=forward&length=512&allowed=any&open=yoso"])
def test_every_number_of_the_answer_is_in_the_json(opened: Opened, published: dict[str, Path], link: str) -> None:
    page = opened.go(published["cpu-standard"], link)
    data = report_page.data(report_page.Page(published["cpu-standard"].read_text("utf-8")))
    known = set(NUMBER.findall(json.dumps(data["page"]["operation"], ensure_ascii=False)))
    known |= {"50", "10", "1"}  # the allowed errors
    shown = NUMBER.findall(page.inner_text("#cards") + page.inner_text("#ranking"))
    assert len(shown) > 80
    assert set(shown) - known == set()


def test_another_run_brings_its_own_device(opened: Opened, tmp_path: Path) -> None:
    runs = [load(ROOT / "reports" / name) for name in ("cpu-yoso/lengths.json", "gpu-h100/run.json")]
    page = opened.go(html.write(compare(runs), tmp_path / "two.html"))
    chosen = "document.querySelector('#choices input[name=facet-Device]:checked').value"
    field = page.locator("#choices [name=facet-Run]").first
    labels = field.locator("option").all_inner_texts()
    for label in labels:
        choose(page, "facet-Run", label)
        assert page.evaluate(chosen) == ("cuda" if "H100" in label else "cpu")
        assert page.inner_text("#ranking h2").startswith("Ranking") or "Lengths with a result" in page.inner_text(
            "#cards"
        )
    assert len(labels) == 2


def test_without_javascript_the_text_and_the_tables_are_there(browser: Browser, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    assert "need JavaScript" in page.inner_text("noscript")
    assert "the fastest exact softmax attention is" in page.inner_text("#summary")
    assert page.locator("#download").is_hidden()  # a script makes its file
    page.click("#section-verification > summary")
    assert page.locator("#section-verification td").first.is_visible()
    context.close()


@pytest.mark.parametrize("opened", [{"width": 900, "height": 700}], indirect=True)
def test_the_index_can_be_searched_and_is_accessible(opened: Opened, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run = synthetic.run([synthetic.record(OperationSpec(attention=name, seq_len=64))], profile=name)
        (tmp_path / f"{name}.json").write_text(json.dumps({"harness": json.loads(run.model_dump_json())}))
        published_runs.publish(tmp_path / f"{name}.json", tmp_path / "reports", name)
    opened.page.goto((tmp_path / "reports" / "index.html").as_uri())
    page = opened.page
    page.fill("#search", "TWO profile")
    assert page.locator(".runs > li:visible h3").all_inner_texts() == ["two"]
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
