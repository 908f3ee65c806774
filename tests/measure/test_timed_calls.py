"""What is timed is what was verified: calls have new inputs, and some of their results are compared with the oracle."""

import time

import cheating_attentions as cheating
import pytest
import torch
import wrong_attentions as wrong

from harness.cases import runner
from harness.core import registry
from harness.core.capabilities import Capabilities
from harness.core.record import TIMED_CALL
from harness.core.spec import Effort, ModelSpec, OperationSpec, QualitySpec, TaskSpec
from harness.measure import inputs, neighbours, sampled_rows, timing
from harness.measure.kept_samples import FIRST, LAST, KeptSamples
from harness.measure.timed_calls import TimedCalls

EFFORT = Effort(min_samples=12, max_samples=12, seconds=0.0, warmup_calls=10, warmup_seconds=0.0)
NAMES = ("softmax", "sdpa", "yoso", "yoso_e", "linformer", "reformer", "performer_softmax", "nystromformer")


@pytest.fixture(autouse=True)
def _only_the_case_itself(monkeypatch):
    """Without its neighbours, which have tests of their own and are verified before anything is timed."""
    monkeypatch.setattr(neighbours, "check", lambda plugin, spec: [])


def run(plugin, spec_class=OperationSpec, **changes):
    sizes = {"seq_len": 96, "heads": 2} if spec_class is OperationSpec else {"seq_len": 48}
    registry.add(plugin)
    try:
        return runner.run(spec_class(**({"attention": plugin.name} | sizes | changes)), EFFORT)
    finally:
        registry.remove(plugin.name)


def failed_while_timed(record):
    assert record.status == "incorrect", record.reasons
    assert record.timing is None
    return [check.what for check in record.checks if not check.passed and check.is_of_timed_call]


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize(
    "module",
    [cheating.ZerosLater, cheating.CachedByShape, cheating.CachedByAddress, cheating.CachedByOneNumber],
)
def test_answers_that_are_cheaper_in_later_calls_are_incorrect(module, mode):
    record = run(cheating.named(module), mode=mode, seq_len=4096 if module is cheating.CachedByAddress else 96)
    assert failed_while_timed(record)
    assert any("the last, call " in reason for reason in record.reasons)


def test_answers_that_were_computed_before_the_inputs_were_known_are_incorrect():
    assert f"{TIMED_CALL}: output" in failed_while_timed(run(cheating.BuildsPrecomputed()))


def test_a_tensor_that_computes_when_it_is_read_is_incorrect():
    record = run(cheating.named(cheating.LazyLater))
    assert "a subclass of torch.Tensor; return a plain tensor" in record.reasons[0]


def test_an_output_that_another_thread_fills_in_is_incorrect():
    assert f"{TIMED_CALL}: output" in failed_while_timed(run(cheating.named(cheating.InAnotherThread)))


@pytest.mark.parametrize("module", [cheating.GradientsOfZeroLater, cheating.HalfOfTheBackward])
def test_gradients_that_are_cheaper_in_timed_calls_are_incorrect(module):
    failed = failed_while_timed(run(cheating.named(module), mode="forward_backward", seq_len=1100))
    assert f"{TIMED_CALL}: grad_v" in failed


def test_a_mask_that_the_call_changes_is_incorrect():
    record = run(cheating.named(cheating.ChangesMask), padding=0.25, batch=2)
    cause, others = record.reasons
    assert cause.startswith("share of input numbers that the call changed: key_padding_mask: error ")
    assert others.startswith("also wrong: output, ")


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_a_mask_that_is_remembered_is_incorrect(mode):
    record = run(cheating.named(cheating.RemembersMask), padding=0.25, batch=2, seq_len=200, mode=mode)
    assert "output of a second call" in {check.what for check in record.checks if not check.passed}


def test_an_attention_that_is_not_the_softmax_attention_that_it_declares_is_incorrect():
    record = run(cheating.WindowAsSoftmax())
    assert record.reasons[0].startswith("oracle against softmax attention: error ")


def test_a_kernel_error_that_would_hide_half_precision_is_not_allowed():
    def halves(q, k, v, mask):
        return wrong.right(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask).to(q.dtype)

    plugin = wrong.plugin_of(halves)
    plugin.kernel_error = 0.45
    assert run(plugin).status == "incorrect"


def test_the_padding_differs_from_call_to_call_and_not_in_the_mean():
    spec = OperationSpec(attention="sdpa", seq_len=200, heads=1, batch=3, padding=0.25)
    fresh = inputs.FreshInputs(spec, None, sets=1)
    lengths = torch.stack([fresh.of_call(number).key_padding_mask.sum(1) for number in range(200)])
    assert lengths.unique().tolist() == [*range(144, 150), *range(151, 157)]
    assert lengths.double().mean() == pytest.approx(150, abs=0.7)


@pytest.mark.parametrize("spec_class", [OperationSpec, QualitySpec])
def test_an_oracle_that_raises_gives_a_reason_and_no_time(spec_class):
    plugin = wrong.plugin_of(wrong.right)
    plugin.oracle = lambda *arguments: [][1]
    record = run(plugin, spec_class)
    assert (record.status, record.timing, record.quality) == ("crashed", None, None)
    assert "oracle of right raised IndexError: list index out of range" in " ".join(record.reasons)


def test_an_oracle_that_is_too_slow_gives_a_reason_and_no_time(monkeypatch):
    monkeypatch.setattr(sampled_rows, "ORACLE_SECONDS", 0.02)
    monkeypatch.setitem(sampled_rows.ORACLE_BYTES, "cpu", 1)  # every row is a chunk

    class Slow(wrong.StubPlugin):
        def unsupported(self, spec):
            return [] if spec.batch == 1 else ["it has no neighbours"]

        def oracle(self, *arguments):
            time.sleep(0.01)
            return super().oracle(*arguments)

    record = run(Slow("slow", lambda: wrong.FunctionModule(wrong.right)))
    assert (record.status, record.timing) == ("timeout", None)
    assert record.reasons == [
        "not verified, and so not timed: the oracle of slow took longer than 0.02 s for 96 rows of 96 tokens"
    ]


def test_a_sample_that_is_random_and_last_is_verified_as_the_last():
    samples = KeptSamples()
    for purpose in ("sample", "last sample", "last sample"):  # as in turns of one sample, the second is always random
        assert samples.begin(purpose)
        result = object()
        samples.keep(result)
    assert samples.distinct()[-1] == (LAST, result)
    assert next(name for name, _ in samples.distinct()) == FIRST
    assert not samples.begin("warm-up")


def test_a_result_that_is_recognised_by_its_numbers_is_never_found_again(monkeypatch):
    """A cache by content is right, and useless: no input comes twice, so the time is that of the computation."""
    hits, timed = [], []
    measure = timing.measure

    class CachedByContent(torch.nn.Module):
        kept: dict[bytes, torch.Tensor] = {}  # noqa: RUF012  a cache of the process, as such an attention has it

        def forward(self, q, k, v, mask):
            key = b"".join(x.numpy().tobytes() for x in (q, k, v, mask) if x is not None)
            hits.append(key in self.kept)
            if key not in self.kept:
                self.kept[key] = wrong.right(q, k, v, mask)
            return self.kept[key].clone()

    def noted(*arguments):
        before = len(hits)
        measured = measure(*arguments)
        timed.extend(hits[before:])
        return measured

    monkeypatch.setattr(timing, "measure", noted)
    record = run(cheating.named(CachedByContent))
    assert record.status == "ok"
    assert len(timed) >= record.timing.warmup_calls + len(record.timing.wall_seconds)
    assert not any(timed)
    assert any(hits)  # the verification repeats calls


def test_inputs_differ_from_call_to_call_in_numbers_and_memory_and_are_known_from_the_seed():
    spec = OperationSpec(attention="sdpa", seq_len=50, heads=2, padding=0.2)
    fresh = inputs.FreshInputs(spec, None, sets=3)
    seen = [fresh.of_call(number).q.clone() for number in range(20)]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert fresh.of_call(0).q.data_ptr() != fresh.of_call(1).q.data_ptr()
    again = inputs.FreshInputs(spec, fresh.seed, sets=1)
    for name in ("q", "k", "v", "grad", "key_padding_mask"):
        assert torch.equal(getattr(again.of_call(7), name), getattr(fresh.again(7), name))
    assert fresh.seed != inputs.FreshInputs(spec, None, sets=1).seed
    long = inputs.FreshInputs(spec.model_copy(update={"seq_len": 5000}), 0, sets=1).of_call(3)
    for tensor in (long.q, long.k, long.v, long.grad):
        assert abs(tensor.mean()) < 0.01
        assert tensor.std() == pytest.approx(1.0, abs=0.01)


def test_the_number_of_input_sets_is_the_same_however_long_a_call_takes():
    """It is a condition of the timing: runs in which it differs cannot be compared."""
    spec = OperationSpec(attention="none", seq_len=64)
    calls = TimedCalls(registry.get("none"), spec, registry.get("none").build(spec))
    before = calls.input_sets
    calls.ready(3, "sample")
    assert calls.input_sets == before > 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("attention", NAMES)
def test_right_attentions_pass_and_their_timed_calls_are_verified(attention, dtype):
    for seed in range(2) if dtype == "float32" else (1,):
        changes = {"mode": "forward_backward", "padding": 0.25 * seed, "batch": 1 + seed}
        spec = OperationSpec(attention=attention, seq_len=80, heads=2, dtype=dtype, seed=seed, **changes)
        record = runner.run(spec, EFFORT)
        assert (record.status, record.reasons) == ("ok", [])
        timed = {check.what for check in record.checks if check.is_of_timed_call}
        assert timed >= {f"{TIMED_CALL}: {name}" for name in ("output", "grad_q", "grad_k", "grad_v")}
        assert record.timing.inputs_seed > 0


@pytest.mark.parametrize("mode", ["forward", "training_step"])
def test_an_attention_that_is_wrong_inside_a_model_is_incorrect(mode):
    record = run(cheating.named(cheating.WrongInModels), ModelSpec, mode=mode)
    assert record.status == "incorrect"
    assert record.reasons[0].startswith("layers: output: layer 1 of 2: error 0.001")


def test_wrong_gradients_inside_a_model_are_incorrect():
    record = run(cheating.named(cheating.WrongGradientInModels), ModelSpec, mode="training_step")
    assert {check.what for check in record.checks if not check.passed} >= {"layers: grad_q", "layers: grad_v"}


@pytest.mark.parametrize("mode", ["forward", "training_step"])
def test_an_attention_that_is_wrong_in_later_calls_of_a_model_is_incorrect(mode):
    failed = failed_while_timed(run(cheating.named(cheating.WrongInModelsLater), ModelSpec, mode=mode))
    assert f"{TIMED_CALL}: layers: output" in failed


@pytest.mark.parametrize("mode", ["forward", "training_step"])
def test_an_attention_that_is_not_deterministic_may_not_differ_more_than_its_repetitions(mode, monkeypatch):
    clock_runs = False
    measure = timing.measure

    class ZerosInTimedCalls(torch.nn.Module):
        def forward(self, q, k, v, mask):
            return (q + k + v) * 0 if clock_runs else wrong.right(q, k, v, mask)

    def cheated(*arguments):
        nonlocal clock_runs
        clock_runs = True
        try:
            return measure(*arguments)
        finally:
            clock_runs = False

    monkeypatch.setattr(timing, "measure", cheated)
    plugin = cheating.named(ZerosInTimedCalls)
    plugin.capabilities = Capabilities(deterministic=False, why={"deterministic": "tests"})
    failed = failed_while_timed(run(plugin, ModelSpec, mode=mode))
    changed = "result" if mode == "forward" else "gradients of the weights"
    assert f"{TIMED_CALL}: {changed} {'of' if mode == 'forward' else 'in'} its repetition" in failed


@pytest.mark.parametrize("attention", ["yoso", "sdpa", "linformer", "yoso_conv"])
@pytest.mark.parametrize("mode", ["forward", "training_step"])
def test_every_layer_of_a_right_model_is_verified(attention, mode):
    record = runner.run(ModelSpec(attention=attention, seq_len=48, mode=mode, head="sequence_classification"), EFFORT)
    assert (record.status, record.reasons) == ("ok", [])
    names = {check.what for check in record.checks}
    assert "layers: output" in names
    assert ("layers: grad_k" in names) == (mode == "training_step")
    assert f"{TIMED_CALL}: result of its repetition" in names
    trained_weights = attention in ("linformer", "yoso_conv") and mode == "training_step"
    assert (f"{TIMED_CALL}: layers: output" in names) == (not trained_weights)
    assert bool(record.unverified) == trained_weights


def test_a_model_with_its_own_attention_is_said_to_be_unverified():
    record = runner.run(ModelSpec(attention="yoso_e", family="transformers_yoso", seq_len=48), EFFORT)
    assert record.status == "ok"
    assert record.unverified == [
        "the attention inside: a model of family transformers_yoso contains its own and does not look one up"
    ]


@pytest.mark.parametrize("plugin", cheating.WRONG_IN_QUALITY, ids=lambda plugin: plugin.name)
def test_an_attention_that_is_wrong_in_a_quality_case_is_incorrect(plugin):
    record = run(plugin, QualitySpec)
    assert record.status == "incorrect"
    assert record.quality is None
    expected = {
        "wrong_in_quality": "output: error 1",
        "ignores_budget": "share of outputs that are the same with features 64 and 16: error 1",
        "obeys_budget_in_its_oracle_only": "output: error 0.015",
    }
    assert record.reasons[0].startswith(expected[plugin.name])


TASK = {"task": "listops", "steps": 3, "train_examples": 32, "eval_examples": 16, "seeds": 1, "batch": 4}


@pytest.mark.parametrize("module", [cheating.WrongInModels, cheating.WrongGradientInModels])
def test_an_attention_that_is_wrong_inside_a_task_is_incorrect_before_the_training(module):
    record = run(cheating.named(module), TaskSpec, **TASK)
    assert record.status == "incorrect"
    assert record.task is None
    assert record.reasons[0].startswith("layers of the untrained model, training: ")


def test_an_attention_that_is_wrong_after_a_training_is_incorrect():
    calls = []

    class WrongAfterTraining(torch.nn.Module):
        def forward(self, q, k, v, mask):
            calls.append(q.shape)
            # Eight calls verify the two layers of the untrained model, and six train it.
            return wrong.right(q, k, v, mask) * (1.0 if len(calls) <= 14 else 1.01)

    record = run(cheating.named(WrongAfterTraining), TaskSpec, **TASK)
    assert record.status == "incorrect"
    assert record.reasons[0].startswith("layers of the model of seed 0, training: output")


@pytest.mark.parametrize("attention", ["yoso", "linformer"])
def test_a_right_attention_is_verified_before_and_after_a_training(attention):
    record = runner.run(TaskSpec(attention=attention, seq_len=48, **TASK), EFFORT)
    assert (record.status, record.reasons) == ("ok", [])
    names = {check.what for check in record.checks}
    assert {f"layers of the untrained model, {mode}: output" for mode in ("training", "evaluation")} <= names
    assert ("layers of the model of seed 0, evaluation: output" in names) == (attention == "yoso")
    assert bool(record.unverified) == (attention == "linformer")
