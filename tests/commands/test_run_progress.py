"""What ``harness run`` prints while it runs: lines in a log file, and a bar on a terminal of 80 columns."""

import shlex
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import wrong_attentions as wrong
from rich.console import Console

from harness.core.case_words import names_of_cases
from harness.core.spec import OperationSpec, QualitySpec, TaskSpec
from harness.core.time_left import TimeLeft
from harness.pytest_plugin import progress as progress_module
from harness.pytest_plugin.collected import SESSION
from harness.pytest_plugin.progress import RunProgress
from harness.training.step_counter import StepCounter, read_steps

pytest_plugins = ["pytester", "harness_session"]
OPTIONS = (
    "-q",
    "--tb=no",
    "-rN",
    "-o",
    "console_output_style=classic",
    "--harness-progress=harness run --out=run.json",
)


@pytest.mark.usefixtures("attentions_imported", "out")
def test_a_log_file_gets_a_line_per_case_then_the_result_and_what_to_do_next(pytester, suite, added, run_session):
    mine = added(wrong.RAISES)
    suite(["sdpa_cudnn", "sdpa", *mine])
    pytester.makepyfile(test_other="def test_other(): assert 1 == 2")
    result = run_session(*OPTIONS)
    lines = result.outlines
    assert "\x1b" not in "".join(lines)
    assert lines[0] == "3 cases"
    assert lines[1] == "all operation cases: n128 b1 h2 d64 fwd fp32 cpu"
    result.stdout.fnmatch_lines(
        [
            "1/3 operation sdpa_cudnn: unsupported: *runs on CUDA, not on cpu* (about * left)",
            "2/3 operation sdpa: * *s*, only rounding error, * KiB (about * left)",
            "3/3 operation raises: crashed: ValueError: no such luck*",
            "test_other.py::test_other",
            "*assert 1 == 2*",
            "*: sdpa, forward of 128 tokens: *, only rounding error; *",  # a busy machine disturbs its only time
            "cases: 1 ok, 1 unsupported, 1 crashed",
            "JSON: out/run.json",
            "log: out/run.log.jsonl",
            "2 failed, 1 passed, 1 skipped*",
        ]
    )
    text = result.stdout.str()
    assert "left)" not in text.split("no such luck")[1]
    assert "SKIPPED" not in text
    assert "test_operation[" not in text


@pytest.mark.usefixtures("attentions_imported", "out")
def test_a_run_with_cases_that_did_not_begin_says_how_to_continue(suite, run_session):
    suite(["sdpa"])
    result = run_session(*OPTIONS, "--deadline=0")
    result.stdout.fnmatch_lines(
        ["not all cases were measured; continue with: harness run --out=run.json --resume out/run.log.jsonl"]
    )
    result = run_session("--deadline=0", "--resume=out/run.log.jsonl")
    line = next(line for line in result.outlines if line.startswith("not all cases"))
    words = shlex.split(line.partition(": ")[2])
    assert words[0] == "pytest"
    assert [word for word in words if word.startswith("--resume")] == ["--resume=out/run.log.jsonl"]


@pytest.fixture
def bar(monkeypatch):
    """A ``RunProgress`` in the middle of a run of three cases, and a function that gives its bar at 80 columns."""
    long = TaskSpec(attention="x" * 60, seq_len=64)
    specs = [OperationSpec(attention="sdpa", seq_len=n) for n in (128, 512)] + [long]
    items = [SimpleNamespace(nodeid=spec.case_id, spec=spec, get_closest_marker=lambda name: None) for spec in specs]
    monkeypatch.setattr(progress_module, "spec_of", lambda item: item.spec)
    written = []
    writer = SimpleNamespace(width_of_current_line=0)
    reporter = SimpleNamespace(
        write_line=written.append, stats={}, config=SimpleNamespace(get_terminal_writer=lambda: writer)
    )
    plugins = SimpleNamespace(get_plugin=lambda name: reporter)
    option = SimpleNamespace(collectonly=False)
    stash = {SESSION: SimpleNamespace(cases_of_log=frozenset(), rounds=1)}
    running = RunProgress("harness run", live=False)
    running.pytest_collection_finish(
        SimpleNamespace(items=items, config=SimpleNamespace(pluginmanager=plugins, option=option, stash=stash))
    )

    def drawn():
        out = StringIO()
        Console(file=out, width=80, force_terminal=True, color_system=None).print(running._bar())
        return out.getvalue()

    yield running, items, drawn, written
    running.close()


def report(item, words):
    return SimpleNamespace(nodeid=item.nodeid, when="call", user_properties=[("harness", words)], outcome="passed")


def test_the_bar_counts_cases_and_steps_and_estimates_what_is_left(bar, monkeypatch):
    running, items, drawn, written = bar
    clock = iter(range(10, 10_000, 10))
    monkeypatch.setattr(progress_module, "monotonic", lambda: next(clock))
    running.pytest_runtest_logstart(items[0].nodeid)
    assert "0/3 cases" in drawn()
    assert "operation n128" in drawn()
    running.pytest_runtest_logreport(report(items[0], "12.3 ms"))
    running.pytest_runtest_logfinish(items[0].nodeid)
    assert written[-1].startswith("1/3 operation n128: 12.3 ms (about ")
    assert "1/3 cases" in drawn()
    assert " left" in drawn()
    running.pytest_runtest_logstart(items[2].nodeid)
    StepCounter(Path(progress_module.os.environ[progress_module.STEPS]))(120, 400)
    lines = drawn().splitlines()
    assert max(map(len, lines)) <= 80
    text = "".join(line.rstrip() for line in lines)
    assert "step 120 of 400, about " in text
    assert "x" * 60 in text.replace("\n", "")


def test_the_time_left_is_the_mean_of_each_kind_and_else_of_all():
    left = TimeLeft()
    assert left.seconds(["operation"]) is None
    left.add("operation", 1.0)
    left.add("operation", 3.0)
    left.add("quality", 8.0)
    assert left.seconds(["operation", "quality", "task"]) == 2.0 + 8.0 + 4.0
    assert left.seconds([]) == 0


def test_names_say_their_kind_and_what_all_of_a_kind_share_is_said_once():
    specs = [OperationSpec(attention="sdpa", seq_len=n) for n in (128, 512)]
    shared, names = names_of_cases([*specs, QualitySpec(attention="sdpa", seq_len=128)])
    assert shared == ["all operation cases: sdpa b1 h8 d64 fwd fp32 cpu"]
    assert [*names.values()] == [
        "operation n128",
        "operation n512",
        "quality/sdpa-n128-b1-h2-d64-draws8-cos0.9-fp32-cpu",
    ]


def test_two_thousand_cases_have_different_names():
    specs = [OperationSpec(attention=f"a{number % 40}", seq_len=1 + number // 40) for number in range(2000)]
    _, names = names_of_cases(specs)
    assert len(set(names.values())) == 2000
    assert max(map(len, names.values())) < 20


def test_a_training_tells_its_steps_by_a_file_and_never_fails_because_of_it(tmp_path, monkeypatch):
    monkeypatch.delenv(progress_module.STEPS, raising=False)
    assert StepCounter.of_environment() is None
    monkeypatch.setenv(progress_module.STEPS, str(tmp_path / "steps"))
    counter = StepCounter.of_environment()
    counter(1, 100)
    counter(2, 100)  # too soon to be written
    assert read_steps(tmp_path / "steps") == (1, 100)
    counter(100, 100)
    assert read_steps(tmp_path / "steps") == (100, 100)
    (tmp_path / "steps").write_text("10")
    assert read_steps(tmp_path / "steps") is None
    assert read_steps(tmp_path / "none") is None
    StepCounter(tmp_path / "no" / "folder")(1, 1)
