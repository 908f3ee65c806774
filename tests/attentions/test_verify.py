"""The verifier accepts right attentions and detects each kind of wrong one."""

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
    (reason,) = verify.failures(
        verify.check(
            plugin := wrong.plugin_of(wrong.wrong_shape),
            spec := spec_of(plugin),
            plugin.build(spec),
            inputs.make(spec),
        )
    )
    assert "[2, 2, 199, 64]" in reason
    assert "[2, 2, 200, 64]" in reason


def test_sampled_rows_include_the_first_and_last_real_position_and_no_padding():
    spec = spec_of(wrong.RIGHT, seq_len=1000, padding=0.25)
    rows = sample_rows(inputs.make(spec), 64, seed=3).tolist()
    assert len(rows) == 64
    assert rows == sorted(set(rows))
    assert (rows[0], rows[-1]) == (0, 749)


YOSO_HASH_FAMILIES = [("yoso", {"hash_family": family}) for family in ("gaussian", "hadamard_authors")]


@pytest.mark.parametrize(("name", "knobs"), [*((name, {}) for name in registry.names()), *YOSO_HASH_FAMILIES])
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
