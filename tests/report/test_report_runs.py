"""Reports of several runs: machines side by side, before and after, and files that cannot be compared."""

import json
from pathlib import Path

import numpy as np
import pytest
import report_page
import synthetic
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.record import Record, Run
from harness.core.spec import OperationSpec
from harness.report.comparison import compare
from harness.report.model.page_parts import Evidence
from harness.report.model.records_table import report_rows, run_labels
from harness.report.questions import run_differences


def timed(seed: int, scale: float = 1.0, **changes: object) -> Run:
    rng = np.random.default_rng(seed)
    records: list[Record] = [
        synthetic.timed(
            OperationSpec(attention=name, seq_len=n), (scale if name == "yoso" else 1.0) * 1e-5 * n, 1e6, rng
        )
        for name in ("yoso", "sdpa")
        for n in (256, 512, 1024)
    ]
    return synthetic.run(records, **changes)


def save(run: Run, path: Path, **changes: object) -> Path:
    path.write_text(json.dumps({"harness": json.loads(run.model_dump_json()) | changes}), encoding="utf-8")
    return path


def evidence(runs: list[Run]) -> Evidence:
    return Evidence(runs, run_labels(runs), report_rows(*runs), {})


def test_only_the_changed_attention_is_listed() -> None:
    runs = [timed(0), timed(1, scale=2.0, commit="abc")]
    (table,) = run_differences.difference_tables(evidence(runs))
    slower = [row for row in table.rows if row[3].value > 1.5]
    assert {row[0] for row in slower} == {f"operation/yoso-n{n}-b1-h8-d64-fwd-fp32-cpu" for n in (256, 512, 1024)}
    assert all(row[3].value == pytest.approx(2, rel=0.1) for row in slower)
    words = str(run_differences.sentences(evidence(runs))[0])
    assert "of 6 cases timed in both" in words
    assert "machines differ" not in words


def test_no_plot_combines_two_runs_except_the_ratio() -> None:
    runs = [timed(0), timed(1, scale=2.0, commit="abc")]
    page = report_page.of(*runs)
    views = report_page.figures(page) | report_page.pictures(*runs)
    assert [view["facets"]["Run"] for view in views["operation"]] == run_labels(runs)
    (ratio,) = views["difference"]
    line = next(t for t in ratio["plots"][0]["data"] if t["meta"] == {"series": "yoso"})
    assert line["y"] == pytest.approx([2, 2, 2], rel=0.1)
    assert report_page.embedded_runs(page) == runs


def test_different_machines_are_named_and_still_compared() -> None:
    other = timed(1, machine={"cpu": "Other CPU"})
    text = report_page.of(timed(0), other).text
    assert "These runs are from different machines (Example CPU @ 2.0 GHz, Other CPU)" in text
    assert "the machines differ, so a difference is not due to the code alone" in text


def test_equal_labels_are_numbered() -> None:
    assert len(set(run_labels([timed(0), timed(1), timed(2)]))) == 3


def test_a_case_that_stopped_running_is_listed() -> None:
    after = timed(1)
    after.records[0] = synthetic.record(after.records[0].spec, "oom")
    runs = [timed(0), after]
    (table,) = run_differences.difference_tables(evidence(runs))
    assert [str(cell) for cell in table.rows[0][1:3]] == ["ok", "out of memory"]


def test_a_file_of_another_schema_version_is_left_out_with_a_notice(tmp_path: Path) -> None:
    good, old = save(timed(0), tmp_path / "good.json"), save(timed(1), tmp_path / "old.json", schema_version=0)
    done = CliRunner().invoke(app, ["report", str(good), str(old), "-o", str(tmp_path / "r.html")])
    assert done.exit_code == 2
    assert "expected schema version 1, found 0" in done.stderr
    text = report_page.Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    assert "Left out:" in text
    assert "expected schema version 1, found 0" in text


def test_records_of_another_schema_version_in_a_run_give_a_notice() -> None:
    run = timed(0)
    run.records[0].schema_version = 7
    assert "The records have the schema versions 1, 7" in report_page.of(run).text


def test_an_empty_run_next_to_another_gives_a_notice() -> None:
    assert "Runs without records:" in report_page.of(timed(0), synthetic.run([], commit="empty")).text


def test_missing_metrics_are_in_the_remarks() -> None:
    bare = synthetic.run([synthetic.record(OperationSpec(attention="sdpa", seq_len=n)) for n in (64, 128)])
    plots = report_page.pictures(bare)["operation"][0]["plots"]
    assert "Cases with a result but no time: 2." in plots[0]["remarks"]
    assert "Cases with a result but no memory measurement: 2." in plots[1]["remarks"]
    assert all(plot["empty"] for plot in plots)


def test_no_runs_is_an_error() -> None:
    with pytest.raises(ValueError, match="runs must contain at least one run"):
        compare([])
