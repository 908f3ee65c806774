"""Every number on the page has its value in the page's own JSON, at the same place."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import report_page
import synthetic
from report_page import Page

from harness.core.record import Record, Run
from harness.core.store import load
from harness.report.comparison import compare
from harness.report.formats import html
from harness.report.model import amounts

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]\d+)?(?![\w])")
FIXED = {
    r"(?<![\w.,])95%(?=\]| interval| bootstrap)": "the level of every interval",
    r"(?<=lengths )from 512 on(?=: 1)": "where a fit of exponents begins",
    r"(?<=: )1 is linear, 2 is quadratic": "what an exponent means",
    r"(?<=interval excludes )1": "a ratio of equal times",
    r"(?<=an interval that starts at )0(?= shows)": "no bias",
    r"(?<=outputs to length )1": "the definition of YOSO",
    r"(?<=is above )1(?=, the check failed)": "an error equal to the allowed error",
    r"AAAI 2021 \(arXiv 2102.03902": "a citation",
    r"NeurIPS 2021, arXiv 2110.15343": "a citation",
}
"""Patterns of fixed text with numbers that come from no record, and what these numbers are."""


def leaves(found: object, skip: tuple[str, ...] = ()) -> Iterator[object]:
    if isinstance(found, dict):
        for key, value in found.items():
            if key not in skip:
                yield key
                yield from leaves(value, skip)
    elif isinstance(found, list):
        for value in found:
            yield from leaves(value, skip)
    else:
        yield found


def numbers(words: str) -> set[str]:
    return set(NUMBER.findall(words))


def writings(amount: dict) -> set[str]:
    """The ways in which an amount may be written: in its own unit, or as a round percentage or number."""
    found: set[str] = set()
    for value in (amount[name] for name in ("value", "low", "high") if name in amount):
        found |= numbers(amounts.FORMATTERS[amount["unit"]](value)) | {f"{value:g}"}
        if amount["unit"] == "fraction":
            found |= {f"{100 * value:g}", f"{100 * value:.2f}", f"{value:.1e}".replace("e-0", "e-")}
    return found


def conditions_of(record: Record) -> Iterator[int]:
    """The conditions with numbers that should be equal in the cases of a comparison."""
    conditions, timing = record.conditions, record.timing
    values = (
        record.parameters,
        conditions and conditions.parameters,
        conditions and conditions.layout_copies,
        timing and timing.threads,
    )
    yield from (value for value in values if isinstance(value, int))


class Known:
    """What the page's JSON contains: the amounts at each place of the page, and the names that contain numbers."""

    def __init__(self, page: Page) -> None:
        data = report_page.data(page)
        self.report, self.runs = data["report"], [Run.model_validate(run) for run in data["runs"]]
        self.lengths = {f"{record.spec.seq_len:,}" for run in self.runs for record in run.records}
        # a fairness finding quotes conditions of the records
        self.conditions = {
            f"{value:,}" for run in self.runs for record in run.records for value in conditions_of(record)
        }
        # that settings have the numbers of their specs is tested separately below
        made = [str(case[name]) for case in self.report["cases"] for name in ("series", "setting", "run")]
        recorded = [leaf for leaf in leaves(data["runs"], skip=("case_id",)) if isinstance(leaf, str)]
        cases = [record.case_id for run in self.runs for record in run.records]
        parts = [part for words in made for part in words.split("; ")]
        operation = data["page"]["operation"] or {"settings": []}
        knobs = [row["knob"] for setting in operation["settings"] for row in setting["rows"]]
        names = {" ".join(name.split()) for name in (*recorded, *cases, *parts, *knobs)}
        self.names = sorted(
            (one for one in names if re.search(r"[^\W\d]", one) and numbers(one)), key=len, reverse=True
        )

    def places(self, page: Page) -> Iterator[tuple[str, set[str]]]:
        """The text of each block of the page, with the numbers at the same place in the JSON."""
        tables = [(section["id"], table) for section in self.report["sections"] for table in section["tables"]]
        cells = iter([self.of(cell) if isinstance(cell, dict) else self.of_words(cell, id_)
                      for id_, table in tables for row in table["rows"] for cell in row])  # fmt: skip
        sentences = iter([sentence for summary in self.report["summaries"] for sentence in summary["sentences"]])
        notes = iter([self.of(table["note"]) for _, table in tables if table["note"]["words"]])
        counts = iter(self.report["counts"].values())
        machines = [str(value) for run in self.runs for value in (*run.machine.values(), (run.commit or "")[:10])]
        of_runs = {number for details in self.report["runs"] for number in self.of(details["finding"])}
        findings = iter([self.of(self.report["finding"]),
                         *(self.of(section["finding"]) for section in self.report["sections"]),
                         of_runs | numbers(" ".join(machines)), self.of(self.report["data_finding"])])  # fmt: skip
        particulars = iter([part for run, details in zip(self.runs, self.report["runs"], strict=True)
                            for part in self.particulars(run, details)])  # fmt: skip
        for block in page.blocks:
            if block.tag == "td":
                yield block.text, next(cells)
            elif block.tag == "li" and "headline" in block.inside:
                yield block.text, self.of(next(sentences))
            elif block.kind.startswith("count "):
                yield block.text, writings(next(counts))
            elif block.kind == "finding":
                yield block.text, next(findings)
            elif block.tag == "dd":
                yield block.text, next(particulars)
            elif block.kind == "note of-table":
                yield block.text, self.lengths | next(notes)
            else:
                setting = block.tag == "option" or block.kind in {"note", "common"}
                yield block.text, self.lengths if setting else set()
        not_on_page = [*cells, *sentences, *counts, *findings, *notes, *particulars]
        assert not_on_page == [], "the JSON contains something that the page leaves out"

    def of_words(self, cell: str, section: str) -> set[str]:
        """The numbers of a cell without an amount: a length that is a setting, or conditions in a fairness finding."""
        if section == "fairness":
            return self.conditions
        return self.lengths if re.fullmatch(r"[\d,]+ tokens", cell) else set()

    def of(self, json: dict) -> set[str]:
        """The numbers of an amount or a sentence in the JSON."""
        return {number for amount in json.get("amounts", [json]) for number in writings(amount)}

    def particulars(self, run: Run, details: dict) -> Iterator[set[str]]:
        yield from (set(), set(), set(), {str(run.schema_version)}, writings(details["records"]))
        yield from (self.of(values) for _, values in details["settings"])
        yield from (numbers(str(value)) for value in run.machine.values() if value is not None)

    def unknown(self, words: str, own: set[str]) -> set[str]:
        """The numbers in ``words`` that are neither in ``own``, nor part of a name, nor part of fixed text."""
        if numbers(words) <= own:
            return set()
        for fixed in FIXED:
            words = re.sub(fixed, "", words)
        # a bound of an interval outside the measured lengths
        words = re.sub(r"(?:below|above) ([\d,]+)\b(?<!,)", lambda m: "" if m[1] in self.lengths else m[0], words)
        for name in self.names:
            if numbers(words) <= own:
                break
            if name in words:
                words = re.sub(rf"(?<![\w.,]){re.escape(name)}(?!\w)", "", words)
        return numbers(words) - own


@cache
def text_of(source: str) -> str:
    if source == "made up":
        return html.render(compare([synthetic.realistic()]))
    if source == "two runs":
        return html.render(compare([synthetic.realistic(lengths=(256, 512, 1024)), slower()]))
    return html.render(compare([load(ROOT / "reports" / source / "run.json")]))


def slower() -> Run:
    """The made-up run on another machine, on which every call takes longer."""
    run = synthetic.realistic(lengths=(256, 512, 1024))
    for record in run.records:
        if record.timing is not None:
            record.timing.wall_seconds = [1.7 * seconds for seconds in record.timing.wall_seconds]
    return run.model_copy(update={"commit": "fedcba9876543210", "machine": {"cpu": "Other CPU 3000"}})


def unknown_numbers(page: Page) -> list[tuple[str, set[str]]]:
    known = Known(page)
    found = [(words, known.unknown(words, own)) for words, own in known.places(page)]
    return [(words, left) for words, left in found if left]


@pytest.mark.parametrize("source", ["made up", "two runs", "cpu-quick", "cpu-accuracy", "cpu-standard"])
def test_every_number_of_the_page_is_in_its_json(source: str) -> None:
    page = Page(text_of(source))
    assert len(numbers(page.text)) > 100
    assert unknown_numbers(page) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (r"<li>At 16,384 tokens the fastest", "<li>At 8,192 tokens the fastest"),
        (r"<b>48</b> unsupported", "<b>16</b> unsupported"),
        (r"Of \d+ cases", "Of 7 cases"),
        (r"<dt>records</dt><dd>\d+</dd>", "<dt>records</dt><dd>8</dd>"),
        (r"<dt>heads</dt><dd>[\d, ]+</dd>", "<dt>heads</dt><dd>2, 32</dd>"),
        (r"<dt>cores</dt><dd>2</dd>", "<dt>cores</dt><dd>8</dd>"),
        (r"8 from 128 to 16,384", "8 from 256 to 16,384"),
        (r"from 512 on: 1 is linear", "from 128 on: 1 is linear"),
    ],
)
def test_a_wrong_number_is_found_even_if_it_is_right_at_another_place(right: str, wrong: str) -> None:
    planted, times = re.subn(right, wrong, text_of("made up"), count=1)
    assert times == 1
    assert unknown_numbers(Page(planted)) != []


def test_an_unknown_number_is_found_at_every_place() -> None:
    page = Page(text_of("made up"))
    known = Known(page)
    missed, tried = [], 0
    for words, own in known.places(page):
        for match in NUMBER.finditer(words):
            tried += 1
            planted = words[: match.start()] + "98765.4" + words[match.end() :]
            missed += [planted] if "98765.4" not in known.unknown(planted, own) else []
    assert tried > 500
    assert missed == []


def test_series_and_settings_have_the_numbers_of_their_specs() -> None:
    run = load(ROOT / "reports/cpu-quick/run.json")
    run.records += synthetic.realistic(lengths=(512,)).records
    compared = compare([run])
    for record, case in zip(run.records, compared.cases, strict=True):
        values = [*leaves(record.spec.model_dump(mode="json")), *record.knobs.values()]
        known = {f"{value:{form}}" for value in values if isinstance(value, int | float) for form in (",", "g", ".3g")}
        assert numbers(f"{case['series']} {case['setting']}") <= known | numbers(record.spec.attention)


def test_remarks_under_a_plot_have_their_numbers_from_amounts() -> None:
    rng = np.random.default_rng(0)
    run = synthetic.run([*synthetic.realistic(lengths=(256, 512)).records,
                         synthetic.operation("sdpa", 256, rng).model_copy(update={"timing": None})])  # fmt: skip
    page = report_page.of(run)
    known, compared = Known(page), compare([run])
    remarks = [remark for plot in report_page.data(page)["report"]["remarks"] for remark in plot["remarks"]]
    visible = [words for views in report_page.figures(page).values() for view in views for plot in view["plots"]
               for words in plot["remarks"]]  # fmt: skip
    assert [remark["words"] for remark in remarks] == visible
    plots = [plot for panel in compared.levels for view in panel.views for plot in view.plots]
    remarks += [remark.as_json() for plot in plots for remark in plot.remarks]
    visible = [remark["words"] for remark in remarks]
    assert "Cases with a result but no time: 1." in visible
    assert [remark for remark in remarks if known.unknown(remark["words"], known.of(remark))] == []


def test_every_drawn_value_is_in_the_json() -> None:
    run = synthetic.realistic(lengths=(256, 512, 1024), modes=("forward",))
    page = report_page.of(run)
    data = report_page.data(page)
    known = {leaf for leaf in [*leaves(data["report"]), *leaves(data["runs"])] if isinstance(leaf, int | float)}
    drawn = {
        value
        for panel in ("operation", "task", "hashes", "seeds", "swaps")
        for view in (report_page.figures(page) | report_page.pictures(run))[panel]
        for plot in view["plots"]
        for trace in plot["data"]
        if trace.get("yaxis") != "y2"
        for value in trace["y"]
        if isinstance(value, float)
    }
    assert len(drawn) > 50
    assert drawn - known == set()
