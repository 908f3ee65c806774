"""What every plugin declares against what its module does, and the matrix that ``harness list`` prints."""

import pytest
import torch
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core import registry
from harness.core.capabilities import HEADINGS, Capabilities
from harness.core.spec import OperationSpec
from harness.measure import inputs, verify

SIZES = {"batch": 2, "heads": 4, "head_dim": 16, "seq_len": 40}
INDUCTOR = {"flex"}
"""Compiled by their own hand, half a minute each; tests of their own run them."""


def spec_of(name, **changes):
    return OperationSpec(attention=name, **SIZES | changes)


def runs_here(name, **changes):
    return not registry.get(name).unsupported(spec_of(name, **changes))


def make(name, kv_heads=4, **changes):
    q = torch.randn(2, 4, 40, 16)
    k, v = (torch.randn(2, kv_heads, 40, 16) for _ in range(2))
    return registry.get(name).build(spec_of(name, **changes)), (q, k, v)


def chosen(ability, **changes):
    """Plugins that run here and declare the ability."""
    return [
        name
        for name in registry.names()
        if name not in INDUCTOR and runs_here(name, **changes) and getattr(registry.get(name).capabilities, ability)
    ]


def seeded(module, *arguments):
    torch.manual_seed(0)
    return module(*arguments)


@pytest.mark.parametrize("name", chosen("cross_attention"))
@pytest.mark.parametrize(("n_q", "n_k"), [(40, 17), (17, 40)])
def test_other_queries_than_keys(name, n_q, n_k):
    plugin = registry.get(name)
    module, (q, k, v) = make(name)
    q, k, v = q[:, :, :n_q], k[:, :, :n_k], v[:, :, :n_k]
    mask = torch.arange(n_k) < torch.tensor([[n_k], [9]])
    torch.manual_seed(0)
    expected = plugin.oracle(spec_of(name), q, k, v, mask, torch.arange(n_q))
    torch.testing.assert_close(seeded(module, q, k, v, mask), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", chosen("gqa"))
def test_fewer_key_heads_than_query_heads(name):
    module, (q, k, v) = make(name, kv_heads=2)
    wide = [x.repeat_interleave(2, 1) for x in (k, v)]
    torch.testing.assert_close(seeded(module, q, k, v, None), seeded(module, q, *wide, None), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", chosen("backward", mode="forward_backward"))
def test_gradients(name):
    module, qkv = make(name, mode="forward_backward")
    out = seeded(module, *(x.requires_grad_() for x in qkv), None)
    gradients = torch.autograd.grad(out.square().sum(), qkv)
    assert all(one.isfinite().all() for one in gradients)


def test_a_cpu_runs_at_least_fifteen_of_them_forward_and_backward():
    assert len(chosen("backward", mode="forward_backward")) >= 15


@pytest.mark.parametrize("name", chosen("padding_mask"))
def test_padded_keys_move_nothing(name):
    module, (q, k, v) = make(name, padding=0.25)
    mask = (torch.arange(40) < 30).expand(2, -1).contiguous()
    before = seeded(module, q, k, v, mask)[:, :, :30]
    k[:, :, 30:], v[:, :, 30:] = 50.0, -50.0
    torch.testing.assert_close(seeded(module, q, k, v, mask)[:, :, :30], before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", chosen("deterministic", mode="forward_backward"))
def test_equal_seeds_give_equal_bits(name):
    module, qkv = make(name, mode="forward_backward")
    found = []
    for _ in range(2):
        out = seeded(module, *(x.requires_grad_() for x in qkv), None)
        found.append([out, *torch.autograd.grad(out.square().sum(), qkv)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", chosen("compile"))
@pytest.mark.parametrize("masked", [False, True])
# torch.compile itself makes the instance of torch.autograd.Function that torch warns of.
@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not:DeprecationWarning")
def test_one_graph_without_a_break(name, masked):
    """Forward and backward; what inductor makes of the graph is torch's."""
    module, qkv = make(name, padding=0.25 * masked, mode="forward_backward")
    mask = (torch.arange(40) < 30).expand(2, -1).contiguous() if masked else None
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=False)
    outputs = [seeded(one, *(x.requires_grad_() for x in qkv), mask)[:, :, :30] for one in (compiled, module)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
    for one, other in zip(*(torch.autograd.grad(out.square().sum(), qkv) for out in outputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", chosen("head_dims"))
def test_each_declared_dtype_and_head_size(name):
    """What a plugin takes of these is right; it refuses none that it declares."""
    plugin = registry.get(name)
    for dtype in plugin.capabilities.dtypes:
        for head_dim in (1, 7, 80) if plugin.capabilities.head_dims == "any" else (64,):
            spec = spec_of(name, dtype=dtype, head_dim=head_dim)
            assert plugin.unsupported(spec) == []
            assert verify.failures(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))) == []


@pytest.mark.parametrize("name", chosen("devices"))
@pytest.mark.parametrize("seq_len", [1, 2, 3, 7])
def test_a_few_tokens(name, seq_len):
    plugin = registry.get(name)
    for padding in (0.0, 0.25):
        changes = {"seq_len": seq_len, "padding": padding}
        both = spec_of(name, mode="forward_backward", **changes)
        spec = spec_of(name, **changes) if plugin.unsupported(both) else both
        if not plugin.unsupported(spec):
            assert verify.failures(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))) == []


@pytest.mark.parametrize("name", registry.names())
def test_a_declared_no_is_a_reason_for_the_case(name):
    plugin = registry.get(name)
    declared = plugin.capabilities
    for changes, fits in (
        ({}, "cpu" in declared.devices and "float32" in declared.dtypes),
        ({"padding": 0.25}, declared.padding_mask),
        ({"mode": "forward_backward"}, declared.backward),
    ):
        if not fits:
            assert plugin.unsupported(spec_of(name, **changes))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"backward": False}, r"\['backward'\] is False"),
        ({"why": {"speed": "it is slow"}}, r"explains \['speed'\]"),
    ],
)
def test_a_no_needs_a_reason_and_a_reason_a_field(given, words):
    with pytest.raises(ValueError, match=words):
        Capabilities(**given)


def test_words_and_reasons():
    one = Capabilities(
        dtypes=("float32", "float16"), backward="on CUDA", why={"backward": "not written", "gqa": "mine"}
    )
    words = dict(zip(HEADINGS, one.words(), strict=True))
    assert words["dtypes"] == "fp32 fp16"
    assert (words["padding_mask"], words["causal"], words["backward"]) == ("yes", "no", "on CUDA")
    assert one.reason("backward") == "not written"
    assert one.reason("gqa") == "mine"
    assert "future" in one.reason("causal")
    assert one.reason("padding_mask") is None


def test_list_prints_the_matrix_and_why_its_reasons():
    found = CliRunner().invoke(app, ["list", "--why"], env={"COLUMNS": "200"})
    assert found.exit_code == 0
    heading = next(line for line in found.stdout.splitlines() if "n_q != n_k" in line)
    assert all(word in heading for word in HEADINGS.values())
    rows = [line.split() for line in found.stdout.splitlines() if line.split()[:1] == ["longformer"]]
    assert rows[1][1:6] == ["cpu", "cuda", "fp32", "bf16", "fp16"]
    reasons = [line for line in found.stdout.splitlines() if line.startswith("causal: the harness asks")]
    assert len(reasons) == 1
    assert "softmax" in reasons[0]
    assert "reformer" in reasons[0]
    reason = "backward: torch has no backward pass for FlexAttention on a CPU (flex, flex_eager)"
    assert reason in found.stdout.splitlines()
