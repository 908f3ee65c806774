"""The verifier accepts right attentions and detects each kind of wrong one."""

from dataclasses import replace

import contract_breakers as breakers
import failed_sentences
import pytest
import torch
import wrong_attentions as wrong
from stand_in_kernels import kernels
from torch.fx.experimental import _config

from harness.attentions import transformers_yoso
from harness.core import registry
from harness.core.spec import OperationSpec
from harness.measure import inputs, verify
from harness.measure.sampled_rows import run_oracle, sample_rows
from harness.measure.worst_rows import Comparison


def spec_of(plugin, **changes):
    return OperationSpec(**({"attention": plugin.name, "seq_len": 200, "heads": 2, "batch": 2} | changes))


def failed_checks(plugin, **changes):
    spec = spec_of(plugin, **changes)
    checks = verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))
    return [check.what for check in checks if not check.passed]


def name(plugin):
    return plugin.name


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("padding", [0.0, 0.3])
@pytest.mark.parametrize("seq_len", [1, 2, 9, 200])
def test_right_attention_passes(mode, dtype, padding, seq_len):
    assert failed_checks(wrong.RIGHT, mode=mode, dtype=dtype, padding=padding, seq_len=seq_len) == []


@pytest.mark.parametrize("seq_len", [5, 33])
def test_the_rounding_of_a_sum_over_many_hashes_is_no_mistake(seq_len):
    for seed in range(6):
        changes = {"batch": 3, "heads": 3, "head_dim": 16, "mode": "forward_backward", "knobs": {"num_hash": 256}}
        assert failed_checks(registry.get("yoso"), seq_len=seq_len, seed=seed, **changes) == []


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("plugin", wrong.INCORRECT, ids=name)
def test_wrong_attention_is_detected(plugin, mode):
    assert failed_checks(plugin, mode=mode)


@pytest.mark.parametrize("plugin", wrong.INCORRECT_PADDED, ids=name)
def test_wrong_mask_is_detected(plugin):
    assert failed_checks(plugin) == []
    assert "output after a change of padded keys" in failed_checks(plugin, padding=0.25)


@pytest.mark.parametrize("plugin", wrong.INCORRECT_BACKWARD, ids=name)
def test_wrong_gradient_is_detected(plugin):
    assert failed_checks(plugin) == []
    assert set(failed_checks(plugin, mode="forward_backward")) & {"grad_k", "grad_v"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropped_tail_keys_are_detected_in_a_long_sequence(dtype):
    assert failed_checks(wrong.plugin_of(wrong.drops_tail_keys), seq_len=4000, batch=1, heads=1, dtype=dtype)


def test_wrong_shape_gives_both_shapes_in_the_reason():
    (reason,) = failed_sentences.of(
        verify.check(
            plugin := wrong.plugin_of(wrong.wrong_shape),
            spec := spec_of(plugin),
            plugin.build(spec),
            inputs.make(spec),
        )
    )
    assert "[2, 2, 199, 64]" in reason
    assert "[2, 2, 200, 64]" in reason


def failures(function, **changes):
    plugin = wrong.plugin_of(function)
    spec = OperationSpec(**({"attention": plugin.name, "heads": 2, "seq_len": 1000} | changes))
    return failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec)))


def begins(messages, start):
    return any(message.startswith(start) for message in messages)


def test_one_wrong_row_is_named():
    assert begins(failures(wrong.errs_at_row_411), "output, worst row: row 411 of head ")
    assert begins(failures(wrong.errs_at_row_411, dtype="bfloat16", batch=2), "output, worst row: row 411 of head ")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_wrong_odd_rows_are_detected(dtype):
    assert begins(failures(wrong.errs_at_odd_rows, dtype=dtype), "output, worst row: row ")


def test_one_wrong_head_of_many_is_named():
    wrong_head = failures(wrong.errs_in_head_5, heads=8, seq_len=300, dtype="bfloat16")
    assert begins(wrong_head, "output, worst head: head 5: error ")


@pytest.mark.parametrize("seq_len", [1000, 1500])
def test_attention_that_computes_only_the_rows_of_a_known_sample_is_detected(seq_len):
    rows = failures(wrong.right_at_64_rows_of_seed_0, seq_len=seq_len, heads=1)
    assert begins(rows, "output: error ")
    assert begins(rows, "output, worst row: row ")


def test_wrong_last_row_is_named_where_padding_is_at_the_front():
    plugin = wrong.plugin_of(wrong.errs_at_the_last_row)
    spec = spec_of(plugin, seq_len=1000, padding=0.25, dtype="bfloat16")
    given = inputs.make(spec)
    front = replace(given, key_padding_mask=given.key_padding_mask.flip(1))
    messages = failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), front))
    assert begins(messages, "output, worst row: row 999 of head ")


def failures_with_own_padding(function, **changes):
    """Of 2 sequences of 200 tokens: the first is real up to position 99, and the second from position 90 on."""
    plugin = wrong.plugin_of(function)
    spec = spec_of(plugin, padding=0.25, **changes)
    position = torch.arange(200)
    given = replace(inputs.make(spec), key_padding_mask=torch.stack([position < 100, position >= 90]))
    return failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), given))


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_right_attention_passes_where_each_sequence_has_its_own_padding(mode, dtype):
    assert failures_with_own_padding(wrong.right, mode=mode, dtype=dtype) == []
    assert failures_with_own_padding(wrong.unspecified_at_padding, mode=mode, dtype=dtype) == []


def test_wrong_row_that_is_real_in_one_sequence_only_is_named():
    wrong_row = failures_with_own_padding(wrong.errs_at_the_last_row)
    assert begins(wrong_row, "output: error ")
    assert begins(wrong_row, "output, worst row: row 199 of head ")
    assert all("of sequence 1" in message for message in wrong_row if "worst row" in message)
    assert begins(failures_with_own_padding(wrong.uses_the_first_mask_for_all), "output: error ")


def test_gradient_of_a_query_that_is_real_in_one_sequence_only_is_compared():
    lost = failures_with_own_padding(wrong.loses_gradient_through_output_77, mode="forward_backward")
    assert begins(lost, "grad_q, worst row: row 77 of head ")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_wrong_gradients_of_one_position_are_named(dtype):
    changes = {"mode": "forward_backward", "dtype": dtype}
    assert begins(failures(wrong.loses_gradient_of_query_77, **changes), "grad_q, worst row: row 77 of head ")
    assert begins(failures(wrong.loses_gradient_of_key_77, **changes), "grad_v, worst row: row 77 of head ")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_that_is_lost_in_one_output_row_is_named(dtype):
    lost = failures(wrong.loses_gradient_through_output_77, mode="forward_backward", dtype=dtype)
    assert begins(lost, "grad_q, worst row: row 77 of head ")


@pytest.mark.parametrize(
    ("seq_len", "dtype"), [(4096, "float32"), (4096, "bfloat16"), (4096, "float16"), (8192, "bfloat16")]
)
def test_one_lost_key_is_detected(seq_len, dtype):
    lost = failures(wrong.loses_key_1234, seq_len=seq_len, heads=1, dtype=dtype)
    assert begins(lost, "output, mean deviation: head ")


def test_one_lost_key_is_named_by_its_gradient():
    lost = failures(wrong.loses_key_1234, seq_len=1300, heads=1, dtype="bfloat16", mode="forward_backward")
    assert begins(lost, "grad_v, worst row: row 1234 of head 0: error ")


@pytest.mark.parametrize(
    ("plugin_class", "error"), [(breakers.RoughKernelError, 0.004), (breakers.OracleRoughInFloat32, 0.02)]
)
def test_a_rough_module_is_detected_although_its_plugin_allows_it(plugin_class, error):
    plugin = plugin_class("rough", lambda: wrong.FunctionModule(lambda *given: wrong.right(*given) * (1 + error)))
    assert "output" in failed_checks(plugin)


def test_a_value_that_is_not_finite_is_named():
    assert "output, worst row: row 77 of head 0: error not finite" in "; ".join(failures(wrong.nan_at_one_token))


@pytest.mark.parametrize(
    ("oracle_error", "row_error", "passes"),
    [
        (0.0, 0.1, False),
        (0.01, 0.5, False),
        (0.2, 0.75, True),
        (0.2, 0.85, False),
        (0.3, 1.15, True),
        (0.3, 1.25, False),
    ],
)
def test_row_may_err_by_more_than_half_only_where_the_oracle_errs_by_much(oracle_error, row_error, passes):
    """As in Nystromformer's gradients in bfloat16, where the matrix that it inverts is nearly singular."""
    truth = torch.ones(1, 2, 100, 16, dtype=torch.float64)
    scale = torch.ones(1, 2, 100, 1, dtype=torch.float64)
    scale[0, 1, 16] += 1.0
    measured, rounded = (truth * (1 + error * (scale - 1)) for error in (row_error, oracle_error))
    worst = Comparison(measured, truth, rounded, torch.arange(100), floor=1e-3, limit=0.5).worst_row()
    assert worst.where == "row 16 of head 1"
    assert (worst.error <= worst.allowed) == passes


@pytest.mark.parametrize(("shift", "passes"), [(0.035, True), (0.045, False)])
def test_head_may_shift_by_twice_what_the_oracle_shifts_its_most_shifted_head(shift, passes):
    """As in Performer in bfloat16: the oracle shifted this head by 0.004, another by 0.009, and the module by 0.010."""
    alternating = torch.ones(1, 2, 100, 16, dtype=torch.float64)
    alternating[:, :, ::2] = -1  # an error of alternating sign shifts nothing
    truth = torch.ones(1, 2, 100, 16, dtype=torch.float64)
    rounded = truth + 0.1 * alternating + torch.tensor([0.005, 0.02]).view(1, 2, 1, 1)
    measured = truth + torch.tensor([shift, 0.0]).view(1, 2, 1, 1)
    worst = Comparison(measured, truth, rounded, torch.arange(100), floor=1e-3, limit=0.5).worst_shift(100_000)
    assert worst.where == "head 0"
    assert worst.error == pytest.approx(shift)
    assert (worst.error <= worst.allowed) == passes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("attention", ["softmax", "sdpa", "yoso", "yoso_e"])
def test_right_attention_passes_with_many_seeds(attention, dtype):
    plugin = registry.get(attention)
    for seed in range(10):
        assert failed_checks(plugin, seq_len=33, dtype=dtype, mode="forward_backward", seed=seed) == []


def test_rows_of_a_long_sequence_differ_between_cases_and_their_seed_reproduces_the_checks():
    plugin, spec = wrong.RIGHT, spec_of(wrong.RIGHT, seq_len=1100, batch=1)
    module, given = plugin.build(spec), inputs.make(spec)
    first, second = (verify.check(plugin, spec, module, given) for _ in range(2))
    seeds = {check.rows_seed for check in first}
    assert len(seeds) == 1
    assert seeds != {check.rows_seed for check in second}
    assert verify.check(plugin, spec, module, given, seeds.pop()) == first


def test_every_row_of_a_short_sequence_is_compared_so_that_no_seed_is_recorded():
    spec = spec_of(wrong.RIGHT, seq_len=64)
    checks = verify.check(wrong.RIGHT, spec, wrong.RIGHT.build(spec), inputs.make(spec))
    assert {check.rows_seed for check in checks} == {None}


def test_sampled_rows_include_the_first_and_last_real_position_and_no_padding():
    spec = spec_of(wrong.RIGHT, seq_len=1000, padding=0.25)
    rows = sample_rows(inputs.make(spec), 64, seed=3).tolist()
    assert len(rows) == 64
    assert rows == sorted(set(rows))
    assert (rows[0], rows[-1]) == (0, 749)


YOSO_HASH_FAMILIES = [("yoso", {"hash_family": family}) for family in ("gaussian", "hadamard_authors")]
YOSO_RESCORED = [("yoso", {"estimator": "rescored", "shared_keys": 9})]


@pytest.mark.parametrize(
    ("name", "knobs"), [*((name, {}) for name in registry.names()), *YOSO_HASH_FAMILIES, *YOSO_RESCORED]
)
def test_oracle_computes_on_the_device_of_its_inputs(monkeypatch, name, knobs):
    """Tested on torch's meta device, which raises if tensors of another device are used; every mask is True there."""
    monkeypatch.setattr(transformers_yoso, "_kernels", kernels)  # its oracle uses the codes of these kernels
    plugin = registry.get(name)
    spec = OperationSpec(attention=name, seq_len=40, heads=2, batch=2, head_dim=16, knobs=knobs, device="meta")
    with torch.device("meta"), _config.patch(meta_nonzero_assume_all_nonzero=True):
        q, k, v = (torch.empty(2, 2, 40, 16, dtype=torch.float64, requires_grad=True) for _ in range(3))
        out = plugin.oracle(spec, q, k, v, torch.empty(2, 40, dtype=torch.bool), torch.arange(5))
        results = [out, *torch.autograd.grad(out, (q, k, v), torch.empty_like(out))]
    assert {result.device.type for result in results} == {"meta"}


def test_oracle_in_chunks_equals_oracle_at_once(monkeypatch):
    spec = spec_of(wrong.RIGHT, mode="forward_backward", seq_len=40)
    given = inputs.make(spec)
    rows = torch.arange(40)
    whole = run_oracle(wrong.RIGHT, spec, given, rows, torch.float64, backward=True)
    monkeypatch.setattr("harness.measure.sampled_rows.ORACLE_BYTES", {"cpu": 1})
    chunked = run_oracle(wrong.RIGHT, spec, given, rows, torch.float64, backward=True)
    for expected, actual in zip(whole.named().values(), chunked.named().values(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
