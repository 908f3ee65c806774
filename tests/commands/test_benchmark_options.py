"""pytest-benchmark's own options and commands, with cases of the harness: what holds, and what is refused in words."""

import json
import sys
from pathlib import Path

import pytest
import synthetic
from pytest_benchmark import cli as benchmark_cli
from pytest_benchmark import plugin as benchmark_plugin
from pytest_benchmark.logger import PytestBenchmarkWarning

import harness.pytest_plugin.hooks  # noqa: F401  pytester unloads what an inner session imports, and numpy loads once
from harness.cases import in_this_process
from harness.core.record import Timing
from harness.core.store import load
from harness.measure import ceilings
from harness.pytest_plugin.benchmark_json import of_stored_run

pytest_plugins = ["pytester", "harness_session"]
REPORTS = Path(__file__).parents[2] / "reports"


@pytest.fixture(autouse=True)
def _without_ceilings(monkeypatch):
    monkeypatch.setattr(ceilings, "measure", lambda device: [])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--benchmark-disable", "*every case of the harness is a measurement; -m 'quality or task' leaves out those*"),
        ("--benchmark-warmup=off", "*the harness warms every call up as the profile says"),
        ("--benchmark-timer=time.time", "*the harness times with time.perf_counter*"),
        ("--benchmark-min-time=0.000005", "*the harness groups calls shorter than half a millisecond*"),
        ("--benchmark-cprofile=cumtime", "*a profiler would change the times; no case is profiled"),
    ],
)
def test_an_option_that_cannot_hold_is_refused_before_anything_is_measured(
    pytester, out, suite, run_session, option, words
):
    suite(["sdpa"])
    result = run_session(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: leave out {option.partition('=')[0]}: {words}"])
    assert not list((pytester.path / "out").iterdir())


def test_a_session_without_cases_of_the_harness_keeps_every_option(pytester, out, run_session):
    pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    pytester.makepyfile("def test_own(benchmark): benchmark(int)")
    run_session("--benchmark-disable", "--benchmark-timer=time.time").assert_outcomes(passed=1)


def test_rounds_time_tables_and_comparisons_hold(pytester, out, suite, run_session):
    """On a first run there is nothing to compare with, which is a warning also where warnings are errors."""
    suite(["sdpa"])
    with pytest.warns(PytestBenchmarkWarning, match="Can't compare. No benchmark files"):
        result = run_session("--benchmark-compare", "--benchmark-autosave", "--benchmark-storage=kept")
    result.assert_outcomes(passed=1)
    options = ["--benchmark-compare", "--benchmark-columns=median", "--benchmark-storage=kept"]
    result = run_session(*options, "--benchmark-min-rounds=40", "--benchmark-max-time=0.01")
    assert result.ret == pytest.ExitCode.OK
    for line in ("* Median *", "test_operation?operation/sdpa* (NOW) *", "test_operation?*(0001_*"):
        result.stdout.fnmatch_lines([line])
    written = json.loads((pytester.path / "out" / "run.json").read_text())
    (bench,) = written["benchmarks"]
    (record,) = load(pytester.path / "out" / "run.json").records
    assert len(bench["stats"]["data"]) == 40
    warm_up = record.timing.warmup_calls
    assert bench["options"] == {
        "timer": "perf_counter", "disable_gc": True, "warmup": True, "warmup_iterations": warm_up, "min_rounds": 40,
        "max_time": 0.01,
    }  # fmt: skip
    _a_stored_run_is_the_same_benchmark_json(pytester, written, bench, record)


def _a_stored_run_is_the_same_benchmark_json(pytester, written, bench, record):
    again = of_stored_run(load(pytester.path / "out" / "run.log.jsonl"))
    assert again["harness"] == written["harness"]
    (stored,) = again["benchmarks"]
    assert stored["stats"].pop("data") == pytest.approx(bench["stats"].pop("data"))
    assert stored["stats"] == pytest.approx(bench["stats"])
    assert stored["extra_info"] == bench["extra_info"]
    assert stored["name"] == bench["name"] == f"test_operation[{record.case_id}]"
    assert stored["options"].items() <= bench["options"].items()
    assert again["machine_info"]["python_version"] == written["machine_info"]["python_version"]


def test_every_published_run_is_read_by_pytest_benchmark_and_says_on_which_machine_it_ran(
    capsys, monkeypatch, tmp_path
):
    paths = [*sorted(REPORTS.glob("*/run.json")), REPORTS / "cpu-yoso" / "lengths.json"]
    assert len(paths) > 5
    timed = 0
    for path in paths:
        written = json.loads(path.read_text())
        assert {"machine_info", "commit_info", "benchmarks", "datetime", "version", "harness"} <= set(written)
        assert "cpu" in written["machine_info"]
        records = [record for record in load(path).records if record.timing is not None]
        assert len(written["benchmarks"]) == len(records)
        timed += len(records)
    monkeypatch.chdir(tmp_path)
    command = ["pytest-benchmark", "compare", "--columns=median", "--group-by=fullname", *map(str, paths)]
    monkeypatch.setattr(sys, "argv", command)
    benchmark_cli.main()
    assert "test_operation[operation/yoso-n512" in capsys.readouterr().out
    assert timed > 500


def test_a_comparison_is_refused_before_measuring_and_disturbed_times_are_inconclusive(
    pytester, out, suite, run_session, monkeypatch
):
    suite(["sdpa"])

    def measure(spec, effort):
        timing = Timing(wall_seconds=[seconds] * 3, warmup_calls=1, threads=2, disturbed=is_disturbed)
        return synthetic.record(spec, timing=timing)

    monkeypatch.setattr(in_this_process, "run", measure)
    monkeypatch.setattr(benchmark_plugin, "get_cpu_info", dict)  # takes seconds in each session
    fail, kept = "--benchmark-compare-fail=median:1%", "--benchmark-storage=kept"
    result = run_session(fail, kept)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --benchmark-compare-fail needs a stored run *add --benchmark-compare, *"])
    with pytest.warns(PytestBenchmarkWarning, match="Can't compare"):
        result = run_session(fail, kept, "--benchmark-compare")
    result.stderr.fnmatch_lines(["ERROR: --benchmark-compare-fail *kept has none: store one with *-autosave first"])
    assert not list((pytester.path / "out").iterdir())

    seconds, is_disturbed = 1e-3, False
    run_session(kept, "--benchmark-autosave").assert_outcomes(passed=1)
    (stored,) = pytester.path.glob("kept/*/*.json")
    earlier = json.loads(stored.read_text())
    seconds = 1.0
    for is_disturbed, was_disturbed in ((True, False), (False, True), (False, False)):
        earlier["harness"]["records"][0]["timing"]["disturbed"] = was_disturbed
        stored.write_text(json.dumps(earlier))
        result = run_session(fail, kept, "--benchmark-compare")
        if is_disturbed or was_disturbed:
            assert result.ret == 2
            result.stdout.fnmatch_lines(["inconclusive: --benchmark-compare-fail finds operation/sdpa-* slower, but *"])
        else:
            result.stderr.fnmatch_lines(["*PerformanceRegression: Performance has regressed."])
    earlier["benchmarks"][0]["fullname"] = "another"
    stored.write_text(json.dumps(earlier))
    result = run_session(fail, kept, "--benchmark-compare")
    result.stderr.fnmatch_lines(["ERROR: --benchmark-compare-fail has nothing to compare: *none of the 1 tests*"])


def test_a_run_that_measures_no_case_keeps_the_json_of_an_earlier_one(pytester, out, suite, run_session):
    suite(["sdpa"])
    earlier = pytester.path / "out" / "run.json"
    earlier.write_text("an earlier run")
    run_session("--benchmark-skip").stdout.fnmatch_lines(["no case was measured: out/run.json is that of an earlier *"])
    assert "JSON: " not in run_session("--deadline=0").stdout.str()
    assert earlier.read_text() == "an earlier run"
