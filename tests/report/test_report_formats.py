"""Markdown, LaTeX, CSV and pictures, all from the data that the page is made of."""

import csv
import json
import shutil
from pathlib import Path

import kaleido
import pytest
import synthetic
from plotly.graph_objects import Figure
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core import escaping
from harness.core.record import Check, Run
from harness.core.spec import OperationSpec
from harness.report.comparison import Comparison, compare
from harness.report.formats import csv_table, folder, images, latex, markdown

ROOT = Path(__file__).parents[2]
HOSTILE = "a|b\n# <img src=x> \\end{document} %_&$ =1+1"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare([synthetic.realistic(lengths=(256, 512, 1024, 2048))])


def hostile() -> Run:
    return synthetic.run([synthetic.record(OperationSpec(attention=HOSTILE, seq_len=64), "crashed", reasons=[HOSTILE])])


def test_markdown_has_the_sentences_and_every_table(comparison: Comparison) -> None:
    text = markdown.render(comparison)
    plain = text.replace("\\", "")
    for sentence in comparison.summaries[0].sentences:
        assert str(sentence) in plain
    for section in comparison.sections:
        for table in section.tables:
            assert all(escaping.markdown(str(cell)) in text for row in table.rows for cell in row)
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("| forward")}
    assert min(widths) > 3


def test_names_that_would_reorder_the_text_around_them_are_isolated() -> None:
    override, longer, breaking = "\u202egnol", "\u202egnol_oot", "\u202ea\u2069"
    text = json.dumps(
        [{"name": override, "plain": ["sdpa"]}, longer, breaking, {"\u05e7": "\N{EN DASH} \N{MICRO SIGN}"}]
    )
    assert escaping.reordering_texts(json.dumps(["sdpa", "\N{EN DASH} \N{MICRO SIGN}"], ensure_ascii=False)) == []
    names = escaping.reordering_texts(json.dumps(json.loads(text), ensure_ascii=False))
    assert names == sorted([override, longer, breaking, "\u05e7"])
    isolate = escaping.isolating(names)
    assert isolate(f"{longer} 3, {override} 4") == f"\u2068{longer}\u2069 3, \u2068{override}\u2069 4"
    assert isolate(f"{breaking} 5") == "\u2068\u202ea\u2069 5"  # no name ends its own isolate
    assert isolate("sdpa 6") == escaping.isolated("sdpa 6") == "sdpa 6"


def test_markdown_and_latex_keep_hostile_names_as_text() -> None:
    compared = compare([hostile()])
    text = markdown.render(compared)
    assert "<img" not in text.replace("\\<img", "")
    assert "\n# \\<" not in text
    spec = OperationSpec(attention=HOSTILE, seq_len=64)
    check = Check(what=HOSTILE, error=1.0, allowed=0.5, passed=False)
    latexed = latex.render(compare([synthetic.run([synthetic.record(spec, "incorrect", checks=[check])])]))
    assert "\\end{document}" not in latexed
    assert "\\textbackslash{}end\\{document\\}" in latexed


def test_latex_is_balanced(comparison: Comparison) -> None:
    text = latex.render(comparison)
    tables = sum(len(section.tables) for section in comparison.sections)
    assert text.count("\\begin{longtable}") == text.count("\\end{longtable}") == tables


def test_csv_has_every_case_with_every_digit(comparison: Comparison, tmp_path: Path) -> None:
    csv_table.write(comparison.cases, tmp_path / "cases.csv")
    with (tmp_path / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [record.case_id for record in comparison.raw[0].records]
    for row, case in zip(rows, comparison.cases, strict=True):
        assert row["seconds"] == ("" if case["seconds"] is None else repr(case["seconds"]))
    assert {row["status"] for row in rows} > {"ok", "unsupported"}


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    rows = [{"case": text, "seconds": -0.5} for text in ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "plain")]
    csv_table.write(rows, tmp_path / "cases.csv")
    with (tmp_path / "cases.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["case"] for row in found] == ["'=1+1", "'+1", "'-1", "'@x", "'\t=1", "'\r=1", "plain"]
    assert {row["seconds"] for row in found} == {"-0.5"}


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a`b`\n# c", "a\\`b\\` \\# c"),
        ("- x", "\\- x"),
        ("1. x", "1\\. x"),
        ("---", "\\---"),
        ("+30.0%", "+30.0%"),
        ("@me &lt; <b>", "&#64;me &#38;lt; &#60;b&#62;"),
        ("a\u2028b\x1b\ud800", "a b\ufffd\ufffd"),
        ("$x$ ~y~ [z](u)", "\\$x\\$ \\~y\\~ \\[z\\](u)"),
    ],
)
def test_nothing_of_a_text_is_markdown(text: str, escaped: str) -> None:
    assert escaping.markdown(text) == escaped


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here: apt-get install chromium")
def test_a_folder_gets_every_format(tmp_path: Path) -> None:
    run = synthetic.realistic(lengths=(512, 1024), modes=("forward",))
    run.records = [record for record in run.records if record.spec.kind in {"operation", "quality"}]
    written = folder.write(compare([run]), tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in written}
    assert {"index.html", "report.md", "tables.tex", "cases.csv", "figures/operation-front.svg"} < names
    pictures = [path for path in written if path.parent.name == "figures"]
    assert len(pictures) == 2 * 9
    for path in pictures:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG" if path.suffix == ".png" else b"<svg")
        assert len(content) > 3000


def test_pictures_are_drawn_from_figures_that_plotly_has_checked(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, object]] = []
    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", lambda drawings, kopts: drawn.extend(drawings))
    images.write(comparison, tmp_path)
    figures = [drawing["fig"] for drawing in drawn]
    assert len(figures) > 10
    assert all(isinstance(figure, Figure) for figure in figures)
    assert not any(figure.to_dict()["layout"].get("template") for figure in figures)  # the report's own look


def test_without_a_browser_everything_but_the_pictures_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise images.NoBrowser("found none")

    monkeypatch.setattr(images, "write", fail)
    source = ROOT / "reports/cpu-yoso/model.json"
    done = CliRunner().invoke(app, ["report", str(source), "-o", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "without pictures: found none" in done.stderr
    assert (tmp_path / "out" / "index.html").exists()
    assert (tmp_path / "out" / "cases.csv").exists()
