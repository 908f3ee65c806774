"""FlexAttention in both forms, and the flash-attn package, which a dense replacement simulates here."""

import shutil
import sys
from types import ModuleType

import failed_sentences
import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import create_block_mask

from harness.attentions import flash_attn, flex
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core import registry
from harness.core.spec import OperationSpec
from harness.measure import inputs, verify

compiles = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")


def failures(plugin, spec):
    return failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec)))


@pytest.mark.parametrize(
    ("n", "padding", "dtype"), [(1, 0.0, "float32"), (300, 0.3, "float32"), (100, 0.3, "bfloat16")]
)
def test_eager_flex_attention_is_softmax(n, padding, dtype):
    spec = OperationSpec(attention="flex_eager", seq_len=n, heads=2, batch=2, head_dim=24, padding=padding, dtype=dtype)
    assert registry.get("flex_eager").unsupported(spec) == []
    assert failures(registry.get("flex_eager"), spec) == []


def test_eager_flex_attention_takes_more_shapes_than_dynamos_default_limit():
    module = registry.get("flex_eager").build(OperationSpec(attention="flex_eager", seq_len=9))
    for n in range(20, 31):
        q, k, v = (torch.randn(1, 2, n, 64) for _ in range(3))
        with torch.no_grad():
            torch.testing.assert_close(module(q, k, v, None), softmax_attention(q, k, v, None, torch.arange(n)))


@compiles
def test_compiled_flex_attention_takes_more_shapes_than_dynamos_limit():
    module = registry.get("flex").build(OperationSpec(attention="flex", seq_len=9))
    with torch.compiler.config.patch(recompile_limit=1), torch.no_grad():
        for n in (16, 32, 48):
            q, k, v = (torch.randn(1, 2, n, 16) for _ in range(3))
            torch.testing.assert_close(module(q, k, v, None), softmax_attention(q, k, v, None, torch.arange(n)))


@compiles
def test_compiled_flex_attention_is_softmax():
    spec = OperationSpec(attention="flex", seq_len=300, heads=2, batch=2, padding=0.3)
    assert registry.get("flex").unsupported(spec) == []
    assert failures(registry.get("flex"), spec) == []


@compiles
def test_the_error_of_the_fast_exponential_is_within_the_allowed_error_at_a_long_length():
    """At 4096 keys its error is more than twice the rounding error of plain softmax; the bound still catches zeros."""
    plugin, spec = registry.get("flex"), OperationSpec(attention="flex", seq_len=4096, heads=1)
    checks = verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))
    assert failed_sentences.of(checks) == []
    assert all(check.allowed < 1e-5 for check in checks if not check.is_extreme)


@compiles
def test_a_new_mask_does_not_compile_a_new_graph():
    module = registry.get("flex").build(OperationSpec(attention="flex", seq_len=300))
    q, k, v = (torch.randn(2, 2, 300, 64) for _ in range(3))
    counters.clear()
    for lengths in ([300, 20], [7, 280]):
        mask = torch.arange(300) < torch.tensor(lengths)[:, None]
        with torch.no_grad():
            output = module(q, k, v, mask)
        torch.testing.assert_close(output, softmax_attention(q, k, v, mask, torch.arange(300)), atol=1e-5, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] <= 1


@pytest.mark.parametrize("lengths", [[300, 300], [300, 128], [1, 129], [256, 5]])
def test_the_block_mask_equals_that_of_create_block_mask(lengths):
    real = torch.arange(300) < torch.tensor(lengths)[:, None]
    block_mask = flex._block_mask(real, 200)
    expected = create_block_mask(lambda b, h, i, j: real[b, j], 2, None, 200, 300, device="cpu")
    assert torch.equal(block_mask.to_dense(), expected.to_dense())
    assert torch.equal(block_mask.kv_num_blocks, expected.kv_num_blocks)
    assert torch.equal(block_mask.full_kv_num_blocks, expected.full_kv_num_blocks)
    visited = block_mask.kv_num_blocks[1, 0, 0] + block_mask.full_kv_num_blocks[1, 0, 0]
    assert int(visited) == -(-lengths[1] // 128)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("name", ["flex", "flex_eager"])
def test_gradients_on_a_cpu_are_unsupported_with_torchs_own_reason(name):
    (reason,) = registry.get(name).unsupported(OperationSpec(attention=name, seq_len=64, mode="forward_backward"))
    assert "does not support backward on CPU" in reason
    assert torch.__version__ in reason
    (reason,) = registry.get(name).unsupported(OperationSpec(attention=name, seq_len=64, device="cuda"))
    assert "sees no CUDA device" in reason


def test_the_compiled_form_needs_avx2_and_a_compiler_on_a_cpu(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    reasons = registry.get("flex").unsupported(OperationSpec(attention="flex", seq_len=64))
    assert ["AVX2" in reasons[0], "no-such-compiler" in reasons[1]] == [True, True]


def test_the_eager_form_is_described_as_dense():
    plugin = registry.get("flex_eager")
    assert "n x n" in plugin.summary
    assert "n=1048576" in plugin.unsupported(OperationSpec(attention=plugin.name, seq_len=2**20))[0]
    assert "dense" in plugin.kernel(OperationSpec(attention=plugin.name, seq_len=64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_flash_attn_gives_every_reason_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    spec = OperationSpec(attention="flash_attn", seq_len=64, head_dim=300)
    package, device, dtype, head = registry.get("flash_attn").unsupported(spec)
    assert "pip install flash-attn" in package
    assert "not on cpu" in device
    assert "float32" in dtype
    assert "300" in head


def dense_flash_attn():
    """A module with the two functions of flash-attn, with the signatures in its README, as dense softmax."""

    def fixed(q, k, v):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return softmax_attention(q, k, v, None, torch.arange(q.shape[2])).transpose(1, 2)

    def varlen(q, k, v, *, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k):
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert max_seqlen_q == cu_seqlens_q.diff().max()
        assert max_seqlen_k == cu_seqlens_k.diff().max()
        query_ends, key_ends = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
        parts = zip(query_ends, query_ends[1:], key_ends, key_ends[1:], strict=False)
        return torch.cat([fixed(q[None, a:b], k[None, c:d], v[None, c:d])[0] for a, b, c, d in parts])

    package = ModuleType("flash_attn")
    package.flash_attn_func, package.flash_attn_varlen_func = fixed, varlen
    return package


@pytest.mark.parametrize("padding", [0.0, 0.3])
def test_flash_attn_equals_softmax_with_and_without_padding(padding):
    plugin = registry.get("flash_attn")
    spec = OperationSpec(attention=plugin.name, seq_len=40, heads=2, batch=3, padding=padding, mode="forward_backward")
    module = flash_attn.FlashAttention(dense_flash_attn())
    assert failed_sentences.of(verify.check(plugin, spec, module, inputs.make(spec))) == []


def test_flash_attn_takes_different_numbers_of_queries_and_keys():
    module = flash_attn.FlashAttention(dense_flash_attn())
    q, k, v = torch.randn(2, 2, 5, 8), *(torch.randn(2, 2, 9, 8) for _ in range(2))
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    torch.testing.assert_close(module(q, k, v, mask), softmax_attention(q, k, v, mask, torch.arange(5)))
