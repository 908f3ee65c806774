from statistics import mean

import pytest
import torch
import wrong_attentions as wrong
from pydantic import ValidationError

from harness.cases import runner
from harness.core import git, registry
from harness.core.record import Check, Run
from harness.core.spec import Effort, ModelSpec, OperationSpec, QualitySpec
from harness.core.store import Log, load
from harness.measure import machine, quality
from harness.measure.inputs import make

EFFORT = Effort(min_samples=2, max_samples=2, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)


@pytest.fixture
def added():
    names = []

    def add(plugin):
        registry.add(plugin)
        names.append(plugin.name)
        return plugin

    yield add
    for name in names:
        registry.remove(name)


def spec_of(name, **changes):
    return OperationSpec(**({"attention": name, "seq_len": 96, "heads": 2} | changes))


def attention_that(name, error):
    def raising(q, k, v, mask):
        raise error

    plugin = wrong.plugin_of(raising)
    plugin.name = name
    return plugin


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_a_correct_attention_has_timing_memory_and_checks(added, mode):
    added(wrong.RIGHT)
    record = runner.run(spec_of("right", mode=mode), EFFORT)
    assert (record.status, record.reasons) == ("ok", [])
    assert len(record.timing.wall_seconds) == 2
    tensor = 2 * 96 * 64 * 4
    assert record.memory.peak_bytes >= 2 * 96 * 96 * 4
    assert record.memory.input_bytes == (4 if mode == "forward_backward" else 3) * tensor
    assert {"output", "output of a second call"} <= {check.what for check in record.checks}
    assert ("grad_k" in {check.what for check in record.checks}) == (mode == "forward_backward")


def test_forward_is_timed_without_a_graph_and_backward_does_not_accumulate_gradients(added):
    seen = []

    def spying(q, k, v, mask):
        seen.append((torch.is_grad_enabled(), q.requires_grad, q.grad))
        return wrong.right(q, k, v, mask)

    added(wrong.plugin_of(spying))
    runner.run(spec_of("spying"), EFFORT)
    assert set(seen) == {(False, False, None)}
    seen.clear()
    runner.run(spec_of("spying", mode="forward_backward"), EFFORT)
    assert (True, True, None) in seen
    assert all(gradient is None for *_, gradient in seen)


def test_the_record_of_an_unknown_attention_lists_the_known_ones():
    record = runner.run(spec_of("nope"), EFFORT)
    assert record.status == "crashed"
    assert "softmax" in record.reasons[0]


def test_the_record_of_an_unknown_knob_lists_the_known_ones():
    record = runner.run(spec_of("yoso", knobs={"num_hashes": 3}), EFFORT)
    assert record.status == "crashed"
    assert "num_hash" in record.reasons[0]


def test_the_record_of_a_crash_has_type_message_and_frames(added):
    added(wrong.RAISES)
    record = runner.run(spec_of("raises"), EFFORT)
    assert record.status == "crashed"
    assert record.reasons[0] == "ValueError: no such luck"
    assert any("wrong_attentions.py" in reason and "in raises" in reason for reason in record.reasons)
    assert not any("/" in reason.split(" in ")[0] for reason in record.reasons[1:])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 12 bytes"),
    ],
)
def test_out_of_memory_has_its_own_status(added, error):
    added(attention_that("hungry", error))
    assert runner.run(spec_of("hungry"), EFFORT).status == "oom"


def test_an_allocation_that_is_too_large_for_torch_is_out_of_memory(added):
    added(wrong.StubPlugin("enormous", lambda: wrong.FunctionModule(lambda q, k, v, mask: torch.empty(2**50))))
    assert runner.run(spec_of("enormous"), EFFORT).status == "oom"


def test_an_interrupt_is_not_caught(added):
    added(attention_that("interrupted", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        runner.run(spec_of("interrupted"), EFFORT)


class _UnreadableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


HOSTILE_ERRORS = {
    "SystemExit": (SystemExit(0), "raised SystemExit, which a plugin must not do"),
    "GeneratorExit": (GeneratorExit(), "GeneratorExit"),
    "skip": (
        pytest.skip.Exception("slow"),
        "called pytest.skip, which a plugin must not do; declare it in",
    ),
    "fail": (pytest.fail.Exception("slow"), "called pytest.fail, which a plugin must not do"),
    "xfail": (pytest.xfail.Exception("slow"), "called pytest.xfail, which a plugin must not do"),
    "exit": (pytest.exit.Exception("slow"), "called pytest.exit, which a plugin must not do"),
    "unreadable": (_UnreadableError(), "_UnreadableError: (its text cannot be read: RuntimeError)"),
    "5 MB": (ValueError("x" * 5_000_000), "more characters)"),
    "surrogate": (ValueError("a\ud800b\x00c\u2028d\x85e"), "ValueError: a\ufffdb\ufffdc d e"),
}


def is_stored(record, tmp_path):
    """Whether the record in the log is the same one."""
    header = Run(started="2026-01-01", command="", profile="quick", commit=None, machine={}, records=[])
    log = Log(tmp_path / "run.log.jsonl", header, [record])
    log.close()
    notices = []
    stored = load(log.path, notices.append).records
    return not notices and stored == [record]


@pytest.mark.parametrize("name", HOSTILE_ERRORS)
def test_whatever_a_call_raises_is_a_crashed_record(added, tmp_path, name):
    error, words = HOSTILE_ERRORS[name]
    added(attention_that("hostile", error))
    record = runner.run(spec_of("hostile"), EFFORT)
    assert record.status == "crashed"
    assert words in record.reasons[0]
    assert all(len(reason) < 2100 and len(reason.splitlines()) == 1 for reason in record.reasons)
    assert is_stored(record, tmp_path)


METHODS = ("default_knobs", "knobs", "unsupported", "kernel", "cost", "build", "oracle")


def plugin_with(name, **methods):
    """A right plugin of that name with other methods, which get no arguments."""
    plugin = wrong.StubPlugin(name, lambda: wrong.FunctionModule(wrong.right))
    for method, returned in methods.items():
        setattr(plugin, method, lambda *_, returned=returned: returned())
    return plugin


@pytest.mark.parametrize("method", METHODS)
def test_whatever_a_method_of_a_plugin_raises_is_a_crashed_record(added, tmp_path, method):
    added(plugin_with("hostile", **{method: lambda: pytest.skip("slow")}))
    record = runner.run(spec_of("hostile"), EFFORT)
    assert record.status == "crashed"
    assert "called pytest.skip" in record.reasons[0]
    assert is_stored(record, tmp_path)


@pytest.mark.parametrize(
    ("method", "returned", "words"),
    [
        (
            "default_knobs",
            {"m": torch.ones(1)},
            "knob 'm' must be a finite number, a bool or text, got a value of",
        ),
        ("default_knobs", {"m": float("nan")}, "knob 'm' must be a finite number, a bool or text, got nan"),
        ("default_knobs", {"m": float("inf")}, "got inf"),
        ("default_knobs", {"m": 10**5000}, "got an integer of more than 63 bits"),
        ("cost", {"copy": float("inf")}, "`cost` must give finite numbers of 0 or more by name, got 'copy': inf"),
        ("cost", {"copy": float("nan")}, "got 'copy': nan"),
        ("cost", {"copy": -1}, "got 'copy': -1"),
        ("cost", {"copy": torch.ones(1)}, "got 'copy': Tensor"),
        ("unsupported", "not here", "`unsupported` must return a list of sentences, got a str"),
        ("unsupported", [" "], "`unsupported` must return a list of sentences"),
        ("kernel", None, "`kernel` must return the implementation's name, got a NoneType"),
    ],
)
def test_a_value_that_is_not_of_the_contract_is_a_crashed_record_that_names_it(
    added, tmp_path, method, returned, words
):
    added(plugin_with("hostile", **{method: lambda: returned}))
    record = runner.run(spec_of("hostile"), EFFORT)
    assert record.status == "crashed"
    assert words in record.reasons[0]
    assert record.timing is None
    assert is_stored(record, tmp_path)


def test_a_value_that_cannot_be_stored_is_a_crashed_record(added, tmp_path):
    plugin = plugin_with("hostile")
    plugin.exact_softmax = "\ud800"
    added(plugin)
    record = runner.run(spec_of("hostile"), EFFORT)
    assert record.status == "crashed"
    assert "the values that its plugin gave cannot be stored" in record.reasons[0]
    assert is_stored(record, tmp_path)


def test_texts_of_an_unsupported_case_are_cut(added, tmp_path):
    added(plugin_with("hostile", unsupported=lambda: ["a\nb", "x" * 5_000_000, "\ud800"]))
    record = runner.run(spec_of("hostile"), EFFORT)
    assert record.status == "unsupported"
    assert (record.reasons[0], record.reasons[2]) == ("a b", "\ufffd")
    assert record.reasons[1].endswith("more characters)")
    assert is_stored(record, tmp_path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused_with_their_place(added, tmp_path, number):
    with pytest.raises(ValidationError, match="finite number"):
        spec_of("right", knobs={"m": number})
    assert Check(what="output", error=number, allowed=0.0, passed=False).error is None
    plugin = plugin_with("hostile")
    plugin.kernel_error = number  # the limit of an oracle without rounding error
    added(plugin)
    record = runner.run(spec_of("hostile", seq_len=1, padding=0.0), EFFORT)
    assert is_stored(record, tmp_path)
    spec = spec_of("right")
    stored = runner._storable_record(spec, "2026-01-01", 1.0, {"status": "ok", "work": {"copy": number}})
    assert stored.status == "crashed"
    assert stored.reasons == [
        "the values that its plugin gave cannot be stored: work.copy: Input should be a finite number"
    ]


def test_a_number_that_no_reader_takes_is_not_written():
    fields = {"status": "ok", "compile_seconds": -2.9}
    stored = runner._storable_record(spec_of("right"), "2026-01-01", 1.0, fields)
    assert stored.status == "crashed"
    assert "compile_seconds: expected a number from 0 to 1e+12, found -2.9" in stored.reasons[0]


def test_an_unsupported_record_has_every_reason():
    record = runner.run(spec_of("xformers_triton_splitk", mode="forward_backward"), EFFORT)
    assert record.status == "unsupported"
    assert len(record.reasons) > 1
    assert record.timing is None


def test_a_length_whose_square_does_not_fit_is_unsupported_with_the_sizes():
    record = runner.run(spec_of("softmax", seq_len=2**20), EFFORT)
    assert record.status == "unsupported"
    assert "GiB" in record.reasons[0]


def test_the_error_of_an_exact_attention_is_rounding():
    record = runner.run(QualitySpec(attention="sdpa", seq_len=128, draws=2), EFFORT)
    assert record.status == "ok"
    assert set(record.quality.errors) == {"output", "grad_q", "grad_k", "grad_v"}
    assert all(0 < error < 1e-5 for errors in record.quality.errors.values() for error in errors)
    assert all(len(errors) == 2 for errors in record.quality.errors.values())
    assert record.quality.reference == "softmax, float64" or record.quality.reference == "sdpa, float64"


def test_the_error_of_an_estimate_is_against_its_target_and_falls_with_more_hashes():
    def error(num_hash):
        spec = QualitySpec(attention="yoso", seq_len=128, draws=3, knobs={"num_hash": num_hash, "hash_code_len": 4})
        record = runner.run(spec, EFFORT)
        assert record.quality.reference == "yoso_e, float64"
        errors = record.quality.errors["output"]
        assert len(set(errors)) == 3
        return sum(errors) / 3

    assert error(128) < 0.6 * error(8)


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_quality_separates_bias_from_sampling_error(bias):
    def shifted(q, k, v, mask):
        true = wrong.right(q, k, v, mask)
        noise = torch.randn(true.shape)
        return true * (1 + bias) + 0.5 * noise * (true.norm() / noise.norm()).detach()

    spec = QualitySpec(attention="shifted", seq_len=64, draws=24)
    plugin = wrong.plugin_of(shifted)
    measured, _ = quality.errors(plugin, spec, plugin.build(spec), make(spec))
    assert mean(measured.squared_bias["output"]) == pytest.approx(bias**2, abs=0.01)
    assert mean(measured.squared_bias["grad_v"]) == pytest.approx(bias**2, abs=1e-6)
    assert mean(error**2 for error in measured.errors["output"]) == pytest.approx(bias**2 + 0.25, abs=0.02)


def test_the_reference_of_quality_gets_the_knobs_that_it_shares(added):
    plugin = registry.get("yoso")
    spec = QualitySpec(attention="yoso", seq_len=64, draws=1, knobs={"hash_code_len": 3, "num_hash": 512})
    close = quality.errors(plugin, spec, plugin.build(spec), make(spec))[0].errors["output"][0]
    assert close < 0.2  # 512 hashes of 3 bits; compared with YOSO-E at its default code length the error is 1


def test_an_error_that_is_not_finite_is_incorrect(added):
    added(wrong.plugin_of(wrong.nan))
    record = runner.run(QualitySpec(attention="nan", seq_len=96), EFFORT)
    assert record.status == "incorrect"
    assert "not finite" in record.reasons[0]


def test_an_incorrect_record_cannot_carry_a_timing(added):
    added(wrong.plugin_of(wrong.zeros))
    record = runner.run(spec_of("zeros"), EFFORT)
    assert record.status == "incorrect"
    with pytest.raises(ValidationError, match="must not carry a timing"):
        type(record).model_validate(
            record.model_dump() | {"timing": {"wall_seconds": [1.0], "warmup_calls": 1}},
        )


MODEL = {"seq_len": 32, "hidden_size": 32, "heads": 2, "layers": 1, "vocab_size": 50}


@pytest.mark.parametrize("mode", ["forward", "training_step"])
def test_a_model_has_parameters_timing_and_memory(mode):
    record = runner.run(ModelSpec(attention="sdpa", mode=mode, **MODEL), EFFORT)
    assert (record.status, record.reasons) == ("ok", [])
    assert record.parameters > 10_000
    assert record.memory.peak_bytes > 0
    agreement = [check for check in record.checks if check.what == "output against eager softmax"]
    assert len(agreement) == (mode == "forward")


def test_a_model_whose_attention_differs_from_its_name_is_incorrect(added):
    added(wrong.plugin_of(wrong.unscaled))
    record = runner.run(ModelSpec(attention="unscaled", **MODEL), EFFORT)
    assert record.status == "incorrect"
    assert record.reasons[0].startswith("layers: output: layer 1 of 1: error 0.")
    assert "eager softmax" in record.reasons[-1]


@pytest.mark.parametrize("name", ["longformer", "nystromformer"])
@pytest.mark.parametrize("seq_len", [32, 160])
def test_a_model_is_compared_with_softmax_where_its_attention_is_softmax_at_that_length(name, seq_len):
    """A window that covers the sequence, or as many landmarks as tokens."""
    record = runner.run(ModelSpec(attention=name, **MODEL | {"seq_len": seq_len}), EFFORT)
    assert (record.status, record.reasons) == ("ok", [])
    agreement = [check for check in record.checks if check.what == "output against eager softmax"]
    assert len(agreement) == (seq_len == 32)


def test_a_model_with_nan_is_incorrect(added):
    added(wrong.plugin_of(wrong.nan))
    assert runner.run(ModelSpec(attention="nan", **MODEL), EFFORT).status == "incorrect"


def test_the_fingerprint_names_no_host_and_no_path():
    import platform

    fingerprint = machine.fingerprint()
    values = [str(value) for value in fingerprint.values()]
    assert torch.__version__.startswith(str(fingerprint["torch"]).split("+")[0])
    assert fingerprint["memory_bytes"] > 2**28
    assert platform.node() not in values
    assert not any(value.startswith("/") for value in values)


def test_the_commit_of_a_copy_without_git_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv(machine.COMMIT, "0123abc")
    monkeypatch.setattr(git, "run", lambda *_, **__: git.GitResult(128, "", "not a git repository"))
    assert machine.commit() == "0123abc"


def test_the_commit_of_a_checkout_comes_from_git_and_not_from_the_environment(monkeypatch):
    answers = {"ls-files": "machine.py", "rev-parse": "f00d", "status": " M file"}
    monkeypatch.setenv(machine.COMMIT, "0123abc")
    monkeypatch.setattr(git, "run", lambda folder, command, *_: git.GitResult(0, answers[command], ""))
    assert machine.commit() == "f00d+dirty"
