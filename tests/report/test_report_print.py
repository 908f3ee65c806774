"""The printed page: every fold is open, everything is drawn in light colours, and nothing is cut off."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic

from harness.report.comparison import compare
from harness.report.formats import html

if (shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")) is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)

from playwright.sync_api import sync_playwright
from test_report_browser import CHROMIUM, Opened

PAPER = 703
"""A4's width without the page's margins, in CSS pixels."""
LOADED = "typeof Plotly !== 'undefined'"
PLOTS = """[...document.querySelectorAll(".plot")].filter((plot) => plot.offsetParent).map((plot) => ({
    drawn: Boolean(plot.data), empty: plot.classList.contains("empty"), width: plot.clientWidth,
    svg: plot.querySelector(".main-svg")?.clientWidth ?? 0, ink: plot.layout?.font.color ?? "",
}))"""
CUT = """(() => {
    const edge = document.querySelector("main").getBoundingClientRect().right + 1;
    const seen = [...document.querySelectorAll("main *")].filter((one) => !one.closest("svg") && one.checkVisibility());
    return seen.filter((one) => one.getBoundingClientRect().right > edge).map((one) => one.outerHTML.slice(0, 80));
})()"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = synthetic.realistic(lengths=(256, 512, 1024))
    return html.write(compare([run]), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def opened() -> Iterator[Opened]:
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        found = Opened(browser, width=1300, scheme="dark")
        yield found
        browser.close()
    assert found.messages == []


def test_a_dark_page_is_printed_completely_and_in_light_colours(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    page.wait_for_function(LOADED)
    before = page.evaluate("getComputedStyle(document.body).color")
    width = page.evaluate("document.querySelector('#chart svg').getBoundingClientRect().width")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    plots = page.evaluate(PLOTS)
    assert len(plots) > 4
    assert all(plot["drawn"] or plot["empty"] for plot in plots)
    assert all(plot["svg"] == plot["width"] <= PAPER for plot in plots if plot["drawn"])
    assert {plot["ink"] for plot in plots if plot["drawn"]} == {"#16191d"}
    assert page.evaluate("document.querySelector('#chart svg').getBoundingClientRect().width") < PAPER < width
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") != before
    assert page.evaluate(CUT) == []
    assert page.evaluate("[...document.querySelectorAll('#folds > details')].every((one) => one.open)")
    assert page.locator("#section-verification td").first.is_visible()
    chosen = page.locator("#choices label:visible").all_inner_texts()
    assert "forward + backward" in chosen
    assert "forward" not in chosen
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("getComputedStyle(document.body).color") == before
    assert not page.evaluate("[...document.querySelectorAll('#folds > details')].some((one) => one.open)")


def test_printing_from_the_browser_draws_every_plot(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    page.wait_for_function(LOADED)
    count = "document.querySelectorAll('.js-plotly-plot').length"
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.drawn = {count}; }})")
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert page.evaluate("window.drawn") > 4
