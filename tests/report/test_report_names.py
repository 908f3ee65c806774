"""Names on the page that are very long, or that are written from right to left: neither disturbs the rest."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import synthetic

from harness.core.record import Quality, Record, Timing
from harness.core.spec import ModelSpec, OperationSpec, QualitySpec
from harness.report.comparison import compare
from harness.report.formats import html, published_runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)

from playwright.sync_api import Page, sync_playwright  # noqa: E402

LONG = "an_attention_with_a_name_that_is_much_longer_than_a_column_of_any_table_can_be"
OVERRIDE = "\u202etnioodne_eht_ta_sdne"
"""With the right-to-left override, which would turn around everything up to the end of the line."""
BREAKING = "\u202ebroken_out\u2069\u2069"
"""It also ends isolates that it did not begin."""
HEBREW = "\u05e7\u05e9\u05d1 \u05de\u05d4\u05d9\u05e8 \u05de\u05d0\u05d5\u05d3"
ARABIC = "\u0627\u0646\u062a\u0628\u0627\u0647 12"
NAMES = (LONG, OVERRIDE, BREAKING, HEBREW, ARABIC, "W" * 120, f"{OVERRIDE} {'x' * 90}")


def made_up() -> list[Record]:
    rng = np.random.default_rng(0)
    errors = dict.fromkeys(("output", "grad_q", "grad_k", "grad_v"), 0.02)
    records = [synthetic.operation(name, length, rng) for name in ("sdpa", "softmax") for length in (256, 1024)]
    records += [synthetic.task("sdpa", [0.5, 0.6]), synthetic.task("yoso_e", [0.5, 0.6])]
    for nth, name in enumerate(NAMES):
        for length in (256, 1024):
            spec = OperationSpec(attention=name, seq_len=length)
            records.append(
                synthetic.timed(spec, 1e-4 * (nth + 1) * length / 256, 1e6, rng, knobs={"m": 4}, kernel=name)
            )
            seconds = [0.1 * (nth + 1) * (1 + 0.001 * i) for i in range(5)]
            timing = Timing(wall_seconds=seconds, warmup_calls=1)
            records.append(synthetic.record(ModelSpec(attention=name, seq_len=length), timing=timing))
        quality = Quality(reference="softmax", errors={what: [size * (nth + 1)] * 4 for what, size in errors.items()})
        spec = QualitySpec(attention=name, seq_len=1024, knobs={"m": 4})
        records.append(synthetic.record(spec, knobs={"m": 4}, quality=quality))
        swaps = [synthetic.swap("yoso", [0.3, 0.4], num_hash=count) for count in (8, 32)]
        records.append(synthetic.task(name, [0.3 + 0.05 * nth, 0.31 + 0.05 * nth], swaps))
        records.append(
            synthetic.record(OperationSpec(attention=name, seq_len=4096), "oom", reasons=[f"no room: {name}"])
        )
    return records


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    run = synthetic.run(made_up(), machine={"cpu": f"{OVERRIDE} CPU"})
    html.write(compare([run]), folder / "run" / "report.html")
    text = json.dumps({"harness": json.loads(run.model_dump_json())})
    (folder / "run" / "run.json").write_text(text, encoding="utf-8")
    published_runs.write_index(folder)
    return folder


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        messages: list[str] = []
        opened.on("console", lambda message: messages.append(message.text))
        opened.on("pageerror", lambda error: messages.append(str(error)))
        yield opened
        browser.close()
    assert messages == []


def go(page: Page, reports: Path, width: int, link: str = "") -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("about:blank")
    page.goto((reports / "run" / "report.html").as_uri() + link)
    page.wait_for_selector("html[data-ready=yes]", timeout=20_000)


BEYOND = """() => {
  const places = ["#ranking", "#cards .card", "#models", "#trained", "#multiples"];
  const beyond = places.flatMap((place) => [...document.querySelectorAll(place)].flatMap((box) => {
    const { left, right } = box.getBoundingClientRect();
    const shown = [...box.querySelectorAll("*")].filter((one) => one.checkVisibility());
    return shown.filter((one) => !one.closest(".hidden-text, .cut, .name"))
      .filter((one) => one.getBoundingClientRect().right > right + 1 || one.getBoundingClientRect().left < left - 1)
      .map((one) => `${place}: ${one.outerHTML.slice(0, 80)}`);
  }));
  const { scrollWidth, clientWidth } = document.querySelector(".wide");
  const rows = [...document.querySelectorAll("#ranking .row")];
  const columns = rows.map((row) => row.lastElementChild.getBoundingClientRect());
  return { beyond, ranking: scrollWidth - clientWidth, page: document.documentElement.scrollWidth - innerWidth,
    tallest: Math.max(...columns.map(({ height }) => height)) };
}"""


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_are_shortened_and_push_nothing_out_of_sight(page: Page, reports: Path, width: int) -> None:
    go(page, reports, width)
    found = page.evaluate(BEYOND)
    assert (found["beyond"], found["ranking"], found["page"]) == ([], 0, 0)
    assert found["tallest"] < 40
    name = page.locator("#ranking").get_by_role("button", name=LONG)
    assert name.count() == 1
    name.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.inner_text("#tip") == LONG
    page.keyboard.press("Escape")
    card = page.locator("#cards .card .name").nth(1)
    assert card.bounding_box()["height"] < 40
    assert card.inner_text() == LONG
    card.hover()
    assert page.inner_text("#tip") == LONG
    page.keyboard.press("Escape")
    for place in ("#chart .label", "#models text"):
        page.locator(place, has_text="an_attention").first.hover()
        assert page.inner_text("#tip").split("\n")[0].startswith(LONG)
        page.keyboard.press("Escape")
    assert page.locator(f'#trained .mark[aria-label^="{LONG}"]').count() == 1
    assert page.locator(f'#multiples .multiple[data-tip^="{LONG}"] .name').inner_text() == LONG
    assert page.locator("#ranking .name").first.evaluate("(one) => one.offsetWidth") < page.viewport_size["width"]


def test_the_tables_of_the_folds_show_long_names_shortened(page: Page, reports: Path) -> None:
    go(page, reports, 1280)
    page.evaluate("document.querySelectorAll('#folds > details').forEach((one) => { one.open = true; })")
    page.wait_for_selector("#seeds .plot .main-svg")
    cells = page.locator(f'#folds td > [title="{LONG}"]')
    assert cells.count() > 3
    assert all(cell.evaluate("(one) => one.offsetWidth") < 250 for cell in cells.all())
    assert {cell.inner_text() for cell in cells.all()} == {LONG}
    plot = page.locator("#seeds .plot .main-svg").first
    names = plot.locator(".ytick text")
    widest = max(name.bounding_box()["width"] for name in names.all())
    assert widest < 0.35 * plot.bounding_box()["width"]


LOOSE = """(marks) => {
  const reorders = /[\u0590-\u08ff\u202a-\u202e\u2066-\u2069]/;
  const isolate = /\u2068[^\u2066-\u2069]*\u2069/;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (parent.closest("script, style, option, .main-svg")) continue;
    let text = node.data;
    while (isolate.test(text)) text = text.replace(isolate, "");
    if (!reorders.test(text)) continue;
    if (parent.closest("bdi") && !/[\u2066-\u2069]/.test(text)) continue;
    found.push(`${parent.outerHTML.slice(0, 100)}: ${node.data}`);
  }
  return found;
}"""

ORDER = """(name) => {
  const list = [...document.querySelectorAll("#summary li")].find((one) => one.textContent.includes("gave no result"));
  const node = list.firstChild;
  const place = node.data.indexOf(name);
  const boxOf = (from, to) => {
    const range = document.createRange();
    range.setStart(node, from);
    range.setEnd(node, to);
    return range.getBoundingClientRect();
  };
  const after = node.data.indexOf("(", place);
  return { before: boxOf(place - 3, place - 2).right, name: boxOf(place, place + name.length).left,
    end: boxOf(place, place + name.length).right, after: boxOf(after, after + 4).left };
}"""


def test_names_from_right_to_left_leave_the_order_of_their_neighbours(page: Page, reports: Path) -> None:
    for link in ("", "#open=" + OVERRIDE):
        go(page, reports, 1280, link)
        page.evaluate("document.querySelectorAll('#folds > details').forEach((one) => { one.open = true; })")
        assert page.evaluate(LOOSE) == []
    page.locator("#chart .mark .dot").nth(1).hover()
    assert page.evaluate(LOOSE) == []
    page.add_style_tag(content="#summary li { white-space: nowrap; }")
    for name in (OVERRIDE, HEBREW):
        places = page.evaluate(ORDER, name)
        assert places["before"] <= places["name"] < places["end"] <= places["after"]
    page.goto((reports / "index.html").as_uri())
    assert page.evaluate(LOOSE) == []
    assert page.locator(".matrix bdi").first.is_visible()
