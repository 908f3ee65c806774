"""The conformance kit catches what breaks the contract, each by the check that is meant for it, and nothing else."""

from importlib.metadata import EntryPoint
from inspect import unwrap
from pathlib import Path

import pytest
import torch
import torch._dynamo  # pytester forgets what a session inside this process imported; torch takes it once a process
import wrong_attentions as wrong
from contract_breakers import BREAKERS

import harness.conformance
from harness.cases import runner
from harness.core import registry
from harness.core.spec import OperationSpec
from harness.profiles.selection import Selection

pytest_plugins = ["pytester"]

OUTPUT, SHAPE = "test_output_equals_the_oracles", "test_shape_dtype_and_device_are_the_querys"
MEANT_FOR = {
    OUTPUT: [
        *("nan", "nan_at_one_token", "zeros", "drops_tail_keys", "drops_tail_queries"),
        *("transposed_heads", "head_major", "unscaled"),
    ],
    SHAPE: ["raises", "wrong_shape", "wrong_dtype", "not_a_tensor"],
    "test_gradients_equal_the_oracles": ["scaled_gradient", "gradient_without_tail", "no_gradient"],
    "test_outputs_of_real_tokens_do_not_move": ["ignores_the_mask", "soft_mask"],
    "test_equal_seeds_give_equal_bits": ["other_values_each_call"],
    "test_other_values_of_the_same_shape_give_another_output": ["cached"],
    "test_inputs_changed_in_place_are_read_again": ["cached_by_address"],
    "test_calls_between_leave_nothing": ["counting"],
}
KNOWN = {
    plugin.name: plugin
    for plugin in [*wrong.INCORRECT, *wrong.INCORRECT_PADDED, *wrong.INCORRECT_BACKWARD, wrong.RAISES]
} | {"no_gradient": wrong.of(wrong.no_gradient)}
CAUGHT = [(check, KNOWN[name]) for check, names in MEANT_FOR.items() for name in names]
CAUGHT += [(check, plugin) for check, plugins in BREAKERS.items() for plugin in plugins]
RIGHT = ("softmax", "sdpa", "linear", "yoso", "yoso_e", "none", "local_window", "nystromformer", "reformer")


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """As torch._dynamo above; and pytester has a home of its own, without the cache of built kernels."""
    for name in registry.names():
        registry.get(name)
    for name in RIGHT:
        runner.run(OperationSpec(attention=name, seq_len=16), Selection().effort)
    torch.compile(torch.nn.Identity(), backend="eager")(torch.zeros(1))


@pytest.fixture
def check(pytester):
    """Run the kit in this process; the reports of the tests that passed, were skipped and failed."""

    def run(*arguments):
        found = pytester.inline_run("--pyargs", "harness.conformance", "-p", "no:cacheprovider", *arguments)
        return found.listoutcomes()

    yield run
    torch.set_float32_matmul_precision("highest")  # one of the wrong attentions changes it


@pytest.fixture
def added():
    names = []

    def add(plugin):
        registry.add(plugin)
        names.append(plugin.name)
        return f"--attention={plugin.name}"

    yield add
    for name in names:
        registry.remove(name)


def test_what_breaks_the_contract_is_caught_by_its_check(check, added):
    """All in one session, each attention under the check that is meant for it."""
    plugins = {plugin.name: plugin for _, plugin in CAUGHT}
    for plugin in plugins.values():
        added(plugin)
    pairs = " or ".join(f"({meant} and {plugin.name})" for meant, plugin in CAUGHT)
    _, _, failed = check(f"--attention={','.join(plugins)}", "-k", pairs)
    found = {_names(report) for report in failed if report.when == "call"}
    assert {(meant, plugin.name) for meant, plugin in CAUGHT} - found == set()


def test_every_check_has_something_that_it_catches():
    """A plugin that does not load has a test of its own below."""
    written = {
        line.removeprefix("def ").split("(")[0]
        for file in Path(harness.conformance.__file__).parent.glob("test_*.py")
        for line in file.read_text().splitlines()
        if line.startswith("def test_")
    }
    assert written - {meant for meant, _ in CAUGHT} == {"test_it_loads"}


def test_right_but_for_one_thing_fails_one_check(check, added):
    """The definition itself as a module: it gives NaN where nothing is real."""
    passed, _, failed = check(added(wrong.RIGHT))
    assert len(passed) > 50
    assert [_names(report) for report in failed] == [("test_a_sequence_of_padding_alone_is_finite", "right")]


@pytest.mark.parametrize("name", RIGHT)
def test_what_keeps_the_contract_passes(check, name):
    passed, skipped, failed = check(f"--attention={name}")
    assert [report.longreprtext for report in failed] == []
    assert len(passed) > 50
    assert all("not declared" in _reason(report) or "random numbers" in _reason(report) for report in skipped)


def test_what_is_unsupported_is_a_skip_with_its_reason(check):
    passed, skipped, failed = check("--attention=sdpa_cudnn")
    assert not failed
    assert {report.nodeid.split("::")[0].rsplit("/")[-1] for report in passed} == {
        "test_plugin.py",
        "test_capabilities.py",
    }
    assert sum("runs on CUDA, not on cpu" in _reason(report) for report in skipped) > 40


def test_several_names_and_a_dtype(check):
    passed, _, failed = check("--attention=softmax,linear", "--dtype=bfloat16", "-k", OUTPUT)
    assert not failed
    assert {_names(report)[1] for report in passed} == {"softmax", "linear"}


def test_a_message_says_what_was_expected_what_came_and_what_to_do(check, added):
    _, _, (report,) = check(added(wrong.of(wrong.wrong_shape)), "-k", SHAPE)
    assert "must be ([2, 2, 256, 64], torch.float32, 'cpu') as q is, got ([2, 2, 255, 64]" in report.longreprtext
    assert "return one tensor [B, H, N, D]" in report.longreprtext


def test_an_unknown_name_is_refused_with_the_known_ones(pytester):
    result = pytester.runpytest_inprocess("--pyargs", "harness.conformance", "--attention", "nope")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: unknown attention nope; known: *softmax*"])


def test_what_does_not_load_fails_once_and_the_rest_goes_on(check, monkeypatch):
    broken = EntryPoint("broken", "no_such_module:A", registry.ATTENTIONS)
    fine = EntryPoint("softmax", "harness.attentions.softmax:SoftmaxPlugin", registry.ATTENTIONS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken, fine])
    monkeypatch.setattr(registry, "_entries", unwrap(registry._entries))
    passed, skipped, failed = check("-k", "test_it_loads or test_shape")
    assert {_names(report) for report in passed} == {(SHAPE, "softmax"), ("test_it_loads", "softmax")}
    assert "No module named 'no_such_module'" in failed[0].longreprtext
    assert [("does not load" in _reason(report)) for report in skipped] == [True]


def test_other_sessions_do_not_see_the_kit(pytester):
    """Its options are there where it is named, and nowhere else."""
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_inprocess("--attention", "softmax")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unrecognized arguments: --attention*"])


def _names(report):
    """The check and the attention."""
    check, _, rest = report.nodeid.split("::")[1].partition("[")
    return check, rest.rstrip("]").split("-")[0]


def _reason(report):
    return report.longrepr[2]
