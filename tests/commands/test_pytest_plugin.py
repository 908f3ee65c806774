"""The pytest plugin in a real pytest session: the JSON, the log and the terminal output."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import wrong_attentions as wrong
from safetensors.torch import save_file

from harness.core.store import Log, load
from harness.measure import ceilings, recordings
from harness.pytest_plugin.options import json_path
from harness.report.comparison import compare
from harness.statistics import disturbed_run

pytest_plugins = ["pytester", "harness_session"]
pytestmark = pytest.mark.usefixtures("attentions_imported", "out")


def test_timings_become_pytest_benchmarks_statistics(pytester, suite, run_session, stored_run):
    suite(["sdpa"])
    result = run_session()
    result.assert_outcomes(passed=1)
    written = json.loads((pytester.path / "out" / "run.json").read_text())
    (bench,) = written["benchmarks"]
    (record,) = stored_run().records
    assert bench["stats"]["data"] == pytest.approx(record.timing.wall_seconds)
    assert bench["stats"]["iterations"] == record.timing.calls_per_sample
    assert bench["params"] == {"case": record.case_id}
    assert bench["extra_info"]["status"] == "ok"
    assert bench["extra_info"]["memory"]["peak_bytes"] == record.memory.peak_bytes
    assert "timing" not in bench["extra_info"]
    assert "node" not in written["machine_info"]


def test_the_log_has_the_same_run_as_the_json(pytester, suite, run_session, stored_run):
    suite(["sdpa", "sdpa_cudnn"])
    run_session()
    assert load(pytester.path / "out" / "run.log.jsonl") == stored_run()


def test_the_header_reproduces_the_run_and_names_no_machine_path(pytester, suite, stored_run):
    suite(["sdpa"])
    pytester.runpytest_inprocess(f"--benchmark-json={pytester.path}/out/run.json", "--profile", "quick")
    stored = stored_run()
    assert stored.command == "pytest --benchmark-json=out/run.json --profile quick"
    assert stored.profile == "quick"
    assert str(pytester.path) not in stored.model_dump_json()


def test_skips_and_failures_carry_their_reasons(suite, added, run_session):
    suite(["sdpa_cudnn", *added(wrong.RAISES, wrong.plugin_of(wrong.zeros), wrong.RIGHT)])
    result = run_session("-rsf")
    result.assert_outcomes(passed=1, skipped=1, failed=2)
    result.stdout.fnmatch_lines(["SKIPPED*runs on CUDA, not on cpu*"])
    result.stdout.fnmatch_lines(["*incorrect: output: error 1, allowed*"])
    result.stdout.fnmatch_lines(["*crashed: ValueError: no such luck*"])
    result.stdout.fnmatch_lines(["cases: 1 ok, 1 unsupported, 1 incorrect, 1 crashed"])


def test_broken_attentions_leave_the_others_and_the_json_complete(suite, added, run_session, stored_run):
    broken = added(*wrong.INCORRECT, wrong.RAISES)
    suite(["sdpa", *broken, "softmax"])
    run_session().assert_outcomes(passed=2, failed=len(broken))
    records = stored_run().records
    assert [record.spec.attention for record in records] == ["sdpa", *broken, "softmax"]
    assert [record.status for record in records] == ["ok", *["incorrect"] * len(wrong.INCORRECT), "crashed", "ok"]
    assert [bool(record.reasons) for record in records] == [False, *[True] * len(broken), False]


@pytest.mark.parametrize("names", [["sdpa_cudnn"], ["zeros"]])
def test_the_json_is_written_when_no_measured_case_was_timed(pytester, suite, added, names, run_session, stored_run):
    added(wrong.plugin_of(wrong.zeros))
    (pytester.path / "out" / "run.json").write_text("of an earlier run")
    suite(names)
    run_session()
    assert [record.spec.attention for record in stored_run().records] == names
    assert json.loads((pytester.path / "out" / "run.json").read_text())["benchmarks"] == []


def test_cases_without_a_timing_are_in_the_harness_block_only(pytester, run_session, stored_run):
    pytester.makepyfile(
        test_suite="""
        import pytest
        from harness.core.spec import QualitySpec
        pytest_plugins = ["harness.pytest_plugin"]

        @pytest.mark.quality(specs=lambda selection: [QualitySpec(attention="sdpa", seq_len=64, draws=1)])
        def test_quality(case):
            assert case.record.quality.errors["output"][0] < 1e-5
        """
    )
    run_session(processes=True).assert_outcomes(passed=1)
    assert stored_run().records[0].quality is not None


def test_a_users_file_reaches_the_processes_of_cases(pytester, run_session, stored_run, monkeypatch):
    monkeypatch.delenv(recordings.FILE, raising=False)
    x = torch.randn((3, 1, 2, 20, 8), generator=torch.Generator().manual_seed(0))
    save_file(dict(zip(recordings.TENSORS, x, strict=True)), pytester.path / "mine.safetensors")
    pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    pytester.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.quality
        def test_quality(case):
            assert case.record.quality.errors["grad_k"][0] < 1e-5
        """
    )
    options = ["--attention", "sdpa", "--seq-len", "12", "--seq-len", "50", "-k", "recorded", "--only"]
    run_session("--inputs", "mine.safetensors", *options, processes=True).assert_outcomes(passed=2, deselected=4)
    short, long = sorted((record for record in stored_run().records), key=lambda record: record.spec.seq_len)
    assert short.quality.reference == "sdpa, float64 (inputs recorded from mine.safetensors: 12 tokens)"
    assert "20 tokens, repeated up to 50 with noise" in long.quality.reference
    assert str(pytester.path) not in stored_run().model_dump_json()


@pytest.mark.parametrize("loaded_by", ["conftest", "module"])
def test_a_suite_loads_the_plugin_in_its_conftest_or_its_module(suite, loaded_by, run_session, stored_run):
    suite(["sdpa"], loaded_by)
    run_session(processes=True).assert_outcomes(passed=1)
    assert stored_run().records[0].status == "ok"


def test_pytests_own_selection_works(pytester, suite, run_session):
    suite(["sdpa", "softmax", "yoso"])
    listed = run_session("--collect-only", "-q", "-k", "softmax or yoso")
    listed.stdout.fnmatch_lines(
        ["test_suite.py::test_operation?operation/softmax-n128-b1-h2-d64-fwd-fp32-cpu?", "*1 deselected*"]
    )
    assert not list((pytester.path / "out").iterdir())
    run_session("-m", "quality").assert_outcomes(deselected=3)
    run_session("-k", "yoso").assert_outcomes(passed=1, deselected=2)


def test_benchmark_skip_and_only_apply_to_the_cases(suite, run_session):
    suite(["sdpa"])
    run_session("--benchmark-skip").assert_outcomes(skipped=1)
    run_session("--benchmark-only").assert_outcomes(passed=1)


def test_without_specs_the_cases_are_the_profiles(pytester, run_session, stored_run):
    pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    pytester.makepyfile("import pytest\n@pytest.mark.operation\ndef test_operation(case): pass")
    options = ["--attention", "sdpa,sdpa", "--only", "--dtype=bfloat16"]
    result = run_session("--seq-len=64,32,064", "--seq-len=16,32", *options)
    result.assert_outcomes(passed=6)
    specs = [record.spec for record in stored_run().records]
    assert {(spec.seq_len, spec.dtype, spec.attention) for spec in specs} == {
        (n, "bfloat16", "sdpa") for n in (16, 32, 64)
    }
    for line in ("--seq-len repeats 64, 32: each is measured once", "--attention repeats sdpa: each is measured once"):
        result.stdout.fnmatch_lines([line])
    result.stdout.fnmatch_lines(["* n=16*", "attention *time *error *memory*", "sdpa *", "* n=64*", "sdpa *"])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--attention=nope", "unknown attention nope; known: *softmax*"),
        ("--profile=fast", "unknown profile 'fast'; known: full, gpu, paper, quick, standard"),
        ("--dtype=int8", "unknown dtype 'int8'; known: float32, bfloat16, float16"),
        ("--seq-len=12,x", "--seq-len must be whole numbers of tokens, got x"),
        ("--seq-len=0", "*must be 1 or more*"),
        ("--device=gpu", "--device must be cpu or cuda, *'gpu'"),
        ("--case-timeout=0", "--case-timeout must be a number of seconds, above 0, such as 60, got '0'"),
        ("--deadline=soon", "--deadline must be a number of seconds, 0 or more, such as 60, got 'soon'"),
        ("--head-dim=0", "--head-dim must be a whole number of 1 or more, got '0'"),
        ("--padding=half", "--padding must be a fraction from 0 to below 1, such as 0.25, got 'half'"),
    ],
)
def test_a_wrong_option_is_refused_with_the_expected_values(suite, option, words, run_session):
    suite(["sdpa"])
    result = run_session(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {words}"])


def test_a_case_without_a_kind_marker_is_refused(pytester, run_session):
    pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    pytester.makepyfile("def test_something(case): pass")
    run_session().stdout.fnmatch_lines(["*uses `case` without one of the markers*'operation'*"])


def test_the_log_is_written_to_the_given_path(pytester, suite, run_session):
    suite(["sdpa"])
    run_session("--harness-log=logs/my.jsonl")
    assert len(load(pytester.path / "logs" / "my.jsonl").records) == 1


def test_without_a_json_the_log_is_in_the_benchmarks_folder(pytester, suite):
    suite(["sdpa"])
    pytester.runpytest_inprocess()
    (log,) = (pytester.path / ".benchmarks").glob("*.log.jsonl")
    assert len(load(log).records) == 1


def test_a_call_that_skips_or_exits_is_a_failed_case(suite, added, run_session, stored_run):
    def skips(q, k, v, mask):
        pytest.skip("slow")

    def exits(q, k, v, mask):
        pytest.exit("done", returncode=0)

    def ends(q, k, v, mask):
        raise SystemExit(0)

    names = added(*map(wrong.plugin_of, (skips, exits, ends)))
    suite([*names, "sdpa"])
    result = run_session()
    result.assert_outcomes(passed=1, failed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [record.status for record in stored_run().records] == ["crashed"] * 3 + ["ok"]
    result.stdout.fnmatch_lines(["*crashed: called pytest.skip, which a plugin must not do; declare it in*"])


def test_a_named_attention_without_a_result_sets_the_exit_code(suite, run_session):
    suite(["sdpa", "sdpa_cudnn"])
    result = run_session("--attention=sdpa,sdpa_cudnn")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["attention sdpa_cudnn has no case of status ok (1 unsupported): *runs on CUDA, not on cpu*"]
    )
    assert run_session("--attention=sdpa").ret == pytest.ExitCode.OK
    assert run_session().ret == pytest.ExitCode.OK  # nobody asked for sdpa_cudnn
    assert run_session("--attention=sdpa_cudnn", "--collect-only").ret == pytest.ExitCode.OK


def test_a_named_attention_without_any_case_ends_the_run_before_it_measures(pytester, suite, run_session):
    suite(["sdpa"])
    (pytester.path / "out" / "run.json").write_text("of an earlier run")
    result = run_session("--attention=sdpa,linear")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    reason = "none of the collected suites has a case of it alone in profile 'quick'; --all adds models and tasks*"
    result.stderr.fnmatch_lines([f"ERROR: --attention: nothing to measure of linear: {reason}"])
    result = run_session("--attention=sdpa", "-k", "softmax")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    reason = "-k, -m or --deselect leaves none of its 1 cases; widen them"
    result.stderr.fnmatch_lines([f"ERROR: --attention: nothing to measure of sdpa: {reason}"])
    assert (pytester.path / "out" / "run.json").read_text() == "of an earlier run"


def test_harness_ab_collects_the_named_attentions_alone_in_all_their_cases(pytester, run_session):
    pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    kinds = ("operation", "model", "quality", "task")
    tests = "\n".join(f"@pytest.mark.{kind}\ndef test_{kind}(case): pass" for kind in kinds)
    pytester.makepyfile(f"import pytest\n{tests}")
    assert run_session("--attention=linear", "--collect-only", "--harness-cases=cases.json").ret == 0
    specs = json.loads((pytester.path / "cases.json").read_text())["specs"]
    assert {spec["kind"] for spec in specs} == {*kinds}
    assert {spec["attention"] for spec in specs} == {"linear"}
    assert {spec["seq_len"] for spec in specs if spec["kind"] == "operation"} == {128, 512, 1024, 2048, 4096}


def test_rounds_measure_timed_cases_in_a_process_each_and_errors_once(pytester, run_session, stored_run):
    pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    kinds = ("operation", "quality", "model")
    tests = "\n".join(f"@pytest.mark.{kind}\ndef test_{kind}(case): pass" for kind in kinds)
    pytester.makepyfile(f"import pytest\n{tests}")
    options = ["--attention=sdpa", "--only", "--seq-len=16", "-k", "fwd- or normal", "--rounds=2"]
    result = run_session(*options, processes=True)
    result.assert_outcomes(passed=3, deselected=5, skipped=0)  # the test of models has no case, and is no line
    records = stored_run().records
    timed = [record for record in records if record.timing is not None]
    assert len({record.case_id for record in timed}) == 1
    assert len({record.timing.process for record in timed}) == 2
    assert [record.spec.kind for record in records if record.timing is None] == ["quality"]
    names = [bench["name"] for bench in json.loads((pytester.path / "out" / "run.json").read_text())["benchmarks"]]
    assert names == [f"test_operation[{timed[0].case_id}]", f"test_operation[{timed[0].case_id}-round2]"]
    log = pytester.path / "out" / "run.log.jsonl"
    kept = log.read_text().splitlines()[:2]
    log.write_text("\n".join(kept) + "\n")
    run_session(*options, f"--resume={log}", processes=True).assert_outcomes(passed=3, deselected=5)
    resumed = stored_run().records
    assert len([record for record in resumed if record.timing is not None]) == 2
    assert len({record.timing.process for record in resumed if record.timing is not None}) == 2


def test_resume_continues_with_a_notice_about_unreadable_lines(pytester, suite, run_session, stored_run):
    suite(["sdpa", "softmax"])
    run_session()
    log = pytester.path / "out" / "run.log.jsonl"
    header, first, second, _ = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join([header, first.replace(b'"ok"', b'"\xff"'), second, b""]))
    result = run_session(f"--resume={log}")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*run.log.jsonl: skipped lines without a readable record (1): line 2 (*"])
    assert [record.status for record in stored_run().records] == ["ok", "ok"]


@pytest.mark.parametrize("opened", [False, True], ids=["a path", "a file, before pytest-benchmark 5.3"])
def test_the_json_path_is_found_in_every_pytest_benchmark(tmp_path, opened):
    path = tmp_path / "run.json"
    with path.open("wb") as file:
        option = file if opened else str(path)
        assert json_path(SimpleNamespace(getoption=lambda name, default: option)) == path
    assert json_path(SimpleNamespace(getoption=lambda name, default: default)) is None


def test_a_run_whose_log_another_run_writes_ends_in_one_line_and_writes_nothing(
    pytester, suite, run_session, stored_run
):
    suite(["softmax"])
    run_session()
    first = stored_run()
    log = Log(pytester.path / "out" / "run.log.jsonl", first)
    result = run_session()
    log.close()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*out/run.log.jsonl: another run is writing this log; wait until it ends, or*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert load(log.path).records == []
    assert stored_run() == first


@pytest.mark.alone
def test_a_run_beside_a_busy_process_says_so_and_gives_no_verdict(
    pytester, suite, run_session, stored_run, monkeypatch
):
    """Two names of one kernel are measured: whoever calls one of them faster is wrong."""
    monkeypatch.setattr(ceilings, "measure", lambda device: [])  # takes seconds and is not what is asked here
    before, core = os.sched_getaffinity(0), min(os.sched_getaffinity(0))
    loop = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    # Its parent ends at once: a process below this one would belong to the run.
    start = "import subprocess as s, sys; print(s.Popen([sys.executable, '-c', sys.argv[1]], stdout=s.DEVNULL).pid)"
    neighbour = int(subprocess.run([sys.executable, "-c", start, loop], stdout=subprocess.PIPE, check=True).stdout)
    suite(["sdpa", "sdpa_flash"])
    try:
        os.sched_setaffinity(0, [core])
        result = run_session()
    finally:
        os.sched_setaffinity(0, before)
        os.kill(neighbour, signal.SIGKILL)
    result.assert_outcomes(passed=2)
    run = stored_run()
    for use in [each.machine_use for each in run.records]:
        assert use.cores == 1
        assert use.foreign_cpu_seconds > 0.15 * use.elapsed_seconds  # half of it while both want the core
    found = disturbed_run.judge(run.records)
    assert found.causes[0].kind == "foreign processes"
    result.stdout.fnmatch_lines([found.sentence.replace("[", "[[]")])
    assert json.loads((pytester.path / "out" / "run.json").read_text())["harness_disturbance"] == found.as_json()
    report = compare([run])
    assert found.sentence in report.notices
    said = " ".join(str(sentence) for summary in report.summaries for sentence in summary.sentences)
    assert any(words in said for words in ("none is called the fastest", "did not disturb", "no clear difference"))
    assert "faster" not in said
