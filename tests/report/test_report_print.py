"""The printed page: every plot is drawn in light colours, nothing is cut off, and controls are hidden."""

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
PRINT = """() => {
    dispatchEvent(new Event("beforeprint"));
    const plots = [...document.querySelectorAll(".plot")].filter((plot) => plot.offsetParent);
    return plots.map((plot) => ({
        drawn: Boolean(plot.data), empty: plot.classList.contains("empty"), width: plot.clientWidth,
        svg: plot.querySelector(".main-svg")?.clientWidth ?? 0, ink: plot.layout?.font.color ?? "",
    }));
}"""
CUT = """(() => {
    const edge = document.querySelector("main").getBoundingClientRect().right + 1;
    const seen = [...document.querySelectorAll("main *")].filter((one) => !one.closest("svg") && one.checkVisibility());
    return seen.filter((one) => one.getBoundingClientRect().right > edge).map((one) => one.outerHTML.slice(0, 80));
})()"""
VISIBLE = "(one) => one.checkVisibility()"


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


def test_a_dark_page_is_printed_completely_and_in_light_colours(opened: Opened, path: Path, tmp_path: Path) -> None:
    page = opened.go(path)
    before = page.evaluate("getComputedStyle(document.body).color")
    plots = page.evaluate(PRINT)
    assert len(plots) == 6 + 2 + 1 + 1
    assert all(plot["drawn"] or plot["empty"] for plot in plots)
    assert all(plot["svg"] == plot["width"] <= PAPER for plot in plots if plot["drawn"])
    assert {plot["ink"] for plot in plots if plot["drawn"]} == {"#1b1f24"}
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") != before
    assert page.evaluate(CUT) == []
    assert page.evaluate(f"[...document.querySelectorAll('.plot .point')].filter({VISIBLE}).length") > 50
    controls = f"[...document.querySelectorAll('button, input, summary, #download')].filter({VISIBLE})"
    assert page.evaluate(f"{controls}.every((one) => one.matches('.legend button, .failures summary'))")
    assert "Filters: " in page.evaluate("document.querySelector('.filters').innerText")
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    opened.settle()
    assert page.evaluate("getComputedStyle(document.body).color") == before
    assert page.evaluate("document.querySelector('.plot').layout.font.color") == "#e8ebef"


def test_printing_from_the_browser_draws_every_plot(opened: Opened, path: Path) -> None:
    page = opened.go(path)
    page.evaluate(
        "addEventListener('beforeprint', () => { window.drawn = document.querySelectorAll('.js-plotly-plot').length; })"
    )
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert page.evaluate("window.drawn") >= 6
