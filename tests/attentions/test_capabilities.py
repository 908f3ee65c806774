"""Every module does what its plugin declares; ``harness list`` prints the table of capabilities."""

import failed_sentences
import pytest
import torch
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core import registry
from harness.core.capabilities import HEADINGS, Capabilities
from harness.core.spec import OperationSpec
from harness.measure import inputs, verify

SIZES = {"batch": 2, "heads": 4, "head_dim": 16, "seq_len": 40}
COMPILED_BY_INDUCTOR = {"flex"}
"""Attentions that compile their own kernel, which takes half a minute each; other tests cover them."""


def spec_of(name, **changes):
    return OperationSpec(attention=name, **SIZES | changes)


def runs_here(name, **changes):
    return not registry.get(name).unsupported(spec_of(name, **changes))


def module_and_inputs(name, kv_heads=4, **changes):
    q = torch.randn(2, 4, 40, 16)
    k, v = (torch.randn(2, kv_heads, 40, 16) for _ in range(2))
    return registry.get(name).build(spec_of(name, **changes)), (q, k, v)


def declaring(ability, **changes):
    """Names of the attentions that run on this machine and declare the ability."""
    return [
        name
        for name in registry.names()
        if name not in COMPILED_BY_INDUCTOR
        and runs_here(name, **changes)
        and getattr(registry.get(name).capabilities, ability)
    ]


def call_with_seed_0(module, *arguments):
    torch.manual_seed(0)
    return module(*arguments)


@pytest.mark.parametrize("name", declaring("cross_attention"))
@pytest.mark.parametrize(("n_q", "n_k"), [(40, 17), (17, 40)])
def test_cross_attention_matches_oracle(name, n_q, n_k):
    plugin = registry.get(name)
    module, (q, k, v) = module_and_inputs(name)
    q, k, v = q[:, :, :n_q], k[:, :, :n_k], v[:, :, :n_k]
    mask = torch.arange(n_k) < torch.tensor([[n_k], [9]])
    torch.manual_seed(0)
    expected = plugin.oracle(spec_of(name), q, k, v, mask, torch.arange(n_q))
    torch.testing.assert_close(call_with_seed_0(module, q, k, v, mask), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", declaring("gqa"))
def test_grouped_query_attention_equals_repeated_key_heads(name):
    module, (q, k, v) = module_and_inputs(name, kv_heads=2)
    repeated = [x.repeat_interleave(2, 1) for x in (k, v)]
    torch.testing.assert_close(
        call_with_seed_0(module, q, k, v, None), call_with_seed_0(module, q, *repeated, None), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("name", declaring("backward", mode="forward_backward"))
def test_gradients_are_finite(name):
    module, qkv = module_and_inputs(name, mode="forward_backward")
    out = call_with_seed_0(module, *(x.requires_grad_() for x in qkv), None)
    gradients = torch.autograd.grad(out.square().sum(), qkv)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_at_least_fifteen_attentions_run_forward_and_backward_on_a_cpu():
    assert len(declaring("backward", mode="forward_backward")) >= 15


@pytest.mark.parametrize("name", declaring("padding_mask"))
def test_padded_keys_do_not_change_real_outputs(name):
    module, (q, k, v) = module_and_inputs(name, padding=0.25)
    mask = (torch.arange(40) < 30).expand(2, -1).contiguous()
    before = call_with_seed_0(module, q, k, v, mask)[:, :, :30]
    k[:, :, 30:], v[:, :, 30:] = 50.0, -50.0
    torch.testing.assert_close(call_with_seed_0(module, q, k, v, mask)[:, :, :30], before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", declaring("deterministic", mode="forward_backward"))
def test_equal_seeds_give_equal_bits(name):
    module, qkv = module_and_inputs(name, mode="forward_backward")
    runs = []
    for _ in range(2):
        out = call_with_seed_0(module, *(x.requires_grad_() for x in qkv), None)
        runs.append([out, *torch.autograd.grad(out.square().sum(), qkv)])
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


@pytest.mark.parametrize("name", declaring("compile"))
@pytest.mark.parametrize("masked", [False, True])
# torch warns about an instance of torch.autograd.Function that torch.compile itself creates.
@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not:DeprecationWarning")
def test_compiles_without_graph_breaks(name, masked):
    """Forward and backward, without inductor: the code that it generates from the graph is not tested here."""
    module, qkv = module_and_inputs(name, padding=0.25 * masked, mode="forward_backward")
    mask = (torch.arange(40) < 30).expand(2, -1).contiguous() if masked else None
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=False)
    outputs = [call_with_seed_0(one, *(x.requires_grad_() for x in qkv), mask)[:, :, :30] for one in (compiled, module)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
    for one, other in zip(*(torch.autograd.grad(out.square().sum(), qkv) for out in outputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", declaring("head_dims"))
def test_each_declared_dtype_and_head_size(name):
    """Each is supported and correct."""
    plugin = registry.get(name)
    for dtype in plugin.capabilities.dtypes:
        for head_dim in (1, 7, 80) if plugin.capabilities.head_dims == "any" else (64,):
            spec = spec_of(name, dtype=dtype, head_dim=head_dim)
            assert plugin.unsupported(spec) == []
            assert failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))) == []


@pytest.mark.parametrize("name", declaring("devices"))
@pytest.mark.parametrize("seq_len", [1, 2, 3, 7])
def test_very_short_sequences(name, seq_len):
    plugin = registry.get(name)
    for padding in (0.0, 0.25):
        changes = {"seq_len": seq_len, "padding": padding}
        both = spec_of(name, mode="forward_backward", **changes)
        spec = spec_of(name, **changes) if plugin.unsupported(both) else both
        if not plugin.unsupported(spec):
            assert failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))) == []


@pytest.mark.parametrize("name", registry.names())
def test_undeclared_ability_is_unsupported(name):
    plugin = registry.get(name)
    declared = plugin.capabilities
    for changes, is_declared in (
        ({}, "cpu" in declared.devices and "float32" in declared.dtypes),
        ({"padding": 0.25}, declared.padding_mask),
        ({"mode": "forward_backward"}, declared.backward),
    ):
        if not is_declared:
            assert plugin.unsupported(spec_of(name, **changes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backward": False}, r"\['backward'\] is False"),
        ({"why": {"speed": "it is slow"}}, r"got \['speed'\]"),
    ],
)
def test_false_field_needs_a_reason_and_each_reason_a_field(arguments, message):
    with pytest.raises(ValueError, match=message):
        Capabilities(**arguments)


def test_table_cells_and_reasons():
    capabilities = Capabilities(
        dtypes=("float32", "float16"), backward="on CUDA", why={"backward": "not implemented", "gqa": "own reason"}
    )
    cells = dict(zip(HEADINGS, capabilities.table_cells(), strict=True))
    assert cells["dtypes"] == "fp32 fp16"
    assert (cells["padding_mask"], cells["causal"], cells["backward"]) == ("yes", "no", "on CUDA")
    assert capabilities.reason("backward") == "not implemented"
    assert capabilities.reason("gqa") == "own reason"
    assert capabilities.reason("causal") == "the harness measures no causal attention"
    assert capabilities.reason("padding_mask") is None


def test_list_why_prints_the_table_and_its_reasons():
    result = CliRunner().invoke(app, ["list", "--why"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    heading = next(line for line in result.stdout.splitlines() if "n_q != n_k" in line)
    assert all(column in heading for column in HEADINGS.values())
    rows = [line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["longformer"]]
    assert rows[1][1:6] == ["cpu", "cuda", "fp32", "bf16", "fp16"]
    reasons = [line for line in result.stdout.splitlines() if line.startswith("causal: the harness measures no")]
    assert len(reasons) == 1
    assert "softmax" in reasons[0]
    assert "reformer" in reasons[0]
    assert (
        "backward: torch has no backward pass for FlexAttention on a CPU (flex, flex_eager)"
        in result.stdout.splitlines()
    )
