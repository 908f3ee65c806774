"""The page of trends in a real browser: phone and desktop, both colour schemes, accessibility."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.gate.history import history_page
from harness.gate.history.trends import Point

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

OUTSIDE = """[...document.querySelectorAll('svg text')].filter((text) =>
    text.getBoundingClientRect().right > text.closest('svg').getBoundingClientRect().right
    || text.getBoundingClientRect().left < text.closest('svg').querySelector('polyline').getBoundingClientRect().right
).map((text) => text.textContent)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history")
    rng = np.random.default_rng(0)
    series = {}
    for case, scale, metric in (("sdpa", 1.5, "time"), ("yoso", 0.5, "time"), ("softmax", 1.0, "memory")):
        values = np.repeat([123456.0, 123456.0 * scale], 10) * np.exp(0.01 * rng.standard_normal(20))
        series["a-machine", f"operation/{case}-n8192-b1-h8-d64-fwdbwd-fp32-cpu", metric] = [
            Point(
                f"2026-01-{n + 1:02}", f"{n:040x}", value, 0.98 * value, 1.02 * value, 3, paths=(folder / f"{n}.json",)
            )
            for n, value in enumerate(values.tolist())
        ]
    history_page.write(series, folder / "history.html")
    return folder / "history.html"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light"), (1920, "dark")])
def test_the_page_fits_and_is_accessible(browser: Browser, history: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(history.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate(OUTSIDE) == []
    assert page.locator("svg").count() == 3
    assert page.locator("svg .interval").count() == 60
    assert page.locator("svg .worse").count() == 1
    assert page.locator("svg .better").count() == 1
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert messages == []
    context.close()
