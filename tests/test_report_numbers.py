"""No number on the page without its value in the page's own JSON."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import report_page
import synthetic

from harness.record import Run
from harness.reporting import units
from harness.store import load

ROOT = Path(__file__).parent.parent
NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]\d+)?(?![\w])")
# of the page's own fixed text: none of it is measured
FIXED = {"95", "1", "2", "512", "64", "80", "113", "16.4"}


def leaves(found: object, skip: str = "") -> Iterator[object]:
    if isinstance(found, dict):
        for key, value in found.items():
            if key != skip:
                yield key
                yield from leaves(value, skip)
    elif isinstance(found, list):
        for value in found:
            yield from leaves(value, skip)
    else:
        yield found


def writings(value: float) -> Iterator[str]:
    """Every way in which the page may write a number, without its unit."""
    for words in units.WORDS.values():
        yield from NUMBER.findall(words(value))
    yield str(value)
    yield f"{value:,}"
    yield f"{value:g}"
    yield f"{100 * value:.2f}"


def known(page: report_page.Page) -> set[str]:
    inside = report_page.data(page)
    found = set(FIXED)
    for leaf in [*leaves(inside["view"], skip="words"), *leaves(inside["runs"])]:
        if isinstance(leaf, str):
            found |= set(NUMBER.findall(leaf))
        elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
            found |= set(writings(leaf))
    return found


@pytest.mark.parametrize("source", ["made up", "committed"])
def test_every_number_of_the_page_is_in_its_json(source: str) -> None:
    run = synthetic.realistic() if source == "made up" else load(ROOT / "reports/cpu-quick/run.json")
    page = report_page.of(run)
    shown = set(NUMBER.findall(page.text))
    assert len(shown) > 200
    # counts of lists that the page says beside them: how many lengths, values or cases a line is about
    counts = {f"{n:,}" for n in range(len(run.records) + 1)}
    assert sorted(shown - known(page) - counts) == []


def test_every_drawn_value_is_in_the_json() -> None:
    page = report_page.of(synthetic.realistic(lengths=(256, 512, 1024), modes=("forward",)))
    inside = report_page.data(page)
    numbers = {leaf for leaf in [*leaves(inside["view"]), *leaves(inside["runs"])] if isinstance(leaf, int | float)}
    drawn = {
        value
        for panel in ("operation", "task", "hashes", "seeds")
        for one in report_page.figures(page)[panel]
        for plot in one["plots"]
        for trace in plot["data"]
        if trace.get("yaxis") != "y2"
        for value in trace["y"]
        if isinstance(value, float)
    }
    assert len(drawn) > 50
    assert drawn - numbers == set()


def test_a_number_that_no_record_has_would_be_found() -> None:
    run: Run = synthetic.realistic(lengths=(512,), modes=("forward",))
    page = report_page.of(run)
    assert "123.456" not in known(page)
