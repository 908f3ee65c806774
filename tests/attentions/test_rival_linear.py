"""The attention ``none`` and the linear attentions: equal to their definitions, with padding, and reproducible."""

import math

import failed_sentences
import pytest
import torch

from harness.attentions.performer import draw_projection
from harness.core import registry
from harness.core.spec import OperationSpec, QualitySpec
from harness.measure import inputs, verify

NAMES = ("none", "linear", "performer_softmax", "performer_relu", "cosformer")
PERFORMERS = ("performer_softmax", "performer_relu")


def make(name, seq_len=40, **changes):
    sizes = {"heads": 2, "batch": 2, "head_dim": 24, "mode": "forward_backward"} | changes
    return OperationSpec(attention=name, seq_len=seq_len, **sizes)


def draw(*shape):
    return [torch.randn(shape, dtype=torch.float64) for _ in range(3)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seq_len", [33, 131])
@pytest.mark.parametrize("padding", [0.0, 0.25])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_equals_its_oracle(name, seq_len, padding, dtype):
    plugin, spec = registry.get(name), make(name, seq_len, padding=padding, dtype=dtype)
    assert plugin.unsupported(spec) == []
    assert failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seq_len", [1, 2, 3, 7])
def test_a_few_tokens(name, seq_len):
    """In float64, because with so few terms the rounding error varies too much for a narrow bound."""
    plugin, spec = registry.get(name), make(name, seq_len)
    qkv = [x.requires_grad_() for x in draw(2, 2, seq_len, 24)]
    mask = torch.arange(seq_len) < torch.tensor([[seq_len], [max(seq_len - 1, 1)]])
    real = mask[:, None, :, None].expand_as(qkv[0])
    output = plugin.build(spec).double()(*qkv, mask)[real]
    expected = plugin.oracle(spec, *qkv, mask, torch.arange(seq_len))[real]
    torch.testing.assert_close(output, expected)
    upstream = torch.randn_like(output)
    grads, expected_grads = (torch.autograd.grad(x, qkv, upstream) for x in (output, expected))
    torch.testing.assert_close(grads, expected_grads)


@pytest.mark.parametrize("name", PERFORMERS)
@pytest.mark.parametrize("knobs", [{"redraw": True}, {"num_features": 30, "orthogonal": False}, {"num_features": 1}])
def test_a_performer_equals_its_oracle_with_other_knobs(name, knobs):
    plugin, spec = registry.get(name), make(name, padding=0.25, knobs=knobs)
    assert failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))) == []


@pytest.mark.parametrize("name", NAMES)
def test_added_padding_does_not_change_the_outputs_of_real_tokens(name):
    plugin, spec = registry.get(name), make(name)
    q, k, v = draw(2, 2, 40, 24)
    module = plugin.build(spec).double()
    alone = module(q[:, :, :29], k[:, :, :29], v[:, :, :29], None)
    mask = (torch.arange(40) < 29).expand(2, -1)
    torch.testing.assert_close(module(q, k, v, mask)[:, :, :29], alone)
    k[:, :, 29:], v[:, :, 29:] = 50.0, 50.0
    torch.testing.assert_close(module(q, k, v, mask)[:, :, :29], alone)


@pytest.mark.parametrize("name", NAMES)
def test_padding_may_be_anywhere(name):
    plugin, spec = registry.get(name), make(name)
    q, k, v = draw(1, 2, 40, 24)
    real = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:25].sort().values
    mask = torch.zeros(1, 40, dtype=torch.bool).index_fill(1, real, True)
    module = plugin.build(spec).double()
    with_padding = module(q, k, v, mask)[:, :, real]
    torch.testing.assert_close(with_padding, module(q[:, :, real], k[:, :, real], v[:, :, real], None))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_finite_differences(name):
    knobs = {"num_features": 8} if name in PERFORMERS else {}
    module = registry.get(name).build(make(name, 6, head_dim=3, knobs=knobs)).double()
    mask = torch.tensor([[True] * 5 + [False]])
    qkv = [x.requires_grad_() for x in draw(1, 2, 6, 3)]
    assert torch.autograd.gradcheck(lambda q, k, v: module(q, k, v, mask)[:, :, :5], qkv)


@pytest.mark.parametrize("name", ["linear", *PERFORMERS, "cosformer"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_many_tokens_stay_finite(name, dtype):
    spec = make(name, 70_000, batch=1, heads=1, head_dim=64, dtype=dtype, knobs={})
    case = inputs.make(spec)
    assert registry.get(name).build(spec)(case.q, case.k, case.v, None).isfinite().all()


def test_none_returns_a_copy_of_v_with_zero_gradients_for_q_and_k():
    q, k, v = (x.requires_grad_() for x in draw(1, 2, 5, 4))
    out = registry.get("none").build(make("none"))(q, k, v, None)
    assert torch.equal(out, v)
    assert out.data_ptr() != v.data_ptr()
    grads = torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
    assert [grad.unique().tolist() for grad in grads] == [[0.0], [0.0], [1.0]]


def test_linear_attention_equals_a_sum_over_pairs():
    """One query, written out without torch's elu."""
    q, k, v = draw(1, 1, 4, 3)

    def phi(x):
        return [y + 1 if y > 0 else math.exp(y) for y in x.tolist()]

    weights = [sum(a * b for a, b in zip(phi(q[0, 0, 2]), phi(k[0, 0, j]), strict=True)) for j in range(4)]
    expected = sum(w * v[0, 0, j] for j, w in enumerate(weights)) / sum(weights)
    torch.testing.assert_close(registry.get("linear").build(make("linear"))(q, k, v, None)[0, 0, 2], expected)


def test_linear_attention_has_a_gradient_at_zero():
    q, k, v = draw(1, 1, 4, 3)
    k = torch.zeros_like(k).requires_grad_()
    module, plugin = registry.get("linear").build(make("linear")), registry.get("linear")
    grad = torch.autograd.grad(module(q, k, v, None).sum(), k)
    expected = torch.autograd.grad(plugin.oracle(make("linear"), q, k, v, None, torch.arange(4)).sum(), k)
    torch.testing.assert_close(grad, expected)


def test_cosformer_equals_a_sum_over_pairs():
    q, k, v = draw(1, 1, 5, 3)
    weights = [q[0, 0, 3].relu().dot(k[0, 0, j].relu()) * math.cos(math.pi / 2 * (3 - j) / 5) for j in range(5)]
    expected = sum(w * v[0, 0, j] for j, w in enumerate(weights)) / max(sum(weights), 1e-6)
    torch.testing.assert_close(registry.get("cosformer").build(make("cosformer"))(q, k, v, None)[0, 0, 3], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_cosformer_returns_zero_for_a_query_orthogonal_to_every_key(dtype):
    q, k, v = (x.to(dtype) for x in draw(1, 1, 5, 3))
    q[0, 0, 2] = -1
    assert registry.get("cosformer").build(make("cosformer"))(q, k, v, None)[0, 0, 2].eq(0).all()


@pytest.mark.parametrize("name", PERFORMERS)
def test_a_performer_equals_a_sum_over_pairs(name):
    """One query, with the features as printed in the paper and no stabilisation."""
    plugin, spec = registry.get(name), make(name, 6, head_dim=8, knobs={"num_features": 20})
    q, k, v = draw(1, 1, 6, 8)
    w = draw_projection(20, 8, True, torch.Generator().manual_seed(spec.seed)).double()

    def phi(x):
        x = x / 8**0.25
        return ((w @ x) - x.dot(x) / 2).exp() if name == "performer_softmax" else (w @ x).relu() + 1e-3

    weights = [phi(q[0, 0, 4]).dot(phi(k[0, 0, j])) for j in range(6)]
    expected = sum(a * v[0, 0, j] for j, a in enumerate(weights)) / sum(weights)
    module = plugin.build(spec)
    torch.testing.assert_close(module(q, k, v, None)[0, 0, 4], expected, rtol=1e-6, atol=1e-6)


def test_orthogonal_directions_are_orthogonal_and_have_gaussian_norms():
    w = draw_projection(300, 16, True, torch.Generator().manual_seed(0))
    assert w.shape == (300, 16)
    block = w[16:32].double()
    cosines = block @ block.T / block.norm(dim=1) / block.norm(dim=1)[:, None]
    torch.testing.assert_close(cosines, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-5)
    assert w.square().sum(1).mean().item() == pytest.approx(16, rel=0.1)
    assert w.mean().abs() < 0.05
    assert w.norm(dim=1).std() > 0.5


def test_softmax_features_are_unbiased():
    """The mean over many features is the softmax kernel (lemma 1)."""
    w = draw_projection(200_000, 4, True, torch.Generator().manual_seed(0)).double()
    x, y = torch.tensor([0.5, -0.3, 0.2, 0.1]).double(), torch.tensor([0.1, 0.4, -0.6, 0.2]).double()
    estimate = ((w @ x - x @ x / 2).exp() * (w @ y - y @ y / 2).exp()).mean()
    assert estimate.item() == pytest.approx((x @ y).exp().item(), rel=0.01)


def test_more_features_approximate_softmax_better():
    plugin = registry.get("performer_softmax")
    q, k, v = (x / 2 for x in draw(1, 2, 64, 16))
    truth = registry.get("softmax").build(make("softmax"))(q, k, v, None)
    errors = []
    for features in (16, 256, 4096):
        spec = make("performer_softmax", 64, head_dim=16, knobs={"num_features": features})
        errors.append((plugin.build(spec)(q, k, v, None) - truth).norm() / truth.norm())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_large_inputs_neither_overflow_nor_vanish():
    """Exponents are in the thousands, where unstabilised features would be inf and 0."""
    spec = make("performer_softmax")
    q, k, v = (30 * x.float() for x in draw(1, 2, 40, 24))
    qkv = [x.requires_grad_() for x in (q, k, v)]
    out = registry.get("performer_softmax").build(spec)(*qkv, None)
    assert out.isfinite().all()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out.sum(), qkv))


@pytest.mark.parametrize("name", PERFORMERS)
def test_the_features_depend_on_the_seed_alone(name):
    plugin = registry.get(name)
    q, k, v = (x.float() for x in draw(1, 2, 20, 24))

    def out(**changes):
        return plugin.build(make(name, **changes))(q, k, v, None)

    assert torch.equal(out(), out())
    assert not torch.equal(out(), out(seed=1))


@pytest.mark.parametrize("name", PERFORMERS)
def test_redrawing_uses_torchs_default_generator(name):
    module = registry.get(name).build(make(name, knobs={"redraw": True}))
    q, k, v = (x.float() for x in draw(1, 2, 20, 24))
    torch.manual_seed(3)
    first, second = module(q, k, v, None), module(q, k, v, None)
    torch.manual_seed(3)
    assert torch.equal(first, module(q, k, v, None))
    assert not torch.equal(first, second)


def test_a_quality_case_redraws_by_default():
    plugin = registry.get("performer_softmax")
    assert plugin.knobs(QualitySpec(attention=plugin.name, seq_len=64))["redraw"]
    assert not plugin.knobs(make(plugin.name))["redraw"]


@pytest.mark.parametrize("name", PERFORMERS)
def test_zero_features_are_unsupported(name):
    (reason,) = registry.get(name).unsupported(make(name, knobs={"num_features": 0}))
    assert "num_features must be at least 1, got 0" in reason


@pytest.mark.parametrize("name", NAMES)
def test_the_cost_grows_linearly_with_the_length(name):
    plugin = registry.get(name)
    short, long = plugin.cost(make(name, 1024)), plugin.cost(make(name, 4096))
    assert {ceiling: long[ceiling] / amount for ceiling, amount in short.items()} == dict.fromkeys(short, 4.0)
