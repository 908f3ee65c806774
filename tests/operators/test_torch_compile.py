"""torch.compile and torch.export of the attentions and of a model."""

import pytest
import torch
from attention_arguments import ATTENTIONS, SIZES, make_attention, make_qkv
from model_pairs import NO_DROPOUT, SMALL
from torch._dynamo.utils import counters

from yoso import YosoConfig, YosoModel
from yoso.attention import yoso_sampling
from yoso.ops.hashing import draw_planes

# When torch copies an exported program, it uses a class of its own that is deprecated.
ignore_torchs_own_deprecation = pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"
)


class YosoE(torch.nn.Module):
    def forward(self, query, key, value, mask):
        return make_attention("yoso_e")(query, key, value, mask)


class YosoSampling(torch.nn.Module):
    def forward(self, query, key, value, mask, planes):
        return yoso_sampling(query, key, value, mask, planes=planes, **SIZES)


@ignore_torchs_own_deprecation
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
@pytest.mark.parametrize("module", [YosoE(), YosoSampling()], ids=["yoso_e", "yoso_sampling"])
def test_an_exported_program_gives_the_same_bits_as_the_module_at_any_length(module, strict):
    planes = [draw_planes("hadamard", groups=4, head_dim=16, **SIZES)] if isinstance(module, YosoSampling) else []
    length = torch.export.Dim("length", min=2, max=4096)

    def arguments(n):
        mask = torch.arange(n) < torch.tensor([[n], [n // 2]])
        return (*make_qkv(2, 2, n, 16), mask, *planes)

    shapes = ({2: length}, {2: length}, {2: length}, {1: length}, *({},) * len(planes))
    program = torch.export.export(module, arguments(12), dynamic_shapes=shapes, strict=strict)
    for n in (12, 33):
        assert torch.equal(program.module()(*arguments(n)), module(*arguments(n)))


# The import of inductor uses TorchScript, which torch has deprecated.
@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "backend"), [*((name, "aot_eager") for name in ATTENTIONS), ("yoso_sampling", "inductor")]
)
def test_one_graph_computes_outputs_and_gradients_of_every_length(name, backend):
    attention = make_attention(name)
    counters.clear()
    compiled = torch.compile(attention, fullgraph=True, dynamic=True, backend=backend)
    for n in (8, 13, 40):
        inputs = [x.requires_grad_() for x in make_qkv(2, 2, n, 16)]
        mask = torch.arange(n) < torch.tensor([[n], [n // 2]])
        actual, expected = compiled(*inputs, mask), attention(*inputs, mask)
        assert torch.equal(actual, expected)
        weight = torch.ones_like(actual)
        for a, e in zip(*(torch.autograd.grad(x, inputs, weight) for x in (actual, expected)), strict=True):
            assert torch.equal(a, e)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("name", ["yoso_e", "yoso_sampling"])
def test_per_sample_gradients_compile(name):
    attention = make_attention(name)

    def gradients(*qkv):
        return torch.func.vmap(torch.func.grad(lambda *x: attention(*x).sum(), argnums=(0, 1, 2)))(*qkv)

    qkv = make_qkv(3, 2, 2, 11, 16)
    actual = torch.compile(gradients, fullgraph=True, backend="aot_eager")(*qkv)
    for a, e in zip(actual, gradients(*qkv), strict=True):
        torch.testing.assert_close(a, e)


# The import of inductor uses TorchScript, which torch has deprecated.
@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("attention", "backend"), [("yoso_e", "inductor"), ("yoso", "aot_eager")])
def test_inference_and_training_of_a_model_compile_once_for_every_length(attention, backend):
    """With one layer, and with inductor only once, because its C++ compiler takes most of this file's time."""
    sizes = SMALL | NO_DROPOUT | {"num_hidden_layers": 1, "num_hash": 4, "hash_code_len": 4}
    torch.manual_seed(0)
    model = YosoModel(YosoConfig(**sizes, use_expectation=attention == "yoso_e"))
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    counters.clear()
    for training in (False, True):
        model.train(training)
        for n in (12, 17, 31):
            ids = torch.arange(2 * n).reshape(2, n) % 60
            mask = torch.arange(n) < torch.tensor([[n], [n // 2]])
            for x in (ids, mask):
                torch._dynamo.mark_dynamic(x, 1)
            results = []
            for call in (compiled, model):
                torch.manual_seed(n)  # so that both draw the same planes
                model.zero_grad()
                with torch.set_grad_enabled(training):
                    out = call(ids, attention_mask=mask).last_hidden_state
                if training:
                    out[:, :, 0].sum().backward()
                results.append([out.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
            assert len(results[0]) == len(results[1])
            assert (len(results[0]) > 1) == training
            for a, e in zip(*results, strict=True):
                torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 2
