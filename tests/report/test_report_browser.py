"""The page in a real browser, from a file and without a network: plots, filters, links, keyboard, accessibility."""

import json
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import synthetic

from harness.core.record import Run
from harness.core.spec import OperationSpec
from harness.report.comparison import compare
from harness.report.formats import html, published_runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

DRAWN = "document.querySelectorAll('.js-plotly-plot .main-svg').length > 0"
PLOTS = "[...document.querySelectorAll('.level:not([hidden]) .plot')].filter((plot) => plot.data)"


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


@pytest.fixture
def opened(browser: Browser, request: pytest.FixtureRequest) -> Iterator["Opened"]:
    found = Opened(browser, **getattr(request, "param", {}))
    yield found
    found.context.close()
    assert found.messages == []
    assert found.requests == []


class Opened:
    """A page with its console messages and network requests; ``go`` opens a file and waits for the first plot."""

    def __init__(self, browser: Browser, width: int = 1300, height: int = 900, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True, accept_downloads=True
        )
        self.page: Page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda one: self.requests.append(one.url) if one.url.startswith("http") else None)

    def go(self, path: Path, link: str = "", drawn: bool = True) -> Page:
        self.page.goto(path.as_uri() + link)
        if drawn:
            # plots are drawn when they come near the window, and on a phone they are far down the page
            self.page.evaluate("document.querySelector('.panel').scrollIntoView()")
            self.page.wait_for_function(DRAWN, timeout=20_000)
            self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until no visible panel is pending."""
        pending = "[...pendingPanels].some((panel) => visiblePanels.has(panel.id))"
        idle = f"!{pending} && !document.querySelector('.panel[aria-busy=true]')"
        self.page.wait_for_timeout(50)
        self.page.wait_for_function(idle, timeout=20_000)


def visible_plots(page: Page) -> list[dict]:
    """The series, lengths and values of each plot of the visible level."""
    script = f"""{PLOTS}.map((plot) => ({{
        series: [...new Set(plot.data.map((t) => t.meta.series).filter(Boolean))],
        lengths: [...new Set(plot.data.flatMap((t) => t.customdata ?? []))],
        y: plot.data.filter((t) => t.hovertext).flatMap((t) => t.y)}}))"""
    plots: list[dict] = page.evaluate(script)
    return plots


def test_it_opens_offline_and_the_download_is_the_records(opened: Opened, path: Path, realistic: Run) -> None:
    page = opened.go(path)
    assert len(visible_plots(page)) == 6
    assert page.locator("#error").is_hidden()
    text = page.evaluate("fetch(document.getElementById('download').href).then((found) => found.text())")
    assert [Run.model_validate(run) for run in json.loads(text)["runs"]] == [realistic]


def test_filters_change_all_plots(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    before = visible_plots(page)
    page.select_option("[data-filter=Pass]", "training")
    opened.settle()
    assert visible_plots(page)[0]["y"] != before[0]["y"]
    page.select_option("#to", "1024")
    opened.settle()
    assert all(max(plot["lengths"]) <= 1024 for plot in visible_plots(page))
    assert max(before[0]["lengths"]) == 16384
    page.click('.level:not([hidden]) .legend button[data-series="sdpa"]')
    opened.settle()
    assert all("sdpa" not in plot["series"] for plot in visible_plots(page))
    assert "sdpa" in before[0]["series"]
    page.click("#all")
    opened.settle()
    assert "sdpa" in visible_plots(page)[0]["series"]
    page.select_option("#level", "model")
    opened.settle()
    assert "bert · sdpa" in visible_plots(page)[0]["series"]


def test_a_link_restores_the_state(opened: Opened, browser: Browser, path: Path) -> None:
    page = opened.go(path)
    page.select_option("[data-filter=Pass]", "training")
    page.select_option("#from", "512")
    page.click('.level:not([hidden]) .legend button[data-series="yoso"]')
    opened.settle()
    link, plots = page.evaluate("location.hash"), visible_plots(page)
    again = Opened(browser)
    restored = again.go(path, link)
    assert visible_plots(restored) == plots
    assert restored.input_value("[data-filter=Pass]") == "training"
    assert restored.get_attribute('.legend button[data-series="yoso"]', "aria-pressed") == "false"
    again.context.close()
    page.evaluate("location.hash = ''")
    opened.settle()
    assert "yoso" in visible_plots(page)[0]["series"]


def test_failures_are_marks_with_their_reason(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    marks = page.evaluate(f"{PLOTS}[0].data.filter((t) => t.yaxis === 'y2').flatMap((t) => t.hovertext)")
    assert any("SIGSEGV in worker" in words for words in marks)
    assert page.evaluate(f"{PLOTS}[0].querySelectorAll('.subplot.xy2 .point').length") == len(marks)


def test_the_page_works_with_the_keyboard_alone(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    page.focus("#level")
    page.keyboard.press("ArrowDown")
    opened.settle()
    assert page.input_value("#level") == "model"
    page.focus('.level:not([hidden]) .legend button[data-series="sdpa"]')
    page.keyboard.press("Space")
    opened.settle()
    assert all("sdpa" not in plot["series"] for plot in visible_plots(page))
    page.focus(".level:not([hidden]) .points summary")
    page.keyboard.press("Enter")
    page.wait_for_selector(".points[open] tbody tr")
    rows = page.locator(".level:not([hidden]) .points[open] tbody tr").all_inner_texts()
    assert len(rows) == len(visible_plots(page)[0]["y"])
    assert any("samples" in row for row in rows)


@pytest.mark.parametrize(
    "opened",
    [
        {"width": width, "height": 900, "scheme": scheme}
        for width, scheme in ((1300, "light"), (1300, "dark"), (768, "light"), (390, "dark"))
    ],
    indirect=True,
)
def test_axe_finds_nothing_and_nothing_is_cut_off(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    # every panel is drawn, and with it every table of points
    page.evaluate("for (const panel of page.panels) visiblePanels.add(panel.id); drawPending()")
    opened.settle()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("opened", [{"width": 900, "height": 700}], indirect=True)
def test_the_index_can_be_searched_and_is_accessible(opened: Opened, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run = synthetic.run([synthetic.record(OperationSpec(attention=name, seq_len=64))], profile=name)
        (tmp_path / f"{name}.json").write_text(json.dumps({"harness": json.loads(run.model_dump_json())}))
        published_runs.publish(tmp_path / f"{name}.json", tmp_path / "reports", name)
    page = opened.go(tmp_path / "reports" / "index.html", drawn=False)
    page.fill("#search", "TWO profile")
    assert page.locator(".runs > li:visible h3").all_inner_texts() == ["two"]
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_hostile_name_runs_nothing(opened: Opened, tmp_path: Path) -> None:
    evil = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>"
    rng = np.random.default_rng(0)
    records = [
        synthetic.record(OperationSpec(attention=evil, seq_len=64), "crashed", reasons=[evil]),
        synthetic.timed(OperationSpec(attention=evil, seq_len=128), 1e-3, 1e3, rng, kernel=evil),
    ]
    file = html.write(compare([synthetic.run(records)]), tmp_path / "evil.html")
    page = opened.go(file)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit ?? 0") == 0
    assert page.locator(".points tbody tr").first.inner_text().count(evil) == 3  # its name, its text, its kernel


def test_a_run_of_failures_says_so_and_shows_no_blank_plot(opened: Opened, tmp_path: Path) -> None:
    records = [synthetic.record(OperationSpec(attention="yoso", seq_len=n), "oom") for n in (64, 128)]
    page = opened.go(html.write(compare([synthetic.run(records)]), tmp_path / "failed.html"))
    assert page.evaluate(f"{PLOTS}[0].layout.annotations[0].text") == "No case was timed."
    assert page.locator(".plot.empty").all_inner_texts() == [
        "No error was measured at the lengths and settings that were timed.",
        "No case has both time and peak memory.",
    ]


def many(cases: int) -> Run:
    rng = np.random.default_rng(0)
    shapes = product(range(1, 100), (1, 2, 4, 8), [2**e for e in range(7, 21)], synthetic.COSTS)
    records = []
    for batch, heads, n, name in shapes:
        if len(records) == cases:
            break
        scale, power, peak, grows = synthetic.COSTS[name]
        spec = OperationSpec(attention=name, seq_len=n, batch=batch, heads=heads)
        records.append(synthetic.timed(spec, scale * n**power, peak * n**grows, rng, samples=10))
    return synthetic.run(records)


@pytest.mark.alone
@pytest.mark.parametrize(("cases", "milliseconds"), [(2_000, 2_000), (10_000, 6_000)])
def test_large_runs_are_interactive_quickly(opened: Opened, tmp_path: Path, cases: int, milliseconds: int) -> None:
    path = html.write(compare([many(cases)]), tmp_path / "many.html")
    page = opened.go(path, drawn=False)
    page.wait_for_function(DRAWN, timeout=30_000)
    assert page.evaluate("performance.now()") < milliseconds
    opened.settle()
    page.select_option("#to", "1024")
    opened.settle()
    assert max(visible_plots(page)[0]["lengths"]) == 1024
