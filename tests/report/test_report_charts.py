"""The chart of error against time, the panels over the length and the tips, in a real browser."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic

from harness.core.record import Run
from harness.report.comparison import compare
from harness.report.formats import html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from drawn_page import WIDTHS, check_drawing, exact, go, line, operation, resize, row, write  # noqa: E402
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

REPORTS = Path(__file__).parents[2] / "reports"
PLACES = ("", "#pass=forward", "#length=8192", "#allowed=any&length=512", "#measure=memory&isolated=yoso")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def empty_page() -> str:
    """A page whose data a test replaces by its own."""
    return html.render(compare([synthetic.run([])]))


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened = context.new_page()
    messages: list[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    yield opened
    context.close()
    assert messages == []


@pytest.mark.parametrize("name", ["cpu-standard", "gpu-h100"])
def test_no_labels_collide_and_every_axis_has_ticks(page: Page, name: str, tmp_path: Path) -> None:
    run = Run.model_validate(json.loads((REPORTS / name / "run.json").read_text())["harness"])
    go(page, html.write(compare([run]), tmp_path / "report.html"))
    for width in WIDTHS:
        resize(page, width)
        for place in PLACES:
            page.evaluate("(place) => { location.hash = place; }", place)
            page.wait_for_timeout(30)
            check_drawing(page, f"{width} px, {place}")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    check_drawing(page, "paper")


def test_the_zone_says_what_is_in_it_or_that_nothing_was_measured(page: Page, empty_page: str, tmp_path: Path) -> None:
    rows = [exact(), row("near", 0.01, 0.05, 32), row("far", 0.01, 2.0), row("slow", 0.5, 0.05), row("unknown", 0.001)]
    go(page, write(tmp_path / "page.html", empty_page, operation(rows)))
    words = "#chart .zone-words"
    assert page.locator(words).all_text_contents() == [
        "Faster than exact and within 10% of softmax: near (32 hashes, 5%); what does not count is named above."
    ]
    page.evaluate("location.hash = 'allowed=0.01'")
    page.wait_for_timeout(30)
    nothing = "Faster than exact and within 1% of softmax: nothing measured; what does not count is named above."
    assert " ".join(page.locator(words).all_text_contents()) == nothing
    summary = page.get_attribute("#chart svg [role=img]", "aria-label") or ""
    assert "Fastest exact: exact, 100 ms, error: rounding" in summary
    assert nothing in summary


def test_every_timed_method_is_in_the_picture_with_its_error_beside_its_time(
    page: Page, empty_page: str, tmp_path: Path
) -> None:
    rows = [exact(), row("estimate", 0.01, 0.5, 32), row("unmeasured", 0.02)]
    go(page, write(tmp_path / "page.html", empty_page, operation(rows)))
    names = page.locator("#chart .mark").evaluate_all("(marks) => marks.map((mark) => mark.getAttribute('aria-label'))")
    assert sorted(names) == [
        "estimate, 32 hashes, 10 ms, error: 50%",
        "exact, 100 ms, error: rounding (0.0001%)",
        "unmeasured, 20 ms, error not measured",
    ]
    page.locator("#chart .mark .dot").hover()
    assert page.locator("#tip > *").all_inner_texts() == [
        "estimate · 32 hashes",
        "10 ms [9.8, 10.2] within one process, 9 samples",
        "error 50% [45, 55] (gradient of k, 8 draws) against softmax",
        "9.9 times faster than exact",
        "peak memory 32 MiB",
        "a kernel",
    ]


def test_a_method_of_several_budgets_is_one_curve_in_their_order(page: Page, empty_page: str, tmp_path: Path) -> None:
    curve = [row("estimate", 0.01 * budget, 2 / budget, budget) for budget in (16, 2, 32, 8)]
    other = [row("estimate", 0.011 * budget, 3 / budget, budget) for budget in (8, 32)]
    for one in other:
        one["knobs"].append(["family", "gaussian"])
        one["isDefault"] = False
    go(page, write(tmp_path / "page.html", empty_page, operation([exact(), *curve, *other])))
    paths = page.locator("#chart .curve").evaluate_all("(paths) => paths.map((path) => path.getAttribute('d'))")
    ends = [[float(point.split()[0]) for point in path[1:].split("L")] for path in paths]
    assert [len(path) for path in ends] == [4, 2]
    assert all(path == sorted(path) for path in ends)
    # one label and one large mark a method, at the choice of the ranking
    assert page.locator("#chart .label .name:text('estimate')").count() == 1
    radii = page.locator("#chart .dot").evaluate_all("(dots) => dots.map((dot) => Number(dot.getAttribute('r')))")
    assert len([radius for radius in radii if radius > 5]) == 1


def isolated(page: Page) -> tuple[str | None, list[str]]:
    """The isolated attention and the names of the labels that are not dimmed."""
    state = page.evaluate('import("report/state").then(({ state }) => state.isolated)')
    bright = page.locator("#chart .label:not(.away) text:first-of-type").all_text_contents()
    return state, sorted(bright)


def test_a_click_and_the_keyboard_isolate_and_escape_releases(page: Page, empty_page: str, tmp_path: Path) -> None:
    rows = [exact(), row("one", 0.01, 0.5), row("two", 0.03, 0.6), row("three", 0.02)]
    go(page, write(tmp_path / "page.html", empty_page, operation(rows)))
    everything = ["exact", "one", "three", "two"]
    assert isolated(page) == (None, everything)
    page.locator('#chart .mark[data-attention="two"]').click()
    assert isolated(page) == ("two", ["two"])
    page.keyboard.press("Escape")
    assert isolated(page) == (None, everything)
    page.locator('#chart .label[data-attention="three"]').click()
    assert isolated(page) == ("three", ["three"])
    page.keyboard.press("Escape")

    focused = "document.activeElement.getAttribute('data-attention')"
    page.locator('#chart .mark[tabindex="0"]').focus()
    order = [page.evaluate(focused)]
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        order.append(page.evaluate(focused))
    assert order == ["one", "two", "exact", "three"]
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert isolated(page) == ("one", ["one"])
    # the drawing is new and the focus is where it was
    assert page.evaluate(focused) == "one"
    page.keyboard.press("Enter")
    assert isolated(page) == (None, everything)


def test_a_name_of_the_rest_comes_out_of_the_grey_when_it_is_isolated(
    page: Page, empty_page: str, tmp_path: Path
) -> None:
    rows = [exact(), *(row(f"method {index}", 0.001 * 2**index, 0.5 + index / 10) for index in range(9))]
    go(page, write(tmp_path / "page.html", empty_page, operation(rows)))
    colours = "(marks) => marks.map((mark) => mark.style.getPropertyValue('--series'))"
    used = page.locator("#chart .mark").evaluate_all(colours)
    assert len(set(used) - {"var(--rest)"}) == 6
    page.locator('#chart .mark[style*="--rest"]').first.click()
    alone = page.locator("#chart .mark:not(.away)").evaluate_all(colours)
    assert alone == ["var(--ink)"]


@pytest.mark.parametrize("width", [390, 1280])
def test_tips_stay_inside_the_window(page: Page, empty_page: str, tmp_path: Path, width: int) -> None:
    go(page, write(tmp_path / "page.html", empty_page, operation([exact(), row("long " * 40, 0.01, 0.5, 32)])))
    resize(page, width)
    page.evaluate(
        """() => {
        for (const [name, place] of Object.entries({ a: "left:0;top:0", b: "right:0;top:0", c: "left:0;bottom:0",
            d: "right:0;bottom:0" })) {
          const corner = document.createElement("button");
          corner.id = `corner-${name}`;
          corner.dataset.tip = ["heading", "word ".repeat(40), "x".repeat(120)].join("\\n");
          corner.style = `position:fixed;z-index:8;width:20px;height:20px;${place}`;
          document.body.append(corner);
        }}"""
    )
    inside = """() => { const { left, top, right, bottom } = document.querySelector("#tip").getBoundingClientRect();
        return left >= 0 && top >= 0 && right <= document.documentElement.clientWidth && bottom <= innerHeight; }"""
    for name in "abcd":
        page.hover(f"#corner-{name}")
        assert page.locator("#tip").is_visible()
        assert page.evaluate(inside), name
        page.keyboard.press("Escape")
        assert page.locator("#tip").is_hidden()
    for mark in page.locator("#chart .mark").all():
        mark.locator(".target").hover()
        assert page.evaluate(inside)
    # the pointer may move onto the tip to read it
    page.hover("#corner-a")
    page.hover("#tip", position={"x": 5, "y": 5})
    page.wait_for_timeout(300)
    assert page.locator("#tip").is_visible()
    page.hover("h1")
    page.wait_for_timeout(300)
    assert page.locator("#tip").is_hidden()
    # the keyboard's focus shows it, and names it as the description
    page.focus("#corner-a")
    page.keyboard.press("Tab")
    assert page.locator("#tip").is_visible()
    assert page.get_attribute("#corner-b", "aria-describedby") == "tip"


def test_one_case_and_one_length_are_enough(page: Page, empty_page: str, tmp_path: Path) -> None:
    only = operation([row("only", 0.01, 0.5)], [line("only", (128,), 0.01)], lengths=(128,))
    go(page, write(tmp_path / "page.html", empty_page, only))
    for width in WIDTHS:
        resize(page, width)
        check_drawing(page, str(width))
    assert "No exact method was timed here." in page.inner_text("#chart")
    assert "Only 128 tokens have a time" in page.inner_text("#multiples")
    assert page.locator("#multiples .multiple").count() == 0
    exactly = operation([row("only", 0.01, 0.0)], [line("only", (128,), 0.01)], lengths=(128,))
    go(page, write(tmp_path / "zero.html", empty_page, exactly))
    assert "Every measured error of an estimate is 0 here on sharp inputs." in page.inner_text("#chart")


def test_names_may_be_very_long_or_from_right_to_left(page: Page, empty_page: str, tmp_path: Path) -> None:
    long, hebrew, arabic = (
        "attention_" * 20,
        "\u05e7\u05e9\u05d1 \u05de\u05d4\u05d9\u05e8",
        "\u0627\u0646\u062a\u0628\u0627\u0647",
    )
    markup = "<img src=x onerror=alert(1)>"
    names = [long, hebrew, arabic, markup]
    rows = [exact(name=f"exact {long}")]
    lines = [line("exact", (128, 1024), 0.01)]
    for index, name in enumerate(names):
        rows += [row(name, 0.01 + index / 100, 0.5, 32)]
        rows += [row(f"unmeasured {name}", 0.02 + index / 100)]
        lines.append(line(name, (128, 1024), 0.02, crossing=300))
    go(page, write(tmp_path / "page.html", empty_page, operation(rows, lines)))
    for width in WIDTHS:
        resize(page, width)
        check_drawing(page, str(width))
        assert page.locator("#chart img, #multiples img, #tip img").count() == 0
        page.locator("#chart .mark .dot").nth(1).hover()
        assert page.locator("#tip > :first-child").inner_text() == f"{hebrew} · 32 hashes"
        box = page.locator("#multiples").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width


def test_ten_thousand_cases_are_usable(page: Page, empty_page: str, tmp_path: Path) -> None:
    rows = [
        row(
            f"method {index % 400}",
            0.001 * (1 + index / 100),
            None if index % 3 == 0 else 0.02 + index / 1000,
            1 + index,
        )
        for index in range(1000)
    ]
    lengths = tuple(128 * 2**power for power in range(10))
    lines = [line(f"method {index}", lengths, 0.001 * (1 + index)) for index in range(400)]
    path = write(tmp_path / "page.html", empty_page, operation([exact(), *rows], lines, lengths))
    go(page, path)
    assert page.locator("#chart .mark").count() == 1001
    check_drawing(page, "10,000 cases")
    assert page.locator("#multiples .multiple").count() <= 25
    took = """() => import("report/state").then(({ change, state }) => {
        const start = performance.now();
        change({ isolated: "method 1" });
        document.body.getBoundingClientRect();
        return performance.now() - start;
    })"""
    # seconds on two busy cores; a reader waits for one redraw
    assert page.evaluate(took) < 5000


def test_the_panels_compare_with_the_reference_and_mark_certain_crossings_only(
    page: Page, empty_page: str, tmp_path: Path
) -> None:
    lengths = (128, 1024, 8192)
    rows = [exact(), row("slow", 0.3), row("crosses", 0.01, 0.5)]
    lines = [line("exact", lengths, 0.02), line("slow", lengths, 0.05), line("crosses", lengths, 0.01, crossing=700)]
    go(page, write(tmp_path / "page.html", empty_page, operation(rows, lines, lengths)))
    panels = page.locator("#multiples .multiple")
    assert panels.locator(".name").all_inner_texts() == ["exact", "crosses", "slow"]
    assert panels.locator(".words").all_inner_texts() == [
        "the reference; error: rounding",
        "faster from 700 tokens; error 50%",
        "no clear order; error not measured",
    ]
    assert [panel.locator(".crossing").count() for panel in panels.all()] == [0, 1, 0]
    assert [panel.locator("path.reference").count() for panel in panels.all()] == [1, 1, 1]
    assert [panel.locator("path.own").count() for panel in panels.all()] == [0, 1, 1]
    page.locator("#multiples .choice button:text('memory')").click()
    assert page.inner_text("#multiples h2") == "Memory over length"
    assert panels.locator(".words").all_inner_texts()[1] == "128 MiB, exact 128 MiB; error 50%"
    assert page.locator("#multiples .crossing").count() == 0
    assert page.evaluate("document.activeElement.textContent") == "memory"
    panels.nth(2).click()
    assert page.evaluate('import("report/state").then(({ state }) => state.isolated)') == "slow"


@pytest.mark.parametrize(("scheme", "place"), [("light", ""), ("dark", "#isolated=one")])
def test_axe_finds_nothing_in_the_charts(
    browser: Browser, empty_page: str, tmp_path: Path, scheme: str, place: str
) -> None:
    rows = [exact(), row("one", 0.01, 0.05), row("two", 0.03, 0.6), row("three", 0.02)]
    lines = [line(name, (128, 1024), 0.01) for name in ("exact", "one", "two", "three")]
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    go(page, write(tmp_path / "page.html", empty_page, operation(rows, lines)), place)
    page.locator("#chart .mark .dot").first.hover()
    for part in ("#chart", "#multiples", "#tip"):
        found = Axe().run(page, context=part)
        assert found.violations_count == 0, found.generate_report()
    context.close()


PLACE = """async ({ seed, count }) => {
  const { placeBeside, stackBelow, overlap } = await import("report/label_placement");
  let state = seed;
  const random = () => { state = (state * 1103515245 + 12345) % 2147483648; return state / 2147483648; };
  const bounds = { left: 0, top: 0, right: 600, bottom: 220 };
  const points = Array.from({ length: count }, () => ({ x: 600 * random(), y: 220 * random(),
    sizes: [{ width: 40 + 80 * random(), height: 30 }, { width: 30, height: 16 }] }));
  const marks = points.map(({ x, y }) => ({ left: x - 5, right: x + 5, top: y - 5, bottom: y + 5 }));
  const placed = placeBeside(points, marks, [], bounds).filter((place) => place !== null);
  const boxes = placed.map(({ box }) => box);
  const ticks = points.map(({ x, sizes }) => ({ x, width: sizes[0].width, important: random() > 0.5 }));
  const rows = stackBelow(ticks, { left: 0, right: 600 }, 6);
  const strips = rows.flatMap((place, index) => place === null ? [] :
    [{ left: place.left, right: place.left + ticks[index].width, top: place.row * 14, bottom: place.row * 14 + 13 }]);
  const pairs = (list) => list.flatMap((one, at) => list.slice(at + 1).filter((other) => overlap(one, other))).length;
  const outside = [...boxes.map((box) => [box.left, box.right, box.top, box.bottom]),
    ...strips.map((box) => [box.left, box.right, 0, 0])]
    .filter(([left, right, top, bottom]) => left < 0 || right > 600.5 || top < 0 || bottom > 220).length;
  return { overlapping: pairs(boxes) + pairs(strips), outside, beside: placed.length,
    onMarks: boxes.filter((box) => marks.some((mark) => overlap(box, mark))).length, below: strips.length,
    repeated: JSON.stringify(placed) === JSON.stringify(placeBeside(points, marks, [], bounds).filter((one) => one)) };
}"""


def test_placed_labels_never_overlap_and_depend_on_sizes_alone(page: Page, empty_page: str, tmp_path: Path) -> None:
    go(page, write(tmp_path / "page.html", empty_page, operation([exact()])))
    for seed in range(20):
        few = page.evaluate(PLACE, {"seed": seed, "count": 8})
        assert (few["overlapping"], few["outside"], few["onMarks"]) == (0, 0, 0)
        assert few["beside"] >= 7
        assert few["below"] == 8
        assert few["repeated"]
        many = page.evaluate(PLACE, {"seed": seed, "count": 120})
        assert (many["overlapping"], many["outside"], many["onMarks"]) == (0, 0, 0)
