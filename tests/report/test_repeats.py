"""Repeats of a run are rounds of it; runs that only have their commit in common are not."""

import json
from pathlib import Path

import numpy as np
import pytest
import report_page
import synthetic
from test_page_data import data_of
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.merged_runs import merge_repeats
from harness.core.record import Run, Timing
from harness.core.spec import OperationSpec
from harness.report.model.records_table import report_rows
from harness.report.model.style import assign_styles
from harness.report.questions import memory_use

COMMIT = "a" * 40


def repeat(number: int, seconds: float = 0.1, **changes: object) -> Run:
    """A run with one timed case, the errors of an attention and a trained model; the latter two are always equal."""
    rng = np.random.default_rng(number)
    records = [
        synthetic.timed(OperationSpec(attention="sdpa", seq_len=512), seconds, 1e6, rng),
        synthetic.quality("gaussian", 32, np.random.default_rng(0)),
        synthetic.task("yoso", [0.3, 0.4]),
        synthetic.record(OperationSpec(attention="broken", seq_len=512), "oom"),
    ]
    return synthetic.run(records, **({"commit": COMMIT} | changes))


def test_repeats_are_rounds_of_one_run_with_the_interval_between_processes() -> None:
    repeats = [repeat(0, 0.100), repeat(1, 0.130), repeat(2, 0.160)]
    (run,), notices = merge_repeats([(f"{n}.json", one) for n, one in enumerate(repeats)])
    assert notices == [
        "1.json and 2.json repeat 0.json: same commit, machine and settings. They are rounds of one run."
    ]
    times = [row.time for row in report_rows(run) if row.time is not None]
    assert [time.processes for time in times] == [3, 3, 3]
    (alone,) = [row.time for row in report_rows(repeats[1]) if row.time is not None]
    low, high = times[0].low, times[0].high
    assert low is not None
    assert high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert low < 0.100 < 0.160 < high
    assert high - low > 3 * (alone.high - alone.low)
    assert [record.spec.kind for record in run.records] == [
        "operation",
        "quality",
        "task",
        "operation",
        *["operation"] * 2,
    ]
    assert run.started == repeats[0].started


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"machine": {"cpu": "Example CPU @ 2.0 GHz", "cores": 2, "torch": "2.14.0"}}, "torch: a.json has 2.13.0"),
        ({"profile": "quick"}, "profile: a.json has standard, b.json quick"),
        ({"commit": "b" * 40}, None),
    ],
)
def test_another_setting_is_named_and_stays_apart(changes: dict[str, object], reason: str | None) -> None:
    runs, notices = merge_repeats([("a.json", repeat(0)), ("b.json", repeat(1, **changes))])
    assert len(runs) == 2
    assert len(notices) == (reason is not None)
    if reason is not None:
        assert notices[0].startswith("b.json is of the same commit as a.json, but no repeat of it: ")
        assert reason in notices[0]


def test_another_number_of_threads_stays_apart() -> None:
    other = repeat(1)
    timing = other.records[0].timing
    assert timing is not None
    other.records[0].timing = Timing(**(timing.model_dump() | {"threads": 7}))
    runs, (notice,) = merge_repeats([("a.json", repeat(0)), ("b.json", other)])
    assert len(runs) == 2
    assert "threads: a.json has 2, b.json 7" in notice


def test_one_run_given_twice_is_no_repeat() -> None:
    runs, (notice,) = merge_repeats([("a.json", repeat(0)), ("b.json", repeat(0))])
    assert len(runs) == 2
    assert "both a.json and b.json hold the same records" in notice


@pytest.mark.parametrize("changes", [{"commit": f"{COMMIT}+dirty"}, {"commit": None}, {"session": "one"}])
def test_runs_that_may_be_of_different_code_or_are_compared_with_each_other_stay_apart(
    changes: dict[str, object],
) -> None:
    runs, notices = merge_repeats([("a.json", repeat(0, **changes)), ("b.json", repeat(1, **changes))])
    assert len(runs) == 2
    assert notices == []


def test_a_method_of_several_rounds_has_one_peak_and_its_interval_says_of_how_many_processes() -> None:
    rng = np.random.default_rng(0)
    specs = [OperationSpec(attention=name, seq_len=512) for name in ("sdpa", "linear", "yoso")]
    repeats = [synthetic.run([synthetic.timed(spec, 0.1, 1e6, rng) for spec in specs], commit=COMMIT) for _ in range(3)]
    (run,), _ = merge_repeats([(f"{n}.json", one) for n, one in enumerate(repeats)])
    rows = report_rows(run)
    (peaks,) = map(str, memory_use.sentences(rows))
    assert all(peaks.count(name) == 1 for name in ("sdpa", "linear", "yoso"))
    finding = str(memory_use.memory_finding(rows))
    assert finding.count("yoso") == 1
    plot = memory_use.memory_plot(rows, assign_styles((row.series, row.series) for row in rows))
    assert [len(trace["x"]) for trace in plot.figure["data"]] == [1, 1, 1]
    for runs, scope in ((run, "between 3 processes"), (repeats[0], "within one process")):
        (setting,) = data_of(runs).settings
        assert {str(row.interval_scope) for row in setting.rows} == {scope}
        assert setting.rows[0].as_json()["intervalScope"]["words"] == scope


def test_the_report_says_which_files_are_rounds_and_has_no_facet_of_runs(tmp_path: Path) -> None:
    paths = [tmp_path / "<b>a.json", tmp_path / "b.json"]
    for number, path in enumerate(paths):
        run = repeat(number)
        path.write_text(json.dumps({"harness": json.loads(run.model_dump_json())}), encoding="utf-8")
    done = CliRunner().invoke(app, ["report", *map(str, paths), "-o", str(tmp_path / "r.html")])
    assert done.exit_code == 0, done.output
    page = report_page.Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert f"{paths[1]} repeats {paths[0]}: same commit, machine and settings." in page.text
    (run,) = report_page.embedded_runs(page)
    assert len(run.records) == 5
    assert "Comparison of the runs" not in page.text
