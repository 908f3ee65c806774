"""The page in a real browser: plots are drawn, choices change them, no network is asked, no error is logged."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
import synthetic

from harness.record import Run
from harness.reporting import report
from harness.spec import OperationSpec

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")

# appended to a copy of the page: waits for the plots, does what the test asks, and leaves its finding in the DOM
PROBE = """
<script>
(async () => {
  const begin = performance.now();
  const drawn = () => document.querySelectorAll(".js-plotly-plot .main-svg").length > 0;
  while (!drawn() && performance.now() - begin < 20000) await new Promise((done) => setTimeout(done, 50));
  const plots = () => [...document.querySelectorAll(".js-plotly-plot")];
  const titles = () => [...document.querySelectorAll("figcaption span")].map((one) => one.textContent);
  const found = await (async () => { %s })();
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
})();
</script>
"""


def _browse(run: Run, folder: Path, probe: str, *options: str) -> tuple[dict, str]:
    """What the probe returned, and what the browser logged."""
    assert CHROMIUM is not None
    page = folder / "page.html"
    page.write_text(report.render(run).replace("</body>", PROBE % probe + "</body>"), encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'profile'}",
        "--window-size=1300,900", "--virtual-time-budget=30000", "--enable-logging=stderr", "--v=0",
        "--host-resolver-rules=MAP * ~NOTFOUND", *options, "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, env=os.environ)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found.group(1))), done.stderr


def _complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def realistic() -> Run:
    return synthetic.realistic(lengths=(256, 512, 1024, 16384))


def test_every_plot_is_drawn_offline_without_a_complaint(realistic: Run, tmp_path: Path) -> None:
    probe = """
      return {
        plots: plots().length, titles: titles(), trouble: document.getElementById("trouble").hidden,
        asked: performance.getEntriesByType("resource").map((one) => one.name).filter((name) => /^https?:/.test(name)),
        wide: document.documentElement.scrollWidth <= innerWidth,
        download: await (await fetch(document.getElementById("download").href)).text(),
      };"""
    found, log = _browse(realistic, tmp_path, probe)
    assert found["plots"] == len(found["titles"]) == 6
    assert found["trouble"]
    assert found["asked"] == []
    assert found["wide"]
    assert Run.model_validate_json(found["download"]) == realistic
    assert _complaints(log) == []


def test_choosing_a_pass_changes_the_plot_and_hiding_an_attention_hides_it_everywhere(
    realistic: Run, tmp_path: Path
) -> None:
    probe = """
      const shown = () => plots().map((plot) => plot.data.filter((t) => t.visible && t.meta.series === "sdpa").length);
      const before = { time: plots()[0].data.find((t) => t.meta.series === "yoso").y, sdpa: shown() };
      const select = document.querySelector("#operation select");
      select.value = "forward + backward";
      select.dispatchEvent(new Event("change"));
      document.querySelector('.legend button[data-series="sdpa"]').click();
      const after = { time: plots()[0].data.find((t) => t.meta.series === "yoso").y, sdpa: shown() };
      const pressed = [...document.querySelectorAll('button[data-series="sdpa"]')].map((b) => b.ariaPressed);
      return { before, after, pressed };"""
    found, log = _browse(realistic, tmp_path, probe)
    assert found["before"]["sdpa"][:4] == [1, 1, 1, 1]
    assert found["after"]["sdpa"][:4] == [0, 0, 0, 0]
    assert set(found["pressed"]) == {"false"}
    assert all(later > first for first, later in zip(found["before"]["time"], found["after"]["time"], strict=True))
    assert _complaints(log) == []


@pytest.mark.parametrize(("scheme", "expected"), [("0", "rgb(18, 22, 29)"), ("1", "rgb(255, 255, 255)")])
def test_the_page_follows_the_colour_scheme_at_phone_width(
    realistic: Run, tmp_path: Path, scheme: str, expected: str
) -> None:
    probe = """
      const text = document.querySelector(".js-plotly-plot .xtick text");
      return {
        page: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
        tick: getComputedStyle(text).fill, wide: document.documentElement.scrollWidth - innerWidth,
      };"""
    options = ("--window-size=400,900", f"--blink-settings=preferredColorScheme={scheme}")
    found, _ = _browse(realistic, tmp_path, probe, *options)
    assert found["page"] == expected
    assert found["tick"] == found["ink"]
    assert found["wide"] <= 0


def test_a_hostile_name_runs_nothing(tmp_path: Path) -> None:
    evil = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>"
    specs = [OperationSpec(attention=evil, seq_len=n) for n in (64, 128)]
    records = [synthetic.record(specs[0], "crashed", reasons=[evil]), synthetic.record(specs[1], "oom", reasons=[evil])]
    found, log = _browse(synthetic.run(records), tmp_path, "return { hit: window.hit ?? 0, plots: plots().length };")
    assert found == {"hit": 0, "plots": 2}
    assert _complaints(log) == []
