"""The harness inside a real pytest session: what lands in the JSON, in the log and on the screen."""

import json
from types import SimpleNamespace

import pytest
import wrong_attentions as wrong
from inner_run import block, run

from harness.core.store import load
from harness.pytest_plugin.options import json_path

pytest_plugins = ["pytester", "harness_session"]
pytestmark = pytest.mark.usefixtures("imported", "out")


def test_timings_become_pytest_benchmarks_own(pytester, suite):
    suite(["sdpa"])
    result = run(pytester)
    result.assert_outcomes(passed=1)
    whole = json.loads((pytester.path / "out" / "run.json").read_text())
    (bench,) = whole["benchmarks"]
    (record,) = block(pytester).records
    assert bench["stats"]["data"] == pytest.approx(record.timing.wall_seconds)
    assert bench["stats"]["iterations"] == record.timing.calls_per_sample
    assert bench["params"] == {"case": record.case_id}
    assert bench["extra_info"]["status"] == "ok"
    assert bench["extra_info"]["memory"]["peak_bytes"] == record.memory.peak_bytes
    assert "timing" not in bench["extra_info"]
    assert "node" not in whole["machine_info"]


def test_the_log_has_the_same_run_as_the_json(pytester, suite):
    suite(["sdpa", "sdpa_cudnn"])
    run(pytester)
    assert load(pytester.path / "out" / "run.log.jsonl") == block(pytester)


def test_the_header_reproduces_the_run_and_names_no_machine_path(pytester, suite):
    suite(["sdpa"])
    pytester.runpytest_inprocess(f"--benchmark-json={pytester.path}/out/run.json", "--profile", "quick")
    found = block(pytester)
    assert found.command == "pytest --benchmark-json=out/run.json --profile quick"
    assert found.profile == "quick"
    assert str(pytester.path) not in found.model_dump_json()


def test_skips_and_failures_carry_their_reasons(pytester, suite, added):
    suite(["sdpa_cudnn", *added(wrong.RAISES, wrong.plugin_of(wrong.zeros), wrong.RIGHT)])
    result = run(pytester, "-rsf")
    result.assert_outcomes(passed=1, skipped=1, failed=2)
    result.stdout.fnmatch_lines(["SKIPPED*runs on CUDA, not on cpu*"])
    result.stdout.fnmatch_lines(["*incorrect: output: error 1, allowed*"])
    result.stdout.fnmatch_lines(["*crashed: ValueError: no such luck*"])
    result.stdout.fnmatch_lines(["cases: 1 ok, 1 unsupported, 1 incorrect, 1 crashed"])


def test_broken_attentions_leave_the_others_and_the_json_complete(pytester, suite, added):
    broken = added(*wrong.INCORRECT, wrong.RAISES)
    suite(["sdpa", *broken, "softmax"])
    run(pytester).assert_outcomes(passed=2, failed=len(broken))
    records = block(pytester).records
    assert [record.spec.attention for record in records] == ["sdpa", *broken, "softmax"]
    assert [record.status for record in records] == ["ok", *["incorrect"] * len(wrong.INCORRECT), "crashed", "ok"]
    assert [bool(record.reasons) for record in records] == [False, *[True] * len(broken), False]


@pytest.mark.parametrize("names", [["sdpa_cudnn"], ["zeros"], []])
def test_the_json_is_there_when_nothing_was_timed(pytester, suite, added, names):
    added(wrong.plugin_of(wrong.zeros))
    (pytester.path / "out" / "run.json").write_text("of an earlier run")
    suite(names)
    run(pytester)
    assert [record.spec.attention for record in block(pytester).records] == names
    assert json.loads((pytester.path / "out" / "run.json").read_text())["benchmarks"] == []


def test_cases_without_a_timing_are_in_the_block_alone(pytester):
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
    run(pytester).assert_outcomes(passed=1)
    assert block(pytester).records[0].quality is not None


@pytest.mark.parametrize("loaded", ["conftest", "module"])
def test_a_users_suite_loads_the_plugin_either_way(pytester, suite, loaded):
    suite(["sdpa"], loaded)
    run(pytester).assert_outcomes(passed=1)
    assert block(pytester).records[0].status == "ok"


def test_plain_selection_works(pytester, suite):
    suite(["sdpa", "softmax", "yoso"])
    listed = run(pytester, "--collect-only", "-q", "-k", "softmax or yoso")
    listed.stdout.fnmatch_lines(
        ["test_suite.py::test_operation?operation/softmax-n128-b1-h2-d64-fwd-fp32-cpu?", "*1 deselected*"]
    )
    assert not list((pytester.path / "out").iterdir())
    run(pytester, "-m", "quality").assert_outcomes(deselected=3)
    run(pytester, "-k", "yoso").assert_outcomes(passed=1, deselected=2)


def test_benchmark_skip_and_only_know_the_cases(pytester, suite):
    suite(["sdpa"])
    run(pytester, "--benchmark-skip").assert_outcomes(skipped=1)
    run(pytester, "--benchmark-only").assert_outcomes(passed=1)


def test_the_profiles_cases_are_the_default(pytester):
    pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    pytester.makepyfile("import pytest\n@pytest.mark.operation\ndef test_operation(case): pass")
    result = run(pytester, "--seq-len=64,32", "--seq-len=16", "--attention", "sdpa", "--dtype=bfloat16")
    result.assert_outcomes(passed=6)
    specs = [record.spec for record in block(pytester).records]
    assert {(spec.seq_len, spec.dtype, spec.attention) for spec in specs} == {
        (n, "bfloat16", "sdpa") for n in (16, 32, 64)
    }
    result.stdout.fnmatch_lines(["attention *n=16 *n=32 *n=64*", "sdpa *"])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--attention=nope", "unknown attention nope; known: *softmax*"),
        ("--profile=fast", "unknown profile 'fast'; known: quick, standard, full, gpu, paper"),
        ("--dtype=int8", "unknown dtype 'int8'; known: float32, bfloat16, float16"),
        ("--seq-len=12,x", "--seq-len must be whole numbers, got x"),
        ("--seq-len=0", "*must be 1 or more*"),
        ("--device=gpu", "--device must be a torch device*'gpu'"),
        ("--case-timeout=0", "--case-timeout must be above 0 seconds, got 0"),
    ],
)
def test_a_wrong_option_is_refused_with_the_known_ones(pytester, suite, option, words):
    suite(["sdpa"])
    result = run(pytester, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {words}"])


def test_a_case_without_a_kind_is_refused(pytester):
    pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
    pytester.makepyfile("def test_something(case): pass")
    run(pytester).stdout.fnmatch_lines(["*asks for `case` without one of the markers*'operation'*"])


def test_the_log_goes_where_it_is_told(pytester, suite):
    suite(["sdpa"])
    run(pytester, "--harness-log=elsewhere/my.jsonl")
    assert len(load(pytester.path / "elsewhere" / "my.jsonl").records) == 1


def test_without_a_json_the_log_is_with_the_benchmarks(pytester, suite):
    suite(["sdpa"])
    pytester.runpytest_inprocess()
    (log,) = (pytester.path / ".benchmarks").glob("*.log.jsonl")
    assert len(load(log).records) == 1


@pytest.mark.parametrize("opened", [False, True], ids=["a path", "a file, before pytest-benchmark 5.3"])
def test_the_json_option_is_a_path_in_every_pytest_benchmark(tmp_path, opened):
    path = tmp_path / "run.json"
    with path.open("wb") as file:
        given = file if opened else str(path)
        assert json_path(SimpleNamespace(getoption=lambda name, default: given)) == path
    assert json_path(SimpleNamespace(getoption=lambda name, default: default)) is None
