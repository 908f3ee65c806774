"""The index of published runs in a real browser: phone and desktop, both colour schemes, keyboard, accessibility."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import synthetic

from harness.core.record import Quality
from harness.core.spec import OperationSpec, QualitySpec
from harness.report.formats import published_runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

CPU_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
CUT_OFF = """[...document.querySelectorAll('.matrix :is(a, b, i, span:not(.at))')].filter((each) =>
    each.getBoundingClientRect().right > each.closest('td, th').getBoundingClientRect().right + 1
).map((each) => each.textContent)"""
SIDEWAYS = "document.querySelector('.scroll').scrollWidth - document.querySelector('.scroll').clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two devices, with a long name, and one approximation within the allowed error."""
    reports = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(0)
    for device, lengths in (("Example CPU @ 2.0 GHz", CPU_LENGTHS), ("NVIDIA H100 80GB HBM3", (512, 32768, 65536))):
        records = []
        for length in lengths:
            for name, seconds in (("sdpa_efficient", 1e-6 * length**1.5), ("nystromformer_with_a_long_name", 1e-2)):
                spec = OperationSpec(attention=name, seq_len=length, mode="forward_backward")
                is_exact = name == "sdpa_efficient"
                records.append(synthetic.timed(spec, seconds, 1e6, rng, knobs={"m": 1}, exact_softmax=is_exact))
            errors = {what: [0.08, 0.09] for what in ("output", "grad_q", "grad_k", "grad_v")}
            quality = QualitySpec(attention="nystromformer_with_a_long_name", seq_len=length, knobs={"m": 1})
            measured = Quality(reference="softmax", errors=errors)
            records.append(synthetic.record(quality, knobs={"m": 1}, quality=measured))
        folder = reports / published_runs.slug(device)
        folder.mkdir()
        run = synthetic.run(records, machine={"cpu": device})
        (folder / "run.json").write_text(json.dumps({"harness": json.loads(run.model_dump_json())}), encoding="utf-8")
        (folder / "report.html").write_text("<!doctype html><title>A run</title>", encoding="utf-8")
    return published_runs.write_index(reports)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light"), (1280, "dark")])
def test_the_index_fits_is_accessible_and_its_cells_open_the_run(
    browser: Browser, index: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(index.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate(SIDEWAYS) <= 0
    assert page.evaluate(CUT_OFF) == []
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    box = page.locator(".matrix .at").first.bounding_box()
    assert box is not None
    assert (box["width"] > 1) == (width < 760)  # the length is in the cell where there is no heading above it
    assert page.get_by_role("cell").count() >= 6  # a card on a phone is still a table to a screen reader
    page.locator(".matrix td a[href*='65536']").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/report.html#*")
    assert parse_qs(urlsplit(page.url).fragment)["length"] == ["65536"]
    assert messages == []
    context.close()
