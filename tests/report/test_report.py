"""The page of a whole run: what it draws, and what it must never hide."""

import base64
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import report_page
import synthetic
from report_page import SCRIPTS, Page, embedded_runs, figures, of, pictures

from harness.core.record import Quality, Run, Status
from harness.core.spec import OperationSpec, QualitySpec
from harness.report.comparison import compare
from harness.report.formats import html
from harness.report.model.amounts import ABSENT

SCRIPT_FILES = files("harness.report").joinpath("page", "scripts")
STATUSES: tuple[Status, ...] = get_args(Status)


def line_of(plot: dict, series: str) -> dict:
    """The line of a series, not its band or its failures."""
    return next(t for t in plot["data"] if t["meta"] == {"series": series} and "yaxis" not in t)


@pytest.fixture(scope="module")
def realistic() -> Run:
    return synthetic.realistic()


@pytest.fixture(scope="module")
def page(realistic: Run) -> Page:
    return of(realistic)


def test_the_page_is_one_file_that_needs_no_network(page: Page, realistic: Run, tmp_path: Path) -> None:
    path = html.write(compare([realistic]), tmp_path / "new" / "folder" / "report.html")
    assert path.is_file()
    assert set(page.addresses) == {"data:,", "#data"}
    assert "link" in page.tags  # the empty icon, without which a browser requests one from a server
    assert not re.search(r"@import|url\(", path.read_text(encoding="utf-8").split("</style>")[0])


def test_the_embedded_json_is_the_run(page: Page, realistic: Run) -> None:
    assert embedded_runs(page) == [realistic]


def test_the_page_contains_plotly_once(page: Page) -> None:
    assert page.tags.count("script") == len(SCRIPTS)
    assert tuple(page.scripts) == SCRIPTS
    assert len(page.scripts["plotly"]) > 300_000


def test_every_script_is_in_the_import_map(page: Page) -> None:
    sources = {path.name: path.read_text("utf-8") for path in SCRIPT_FILES.iterdir() if path.name.endswith(".js")}
    found = json.loads(page.scripts["scripts"])["imports"]
    texts = {name: base64.b64decode(url.removeprefix("data:text/javascript;base64,")) for name, url in found.items()}
    assert {f"{name.removeprefix('report/')}.js": text.decode() for name, text in texts.items()} == sources
    imported = {name for text in sources.values() for name in re.findall(r'(?:from|^import) "([^"]+)"', text, re.M)}
    assert imported <= set(found)
    assert 'import "report/main"' in page.scripts["main"]


def test_plotly_has_the_digest_in_SOURCE_md() -> None:
    vendor = files("harness.report").joinpath("page", "vendor")
    digest = hashlib.sha256(vendor.joinpath("plotly-basic.min.js").read_bytes()).hexdigest()
    assert digest in vendor.joinpath("SOURCE.md").read_text(encoding="utf-8")


def test_sections_come_in_order(page: Page) -> None:
    headings = [block.text for block in page.blocks if block.tag == "h2"]
    expected = [
        "Summary in words",
        "Scaling with length",
        "Crossovers",
        "Error against budget",
        "Scores after training",
        "Swapped attention",
        "Models of equal size",
        "Over the length",
        "Two costs at once",
        "Memory",
        "What did not run",
        "Verification",
        "Settings and machine",
        "Data",
    ]
    assert [heading for heading in headings if heading in expected] == expected


def test_every_section_has_a_finding_with_its_numbers(page: Page) -> None:
    summary, *of_sections, settings, data = [block.text for block in page.blocks if block.kind == "finding"]
    report = report_page.data(page)["report"]
    assert of_sections == [section["finding"]["words"] for section in report["sections"]]
    assert all(section["finding"]["amounts"] for section in report["sections"])
    assert (summary, data) == (report["finding"]["words"], report["data_finding"]["words"])
    assert settings == "Example CPU @ 2.0 GHz, 2 cores, torch 2.13.0, commit 0123456789."


def test_no_row_of_a_table_is_without_a_value(realistic: Run) -> None:
    for table in (table for section in compare([realistic]).sections for table in section.tables):
        for row in table.rows:
            values = [cell for name, cell in zip(table.columns, row, strict=True) if name in table.numeric_columns]
            assert not values or any(cell != ABSENT for cell in values), row
            assert not re.search("not enough lengths|no clear order", " ".join(map(str, row)))
        assert all(any(row[place] != ABSENT for row in table.rows) for place in range(len(table.columns)))


def test_every_record_without_a_result_is_listed_with_its_reason(page: Page, realistic: Run) -> None:
    failed = [record for record in realistic.records if record.status != "ok"]
    assert {record.status for record in failed} == set(STATUSES) - {"ok"}
    for record in failed:
        assert all(reason in page.text for reason in record.reasons)
    (table,) = next(each for each in compare([realistic]).sections if each.id == "failures").tables
    assert sum(row[3].value for row in table.rows) >= len(failed)
    assert {record.spec.attention for record in failed} == {name for row in table.rows for name in row[2].split(", ")}


def test_failures_are_marked_at_their_length_and_never_drawn_as_a_value(realistic: Run) -> None:
    forward = next(v for v in pictures(realistic)["operation"] if v["facets"]["Pass"] == "forward")
    for plot in forward["plots"][:2]:
        marks = [trace for trace in plot["data"] if trace.get("yaxis") == "y2"]
        marked = {(trace["meta"]["series"], n) for trace in marks for n in trace["x"]}
        assert {("softmax", 16384), ("sdpa_math", 16384), ("broken", 512), ("broken", 1024)} == marked
        reasons = " ".join(words for trace in marks for words in trace["hovertext"])
        assert "out of memory" in reasons
        assert "SIGSEGV in worker" in reasons
        softmax = line_of(plot, "softmax")
        assert max(softmax["x"]) == 8192
        assert min(softmax["y"]) > 0
    assert "xformers_cutlass" in " ".join(forward["plots"][0]["remarks"])


def test_lines_are_the_medians_of_the_records(realistic: Run) -> None:
    forward = next(v for v in pictures(realistic)["operation"] if v["facets"]["Pass"] == "forward")
    line = line_of(forward["plots"][0], "yoso")
    chosen = [
        record
        for record in realistic.records
        if isinstance(record.spec, OperationSpec) and record.spec.attention == "yoso" and record.spec.mode == "forward"
    ]
    medians = {r.spec.seq_len: float(np.median(r.timing.wall_seconds)) for r in chosen if r.timing}
    assert dict(zip(line["x"], line["y"], strict=True)) == medians
    assert "15 samples" in line["hovertext"][0]
    assert "kernel: yoso kernel" in line["hovertext"][0]
    assert "m = 32" in line["hovertext"][0]
    assert "tau = 7" in line["hovertext"][0]
    memory = line_of(forward["plots"][1], "yoso")
    assert memory["y"] == [record.memory.peak_bytes for record in chosen if record.memory]


def test_a_series_has_one_colour_in_every_plot(page: Page) -> None:
    colors_of: dict[str, set[str]] = {}
    for views in figures(page).values():
        for trace in (t for view in views for plot in view["plots"] for t in plot["data"]):
            if color := trace.get("marker", {}).get("color"):
                colors_of.setdefault(trace["meta"]["series"], set()).add(color)
    assert len(colors_of) > 8
    assert all(len(colors) == 1 for colors in colors_of.values())


def test_each_hash_family_has_its_own_line(page: Page) -> None:
    views = figures(page)["hashes"]
    assert [v["facets"]["Error of"] for v in views] == [
        "the output",
        "the gradient of q",
        "the gradient of k",
        "the gradient of v",
    ]
    lines = [t for t in views[0]["plots"][0]["data"] if "hovertext" in t]
    assert [t["meta"]["series"].split("=")[1] for t in lines] == ["gaussian)", "hadamard)", "hadamard_dependent)"]
    assert all(t["x"] == [8, 16, 32, 64, 128] for t in lines)


def test_errors_that_cannot_be_drawn_are_named_in_the_remarks() -> None:
    exact = QualitySpec(attention="softmax", seq_len=1024)
    records = [
        synthetic.quality("gaussian", 8, np.random.default_rng(0)),
        synthetic.record(exact, quality=Quality(reference="float64", errors={"output": [2e-7]})),
    ]
    plot = figures(of(synthetic.run(records)))["hashes"][0]["plots"][0]
    assert plot["title"] == "Relative error of the output against yoso_e; inputs: sharp (one key per query)"
    assert plot["remarks"] == ["softmax is not drawn: it has no budget; error 2.00e-07 against float64."]


def test_accuracy_shows_every_seed_and_both_baselines(page: Page) -> None:
    plot = figures(page)["seeds"][0]["plots"][0]
    dots = {t["meta"]["series"]: t["x"] for t in plot["data"] if len(t["x"]) == 2}
    assert dots["yoso"] == [0.352, 0.361]
    assert {note["text"] for note in plot["layout"]["annotations"]} == {"chance 10.0%", "majority 17.2%"}


def test_machine_commit_command_and_settings_are_on_the_page(page: Page, realistic: Run) -> None:
    assert realistic.commit is not None
    for words in (realistic.command, realistic.commit, "Example CPU @ 2.0 GHz", "record schema", "torch CPU allocator"):
        assert words in page.text
