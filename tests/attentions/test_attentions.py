"""The harness's exact attentions match their oracles, and give reasons where they do not run."""

import sys

import failed_sentences
import pytest
import torch

from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.cases import runner
from harness.core import registry
from harness.core.spec import ModelSpec, OperationSpec, QualitySpec, TaskSpec
from harness.measure import inputs, verify
from harness.profiles.selection import Selection

RUN_ON_A_CPU = ("softmax", "sdpa", "sdpa_math", "sdpa_flash", "yoso", "yoso_e")
XFORMERS = ("xformers_cutlass", "xformers_flash2", "xformers_flash3", "xformers_triton_splitk")


@pytest.mark.parametrize("name", RUN_ON_A_CPU)
@pytest.mark.parametrize("seq_len", [1, 7, 100])
@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_attention_matches_oracle(name, seq_len, padding):
    plugin = registry.get(name)
    spec = OperationSpec(
        attention=name, seq_len=seq_len, padding=padding, heads=2, batch=2, head_dim=24, mode="forward_backward"
    )
    assert plugin.unsupported(spec) == []
    checks = verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))
    assert failed_sentences.of(checks) == []


def test_softmax_oracle_equals_explicit_sum():
    q, k, v = (torch.randn(1, 1, 3, 2, dtype=torch.float64) for _ in range(3))
    mask = torch.tensor([[True, False, True]])
    actual = softmax_attention(q, k, v, mask, torch.tensor([2]))[0, 0, 0]
    weights = [(q[0, 0, 2] @ k[0, 0, j] / 2**0.5).exp() for j in (0, 2)]
    expected = (weights[0] * v[0, 0, 0] + weights[1] * v[0, 0, 2]) / sum(weights)
    torch.testing.assert_close(actual, expected)


def test_exact_softmax_attentions():
    """The conformance tests check that the oracle of each of these is softmax attention."""
    exact = {name for name in registry.names() if registry.get(name).exact_softmax}
    assert {"softmax", "sdpa", "flash_attn", "flex", "flex_eager", *XFORMERS} <= exact
    assert {name.split("_")[0] for name in exact} == {"softmax", "sdpa", "flash", "flex", "xformers"}


@pytest.mark.parametrize("name", ["softmax", "sdpa", "linear"])
def test_record_keeps_whether_the_attention_is_exact(name):
    record = runner.run(OperationSpec(attention=name, seq_len=8, head_dim=8), Selection().effort)
    assert record.exact_softmax is (name != "linear")


@pytest.mark.parametrize("name", ["sdpa_efficient", "sdpa_cudnn"])
def test_cuda_backend_gives_a_reason_on_cpu(name):
    reasons = registry.get(name).unsupported(OperationSpec(attention=name, seq_len=64))
    assert "runs on CUDA, not on cpu" in reasons[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("name", registry.names())
def test_missing_device_gives_a_reason(name):
    for kind in (OperationSpec, ModelSpec, QualitySpec, TaskSpec):
        reasons = registry.get(name).unsupported(kind(attention=name, seq_len=64, device="cuda"))
        assert any("sees no CUDA device" in reason for reason in reasons)


@pytest.mark.parametrize(("name", "backend"), [("sdpa_math", "math"), ("sdpa_flash", "flash"), ("sdpa", "flash")])
def test_kernel_is_the_backend_that_torch_selects(name, backend):
    spec = OperationSpec(attention=name, seq_len=64)
    assert registry.get(name).kernel(spec) == f"torch sdpa, {backend} on cpu"


@pytest.mark.parametrize("name", ["softmax", "sdpa_math"])
@pytest.mark.parametrize(
    "spec",
    [
        OperationSpec(attention="x", seq_len=2**20),
        ModelSpec(attention="x", seq_len=2**20, mode="training_step"),
        TaskSpec(attention="x", seq_len=2**20),
    ],
    ids=["operation", "model", "task"],
)
def test_n_x_n_tensors_that_do_not_fit_give_a_reason(name, spec):
    (reason,) = registry.get(name).unsupported(spec)
    assert "n=1048576" in reason


def test_training_needs_more_memory_than_inference(monkeypatch):
    monkeypatch.setattr("harness.attentions.shared.capacity.available_bytes", lambda device: 2 * 1024**3)
    softmax = registry.get("softmax")
    sizes = {"attention": "softmax", "seq_len": 4096, "layers": 12, "heads": 8}
    assert softmax.unsupported(ModelSpec(mode="forward", **sizes)) == []
    assert softmax.unsupported(ModelSpec(mode="training_step", **sizes))


@pytest.mark.parametrize("name", XFORMERS)
def test_xformers_reasons_are_reported(name):
    pytest.importorskip("xformers")
    reasons = registry.get(name).unsupported(OperationSpec(attention=name, seq_len=64))
    assert any("device=cpu (supported: {'cuda'})" in reason for reason in reasons)


def test_without_xformers_the_reason_says_how_to_install_it(monkeypatch):
    from harness.attentions import xformers

    xformers._fmha.cache_clear()
    monkeypatch.setitem(sys.modules, "xformers", None)
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    (reason,) = xformers.CUTLASS.unsupported(OperationSpec(attention="xformers_cutlass", seq_len=64))
    assert "pip install 'yoso-harness[xformers]'" in reason


@pytest.mark.parametrize("padding", [0.0, 0.3])
def test_xformers_module_packs_the_real_tokens(monkeypatch, padding):
    """Tests the layout and the block-diagonal bias; a dense computation with that bias replaces the kernel."""
    pytest.importorskip("xformers")
    from harness.attentions import xformers

    def dense(q, k, v, attn_bias=None, op=None):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if attn_bias is not None:
            scores = scores + attn_bias.materialize(scores.shape[-2:])
        return (scores.softmax(-1) @ v).transpose(1, 2)

    monkeypatch.setattr(xformers._fmha(), "memory_efficient_attention", dense)
    plugin = registry.get("xformers_cutlass")
    spec = OperationSpec(attention=plugin.name, seq_len=40, heads=2, batch=3, padding=padding, mode="forward_backward")
    assert failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))) == []


def test_softmax_and_sdpa_do_not_import_transformers():
    import subprocess

    code = "import sys; from harness.core import registry; [registry.get(n) for n in ('softmax', 'sdpa')]"
    subprocess.run([sys.executable, "-c", code + "; assert 'transformers' not in sys.modules"], check=True)
