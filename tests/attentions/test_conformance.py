"""Each violation of the plugin contract fails the conformance test that is meant for it, and right plugins pass all."""

from importlib.metadata import EntryPoint
from inspect import unwrap
from pathlib import Path

import contract_breakers as breakers
import pytest
import torch
import torch._dynamo  # pytester removes modules that an inner session imported; torch allows one import per process
import wrong_attentions as wrong

import harness.conformance
from harness.attentions.yoso import YosoSamplingPlugin
from harness.cases import runner
from harness.core import registry
from harness.core.spec import OperationSpec
from harness.profiles.selection import Selection

pytest_plugins = ["pytester"]

OUTPUT, SHAPE = "test_output_matches_oracle", "test_output_has_shape_dtype_and_device_of_q"
WRONG_BY_TEST = {
    OUTPUT: [
        *("nan", "nan_at_one_token", "zeros", "drops_tail_keys", "drops_tail_queries"),
        *("transposed_heads", "head_major", "unscaled"),
    ],
    SHAPE: ["raises", "wrong_shape", "wrong_dtype", "not_a_tensor"],
    "test_gradients_match_oracle": ["scaled_gradient", "gradient_without_tail", "no_gradient"],
    "test_padded_keys_do_not_change_real_outputs": ["ignores_the_mask", "soft_mask"],
    "test_equal_seeds_give_equal_bits": ["different_values_each_call"],
    "test_output_depends_on_the_values": ["cached"],
    "test_inputs_changed_in_place_are_read_again": ["cached_by_address"],
    "test_earlier_calls_do_not_change_output": ["counts_calls"],
}
WRONG_PLUGINS = {
    plugin.name: plugin
    for plugin in [*wrong.INCORRECT, *wrong.INCORRECT_PADDED, *wrong.INCORRECT_BACKWARD, wrong.RAISES]
} | {"no_gradient": wrong.plugin_of(wrong.no_gradient)}
EXPECTED_FAILURES = [(test, WRONG_PLUGINS[name]) for test, names in WRONG_BY_TEST.items() for name in names]
EXPECTED_FAILURES += [(test, plugin) for test, plugins in breakers.BREAKERS.items() for plugin in plugins]
CONFORMING = ("softmax", "sdpa", "linear", "yoso", "yoso_e", "none", "local_window", "nystromformer", "reformer")


@pytest.fixture(scope="module", autouse=True)
def _imported_before_inner_sessions():
    """Import everything here, for the reason given at ``torch._dynamo``.

    This also builds the native kernels now, because pytester sets another home folder, which has no cache of them.
    """
    for name in registry.names():
        registry.get(name)
    for name in CONFORMING:
        runner.run(OperationSpec(attention=name, seq_len=16), Selection().effort)
    torch.compile(torch.nn.Identity(), backend="eager")(torch.zeros(1))


@pytest.fixture
def run_tests(pytester):
    """Runs the conformance tests in this process; returns the reports of passed, skipped and failed tests."""

    def run(*arguments):
        session = pytester.inline_run("--pyargs", "harness.conformance", "-p", "no:cacheprovider", *arguments)
        return session.listoutcomes()

    yield run
    torch.set_float32_matmul_precision("highest")  # one of the wrong plugins changes it


@pytest.fixture
def register():
    """Registers a plugin for this test and returns the option that selects it."""
    names = []

    def add(plugin):
        registry.add(plugin)
        names.append(plugin.name)
        return f"--attention={plugin.name}"

    yield add
    for name in names:
        registry.remove(name)


def test_each_violation_fails_its_test(run_tests, register):
    """All in one session, each plugin with the test that must fail for it."""
    plugins = {plugin.name: plugin for _, plugin in EXPECTED_FAILURES}
    for plugin in plugins.values():
        register(plugin)
    pairs = " or ".join(f"({test} and {plugin.name})" for test, plugin in EXPECTED_FAILURES)
    _, _, failed = run_tests(f"--attention={','.join(plugins)}", "-k", pairs)
    failures = {_test_and_attention(report) for report in failed if report.when == "call"}
    assert {(test, plugin.name) for test, plugin in EXPECTED_FAILURES} - failures == set()


def test_every_conformance_test_has_a_plugin_that_fails_it():
    """Except test_plugin_loads: a plugin that does not load has its own test below."""
    conformance_tests = {
        line.removeprefix("def ").split("(")[0]
        for file in Path(harness.conformance.__file__).parent.glob("test_*.py")
        for line in file.read_text().splitlines()
        if line.startswith("def test_")
    }
    assert conformance_tests - {test for test, _ in EXPECTED_FAILURES} == {"test_plugin_loads"}


def test_one_violation_fails_one_test(run_tests, register):
    """The softmax oracle as a module gives NaN for a sequence with only padding, and is right otherwise."""
    passed, _, failed = run_tests(register(wrong.RIGHT))
    assert len(passed) > 50
    failures = [_test_and_attention(report) for report in failed]
    assert failures == [("test_fully_padded_sequence_gives_finite_output", "right")]


@pytest.mark.parametrize("name", CONFORMING)
def test_conforming_attention_passes(run_tests, name):
    passed, skipped, failed = run_tests(f"--attention={name}")
    assert [report.longreprtext for report in failed] == []
    assert len(passed) > 50
    known = ("not declared", "random numbers", "needs a C++ compiler")
    assert all(any(words in _reason(report) for words in known) for report in skipped)


class YosoWithFloor(YosoSamplingPlugin):
    name = "yoso_with_floor"
    estimates = budget = None

    def default_knobs(self, spec):
        """Those of ``yoso``, and a floor."""
        return dict(super().default_knobs(spec)) | {"norm_floor": 0.5}


class YosoBySum(YosoWithFloor):
    name = "yoso_by_sum"

    def default_knobs(self, spec):
        """Those of ``yoso``, the sum and a floor."""
        return dict(super().default_knobs(spec)) | {"normalization": "sum"}


def test_yoso_conforms_with_every_normalization(run_tests, register):
    for plugin in (YosoWithFloor(), YosoBySum()):
        register(plugin)
    passed, _, failed = run_tests(f"--attention={YosoWithFloor.name},{YosoBySum.name}")
    assert [report.longreprtext for report in failed] == []
    assert len(passed) > 100


def test_a_cause_that_several_tests_have_in_common_is_said_once(pytester, register):
    option = register(wrong.plugin_of(wrong.ignores_the_mask))
    result = pytester.runpytest_inprocess(
        "--pyargs", "harness.conformance", "-p", "no:cacheprovider", option, "-k", "with_padding or neighbouring"
    )
    result.assert_outcomes(failed=4)
    cause = "equals the definition without the padding mask"
    result.stdout.fnmatch_lines([f"4 failed tests have one cause: what ignores_the_mask computes {cause}"])


def test_unsupported_attention_is_skipped_with_its_reason(run_tests):
    passed, skipped, failed = run_tests("--attention=sdpa_cudnn")
    assert not failed
    assert {report.nodeid.split("::")[0].rsplit("/")[-1] for report in passed} == {
        "test_plugin.py",
        "test_capabilities.py",
    }
    assert sum("runs on CUDA, not on cpu" in _reason(report) for report in skipped) > 40


def test_an_attention_of_which_nothing_was_tested_sets_the_exit_code(pytester, register):
    def run(*arguments):
        return pytester.runpytest_inprocess("--pyargs", "harness.conformance", "-p", "no:cacheprovider", *arguments)

    unsupported = wrong.StubPlugin("unsupported_everywhere", wrong.RIGHT.make_module)
    unsupported.unsupported = lambda spec: ["not today"]
    register(unsupported)
    result = run("--attention=softmax,unsupported_everywhere", "-k", f"{SHAPE} or test_metadata")
    result.assert_outcomes(passed=3, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["nothing was tested of the module of unsupported_everywhere: not today"])
    assert run("--attention=unsupported_everywhere", "-k", "test_nothing").ret != pytest.ExitCode.OK
    assert run("--attention=softmax", "-k", SHAPE).ret == pytest.ExitCode.OK
    result = run("-k", f"{SHAPE} and (softmax or unsupported_everywhere)")
    assert result.ret == pytest.ExitCode.OK  # nobody named it
    result.stdout.fnmatch_lines(["nothing was tested of the module of unsupported_everywhere: not today"])


def test_declared_ability_of_which_every_test_was_refused_sets_the_exit_code(pytester, register):
    def run(*arguments):
        return pytester.runpytest_inprocess("--pyargs", "harness.conformance", "-p", "no:cacheprovider", *arguments)

    option = register(breakers.right_plugin(breakers.DeclaresWhatItRefuses, "refuses"))
    tests = f"test_gradients_match_oracle or test_every_declared_dtype or {OUTPUT}"
    result = run(option, "-k", tests)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=3, skipped=4)
    result.stdout.fnmatch_lines(
        [
            "refuses declares backward, but `unsupported` refused every test of it: gradients: not yet",
            "refuses declares bfloat16, but `unsupported` refused every test of it: bfloat16: not yet",
            "refuses declares padding_mask, but `unsupported` refused every test of it: padding: not yet",
            "only 3 of 7 tests of what refuses declares ran; *refused every case of test_gradients_match_oracle",
        ]
    )
    assert run(option, "-k", f"{SHAPE}").ret == pytest.ExitCode.OK


def test_attention_that_supports_only_tiny_lengths_fails_and_its_untested_tests_are_named(pytester, register):
    option = register(breakers.right_plugin(breakers.SupportsOneLength, "one_length"))
    result = pytester.runpytest_inprocess("--pyargs", "harness.conformance", "-p", "no:cacheprovider", option)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1, passed=18, skipped=70)
    result.stdout.fnmatch_lines(
        [
            "one_length declares padding_mask, but `unsupported` refused every test of it: n=256 is too long",
            "only 19 of 80 tests of what one_length declares ran; *refused every case of *test_long_sequence*",
        ]
    )


@pytest.mark.parametrize("ending", ["skip", "xfail", "exit"])
def test_a_plugin_that_skips_or_ends_a_test_fails_it(run_tests, register, ending):
    def skips(q, k, v, mask):
        getattr(pytest, ending)("slow")

    _, _, (report,) = run_tests(register(wrong.plugin_of(skips)), "-k", SHAPE)
    assert f"called pytest.{ending}, which a plugin must not do" in report.longreprtext


def test_several_attentions_and_a_dtype(run_tests):
    passed, _, failed = run_tests("--attention=softmax,linear", "--dtype=bfloat16", "-k", OUTPUT)
    assert not failed
    assert {_test_and_attention(report)[1] for report in passed} == {"softmax", "linear"}


def test_failure_message_says_expected_actual_and_fix(run_tests, register):
    _, _, (report,) = run_tests(register(wrong.plugin_of(wrong.wrong_shape)), "-k", SHAPE)
    assert "must be ([2, 2, 256, 64], torch.float32, 'cpu') like q, got ([2, 2, 255, 64]" in report.longreprtext
    assert "return one tensor [B, H, N, D]" in report.longreprtext


def test_unknown_attention_is_refused_with_the_known_names(pytester):
    result = pytester.runpytest_inprocess("--pyargs", "harness.conformance", "--attention", "nope")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: unknown attention nope; known: *softmax*"])


def test_plugin_that_does_not_load_fails_one_test(run_tests, monkeypatch):
    broken = EntryPoint("broken", "no_such_module:A", registry.ATTENTIONS)
    working = EntryPoint("softmax", "harness.attentions.softmax:SoftmaxPlugin", registry.ATTENTIONS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken, working])
    monkeypatch.setattr(registry, "_entries", unwrap(registry._entries))
    passed, skipped, failed = run_tests("-k", f"test_plugin_loads or {SHAPE}")
    assert {_test_and_attention(report) for report in passed} == {(SHAPE, "softmax"), ("test_plugin_loads", "softmax")}
    assert "No module named 'no_such_module'" in failed[0].longreprtext
    assert [("does not load" in _reason(report)) for report in skipped] == [True]


def test_other_pytest_sessions_do_not_have_the_options(pytester):
    """The options exist only where the command line names the conformance tests."""
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_inprocess("--attention", "softmax")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unrecognized arguments: --attention*"])


def _test_and_attention(report):
    test, _, parameters = report.nodeid.split("::")[1].partition("[")
    return test, parameters.rstrip("]").split("-")[0]


def _reason(report):
    return report.longrepr[2]
