"""The page of unusual runs in a browser: names with markup, failures only, nothing at all, and very many cases."""

import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import synthetic

from harness.core.record import Record, Run
from harness.core.spec import OperationSpec
from harness.report.comparison import compare
from harness.report.formats import html
from harness.report.model.records_table import ReportRow
from harness.report.questions import reference_times
from harness.report.questions.reference_times import is_same_kernel

if (shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")) is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)

from drawn_page import exact, operation, row, write
from playwright.sync_api import Browser, sync_playwright
from test_report_browser import CHROMIUM, OPEN_FOLDS, Opened, choose, ranked


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Opened]:
    found = Opened(browser, **getattr(request, "param", {}))
    yield found
    found.context.close()
    assert found.messages == []
    assert found.requests == []


def test_disturbed_times_win_nothing(opened: Opened, tmp_path: Path) -> None:
    realistic = synthetic.realistic(lengths=(256, 512, 1024, 16384))

    def disturbed(record: Record) -> Record:
        if record.timing is None:
            return record
        timing = record.timing.model_copy(update={"disturbed": True, "disturbance": "1 of 2 cores"})
        return record.model_copy(update={"timing": timing})

    run = realistic.model_copy(update={"records": [disturbed(record) for record in realistic.records]})
    page = opened.go(
        html.write(compare([run]), tmp_path / "disturbed.html"), "#allowed=any&isolated=nobody&sort=nothing"
    )
    titles = page.locator("#cards .card h2").all_inner_texts()
    assert [title.split(",")[0] for title in titles[:2]] == ["No verdict; shortest time"] * 2
    assert "Faster than exact" not in page.inner_text("#chart")
    assert "no verdict; shortest exact" in page.inner_text("#chart")
    assert "fastest exact" not in page.inner_text("#chart")
    assert "No time here can be compared with that of an exact method." in page.inner_text("#chart")
    assert page.locator("#ranking th[aria-sort]").count() == 1  # what the link names and the page lacks is ignored
    assert page.evaluate("document.querySelectorAll('#chart .dim').length") == 0


def test_a_hostile_name_runs_nothing(opened: Opened, tmp_path: Path) -> None:
    evil = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>"
    rng = np.random.default_rng(0)
    records = [
        synthetic.record(OperationSpec(attention=evil, seq_len=64), "crashed", reasons=[evil]),
        synthetic.timed(OperationSpec(attention=evil, seq_len=128), 1e-3, 1e3, rng, kernel=evil),
        synthetic.timed(OperationSpec(attention="sdpa", seq_len=128), 2e-3, 1e2, rng),
    ]
    page = opened.go(html.write(compare([synthetic.run(records)]), tmp_path / "evil.html"))
    assert ranked(page) == [evil, "sdpa"]
    page.click("#ranking .row .attention button >> nth=0")
    page.evaluate(OPEN_FOLDS)
    opened.settle()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.wait_for_selector(".points tbody tr")
    assert page.evaluate("window.hit ?? 0") == 0
    assert page.locator("#ranking .detail").inner_text().count(evil) >= 1  # its kernel
    assert evil in page.locator(".points tbody tr").first.inner_text()


def test_a_run_of_failures_says_so_and_shows_no_blank_plot(opened: Opened, tmp_path: Path) -> None:
    records = [synthetic.record(OperationSpec(attention="yoso", seq_len=n), "oom") for n in (64, 128)]
    page = opened.go(html.write(compare([synthetic.run(records)]), tmp_path / "failed.html"))
    assert "yoso has no time here (out of memory)" in page.inner_text("#cards")
    assert "No attention has a time in this run: the reasons are below." in page.inner_text("#chart")
    page.evaluate(OPEN_FOLDS)
    opened.settle()
    assert page.locator(".plot:not(.empty):not(.js-plotly-plot), .panel:visible:empty").count() == 0
    assert "out of memory" in page.inner_text("#section-failures")


def test_a_run_without_operations_says_so(opened: Opened, tmp_path: Path) -> None:
    page = opened.go(html.write(compare([synthetic.run([])]), tmp_path / "empty.html"))
    assert "No attention was timed on its own" in page.inner_text("#cards")
    assert page.locator("#bar").is_hidden()


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
@pytest.mark.parametrize(("cases", "milliseconds", "megabytes"), [(2_000, 1_500, 4), (10_000, 6_000, 20)])
def test_large_runs_are_interactive_quickly(
    opened: Opened, tmp_path: Path, cases: int, milliseconds: int, megabytes: int
) -> None:
    path = html.write(compare([many(cases)]), tmp_path / "many.html")
    assert path.stat().st_size < megabytes * 1e6
    page = opened.go(path)
    assert page.evaluate("performance.now()") < milliseconds
    choose(page, "length", "1024")
    assert page.inner_text("#ranking h2").startswith("Ranking at 1,024 tokens")


def test_the_ranking_shows_thirty_rows_and_all_of_them_on_request(opened: Opened, tmp_path: Path) -> None:
    rows = [row(f"method {nth:03}", 0.001 * (1 + nth), 0.5) for nth in range(439)]
    made = operation([exact(seconds=0.0001), *rows])
    page = opened.go(write(tmp_path / "page.html", html.render(compare([synthetic.run([])])), made), "#open=method+400")
    first = ["exact", *(f"method {nth:03}" for nth in range(29))]
    assert ranked(page) == [*first, "method 400"]  # the open row is there wherever it is in the order
    assert "31 of 440 attentions are shown." in page.inner_text("#ranking")
    page.click("#ranking .row .attention button >> nth=30")
    page.focus("#ranking .more")
    page.keyboard.press("Enter")
    assert len(ranked(page)) == 440
    focused = "document.activeElement.textContent"
    assert page.evaluate(focused) == "method 029"  # the first of those that were added
    assert page.get_by_role("button", name="Show the first 30").count() == 1
    page.click("#ranking th.time button")
    assert ranked(page)[0] == "method 438"
    assert len(ranked(page)) == 440
    page.get_by_role("button", name="Show the first 30").click()
    assert ranked(page) == [f"method {438 - nth:03}" for nth in range(30)]
    assert page.evaluate(focused) == "Show all 440"
    page.click("#ranking th.time button")
    assert ranked(page) == first
    page.emulate_media(media="print")
    assert page.locator("#ranking .row:visible").count() == 30
    assert page.locator("#ranking .more").is_hidden()
    assert "30 of 440 attentions are shown." in page.inner_text("#ranking")


def test_back_undoes_choices_and_not_ways_of_looking(opened: Opened, tmp_path: Path) -> None:
    rows = [row("near", 0.01, 0.05, 32), row("far", 0.02, 2.0)]
    made = operation([exact(), *rows], lengths=(128, 1024, 8192))
    path = write(tmp_path / "page.html", html.render(compare([synthetic.run([])])), made)
    page = opened.go(path)
    steps = "history.length"
    start = page.evaluate(steps)

    def seen() -> tuple[str, bool, int]:
        allowed = page.locator("#choices input[name=allowed]:checked").get_attribute("value")
        return (
            page.inner_text("#ranking h2").split(" tokens")[0],
            allowed == "0.01",
            page.locator("#chart .away").count(),
        )

    places = [seen()]
    for act in (
        lambda: choose(page, "length", "1024"),
        lambda: choose(page, "allowed", "0.01"),
        lambda: page.locator('#chart .mark[data-attention="far"]').click(),
    ):
        act()
        places.append(seen())
    assert len(set(places)) == 4
    assert page.evaluate(steps) == start + 3
    page.click("#ranking th.memory button")
    page.click("#ranking .row .attention button >> nth=0")
    choose(page, "length", "1024")  # already there
    assert page.evaluate(steps) == start + 3
    for place in places[2::-1]:
        page.go_back()
        assert seen() == place
    page.go_forward()
    assert seen() == places[1]
    page.goto(f"{path.as_uri()}#length=128")  # a link that is pasted into the open page
    page.wait_for_function("document.querySelector('#ranking h2').textContent.includes(' 128 ')")
    page.go_back()
    assert seen() == places[1]
    assert page.url.startswith(path.as_uri())


def test_ten_thousand_cases_of_many_attentions_are_not_compared_with_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0

    def counted(row: ReportRow, other: ReportRow) -> bool:
        nonlocal calls
        calls += 1
        return is_same_kernel(row, other)

    monkeypatch.setattr(reference_times, "is_same_kernel", counted)
    rng = np.random.default_rng(0)
    names = ["sdpa", *(f"method {nth}" for nth in range(60))]
    records = [synthetic.timed(OperationSpec(attention=name, seq_len=128), 1e-3, 1e6, rng) for name in names]
    made = compare([synthetic.run(records)])
    assert made.operation is not None
    assert len(made.operation.settings[0].rows) == 61
    assert calls <= 3 * 61  # each with the reference, and not each with each
