"""The logarithmic axes of the page's charts: at least two ticks, none on another, whatever the values are."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic

from harness.report.comparison import compare
from harness.report.formats import html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)

from drawn_page import check_drawing, exact, go, line, operation, resize, row, write  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


ERRORS = {
    "tiny": [3e-6, 2e-5, 4e-4],
    "beyond a million percent": [0.02, 4.0, 3e4, 8e7, 2e11],
    "huge only": [2e4, 2.1e4, 9e4],
    "every size": [1e-12, 1e-3, 1.0, 1e9, 1e200],
    "one value": [0.3],
    "two equal values": [0.07, 0.07],
    "two near values": [0.0701, 0.0702],
}
TIMES = {
    "nanoseconds to hours": [4e-9, 3e-6, 2e-3, 1.5, 9e3],
    "hours": [3.7e3, 9e3, 1.1e5],
    "nanoseconds": [1.2e-10, 8e-9],
    "one value": [0.01],
    "two equal values": [0.01, 0.01],
}


def test_every_axis_has_two_ticks_that_do_not_collide(page: Page, tmp_path: Path) -> None:
    empty = html.render(compare([synthetic.run([])]))
    lengths = (1, 128, 2**24)
    cases = [
        *((errors, [0.01 * 3**nth for nth in range(len(errors))], name) for name, errors in ERRORS.items()),
        *(([0.05 * 2**nth for nth in range(len(times))], times, name) for name, times in TIMES.items()),
    ]
    for nth, (errors, times, name) in enumerate(cases):
        rows = [row(f"method {i}", time, error) for i, (error, time) in enumerate(zip(errors, times, strict=True))]
        lines = [line(f"method {i}", lengths, time) for i, time in enumerate(times)]
        made = operation([exact(seconds=max(times), name="exact"), *rows], lines, lengths)
        go(page, write(tmp_path / f"{nth}.html", empty, made))
        for width in (390, 1280):
            resize(page, width)
            check_drawing(page, f"{name}, {width} px")
        page.click("#multiples .choice button:text('memory')")
        check_drawing(page, f"{name}, memory")


TICKS = """async () => {
  const { logAxis, logTicks, tickWords } = await import("report/log_axis");
  const found = [];
  const places = Array.from({ length: 35 * 18 }, (_, nth) => [nth % 35 - 18, 1.7 * Math.floor(nth / 35)]);
  for (const unit of ["s", "B", "fraction"]) for (const [low, decades] of places) {
    for (const most of [0, 2, 3, 7]) {
      const axis = logAxis([10 ** low, 10 ** (low + decades)], 0, 100);
      const ticks = logTicks(axis, most, unit === "B" ? "binary" : "decimal");
      const words = ticks.map((tick) => tickWords(tick, unit));
      if (ticks.length < 2 || ticks.length > Math.max(2, most) || new Set(words).size < words.length
          || words.some((one) => one.length > 11 || (unit === "B" && one.includes("ns"))))
        found.push([unit, low, decades, most, words]);
    }
  }
  const values = [[1e6, "fraction"], [2e3, "s"], [2 ** 51, "B"], [0.5, "B"]];
  return { found, words: values.map(([value, unit]) => tickWords(value, unit)) };
}"""


def test_ticks_are_few_and_their_words_are_short_and_differ(page: Page, tmp_path: Path) -> None:
    go(page, write(tmp_path / "page.html", html.render(compare([synthetic.run([])])), operation([exact()])))
    made = page.evaluate(TICKS)
    assert made["found"] == []
    assert made["words"] == ["1e8%", "2,000 s", "2,048 TiB", "0.5 B"]
