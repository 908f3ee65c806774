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


def failed(plugin, **changes):
    spec = spec_of(plugin, **changes)
    checks = verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))
    return [check.what for check in checks if not check.passed]


def name(plugin):
    return plugin.name


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("padding", [0.0, 0.3])
@pytest.mark.parametrize("seq_len", [1, 2, 9, 200])
def test_a_right_attention_passes(mode, dtype, padding, seq_len):
    assert failed(wrong.RIGHT, mode=mode, dtype=dtype, padding=padding, seq_len=seq_len) == []


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("plugin", wrong.INCORRECT, ids=name)
def test_a_wrong_attention_is_caught(plugin, mode):
    assert failed(plugin, mode=mode)


@pytest.mark.parametrize("plugin", wrong.INCORRECT_PADDED, ids=name)
def test_a_wrong_mask_is_caught(plugin):
    assert failed(plugin) == []
    assert "output after a change of padded keys" in failed(plugin, padding=0.25)


@pytest.mark.parametrize("plugin", wrong.INCORRECT_BACKWARD, ids=name)
def test_a_wrong_gradient_is_caught(plugin):
    assert failed(plugin) == []
    assert set(failed(plugin, mode="forward_backward")) & {"grad_k", "grad_v"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tail_keys_that_are_dropped_show_at_any_length(dtype):
    assert failed(wrong.of(wrong.drops_tail_keys), seq_len=4000, batch=1, heads=1, dtype=dtype)


def test_a_wrong_shape_is_said_in_words():
    (reason,) = verify.failures(
        verify.check(
            plugin := wrong.of(wrong.wrong_shape),
            spec := spec_of(plugin),
            plugin.build(spec),
            inputs.make(spec),
        )
    )
    assert "[2, 2, 199, 64]" in reason
    assert "[2, 2, 200, 64]" in reason


def test_rows_hold_the_first_and_the_last_real_position_and_no_padded_one():
    spec = spec_of(wrong.RIGHT, seq_len=1000, padding=0.25)
    rows = sample_rows(inputs.make(spec), 64, seed=3).tolist()
    assert len(rows) == 64
    assert rows == sorted(set(rows))
    assert (rows[0], rows[-1]) == (0, 749)


FAMILIES = [("yoso", {"hash_family": family}) for family in ("gaussian", "hadamard_authors")]


@pytest.mark.parametrize(("name", "knobs"), [*((name, {}) for name in registry.names()), *FAMILIES])
def test_an_oracle_works_where_its_inputs_are(monkeypatch, name, knobs):
    """On torch's device without numbers, whose tensors mix with no others; there every mask is True."""
    monkeypatch.setattr(transformers_yoso, "_kernels", kernels)  # whose codes its oracle takes
    plugin = registry.get(name)
    spec = OperationSpec(attention=name, seq_len=40, heads=2, batch=2, head_dim=16, knobs=knobs, device="meta")
    with torch.device("meta"), _config.patch(meta_nonzero_assume_all_nonzero=True):
        q, k, v = (torch.empty(2, 2, 40, 16, dtype=torch.float64, requires_grad=True) for _ in range(3))
        out = plugin.oracle(spec, q, k, v, torch.empty(2, 40, dtype=torch.bool), torch.arange(5))
        found = [out, *torch.autograd.grad(out, (q, k, v), torch.empty_like(out))]
    assert {x.device.type for x in found} == {"meta"}


def test_the_oracle_in_chunks_equals_the_oracle_at_once(monkeypatch):
    spec = spec_of(wrong.RIGHT, mode="forward_backward", seq_len=40)
    given = inputs.make(spec)
    rows = torch.arange(40)
    whole = run_oracle(wrong.RIGHT, spec, given, rows, torch.float64, backward=True)
    monkeypatch.setattr("harness.measure.sampled_rows.ORACLE_BYTES", {"cpu": 1})
    chunked = run_oracle(wrong.RIGHT, spec, given, rows, torch.float64, backward=True)
    for ours, theirs in zip(whole.named().values(), chunked.named().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
