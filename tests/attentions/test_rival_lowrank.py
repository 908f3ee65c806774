"""Linformer and Nystromformer: equal to their definitions and to transformers, with padding and trainable weights."""

import failed_sentences
import pytest
import torch

from harness.attentions.nystromformer import iterative_inverse, segments
from harness.core import registry
from harness.core.spec import ModelSpec, OperationSpec, TaskSpec
from harness.measure import inputs, verify

LINFORMER, NYSTROMFORMER = registry.get("linformer"), registry.get("nystromformer")
KNOBS = [
    (LINFORMER, {}),
    (LINFORMER, {"projected_length": 24, "sharing": "headwise"}),
    (LINFORMER, {"sharing": "key_value"}),
    (NYSTROMFORMER, {}),
    (NYSTROMFORMER, {"num_landmarks": 5}),
    (NYSTROMFORMER, {"conv_kernel": 33}),
]
IDS = [f"{plugin.name}-{knobs}" for plugin, knobs in KNOBS]


def make(plugin, seq_len, knobs=None, **changes):
    sizes = {"heads": 2, "batch": 2, "head_dim": 24, "mode": "forward_backward"} | changes
    return OperationSpec(attention=plugin.name, seq_len=seq_len, knobs=knobs or {}, **sizes)


def draw(*shape):
    return [torch.randn(shape, dtype=torch.float64) for _ in range(3)]


@pytest.mark.parametrize(("plugin", "knobs"), KNOBS, ids=IDS)
@pytest.mark.parametrize("seq_len", [33, 131])
@pytest.mark.parametrize("padding", [0.0, 0.25])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_equals_its_oracle(plugin, knobs, seq_len, padding, dtype):
    spec = make(plugin, seq_len, knobs, padding=padding, dtype=dtype)
    assert plugin.unsupported(spec) == []
    assert failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))) == []


@pytest.mark.parametrize("length", [16, 24, 64, 127, 128, 256])
def test_few_projected_keys_of_many_tokens(length):
    """Below 128 projected keys plain softmax is used, because sdpa's fused backward has a larger rounding error."""
    spec = make(LINFORMER, 512, {"projected_length": length})
    assert failed_sentences.of(verify.check(LINFORMER, spec, LINFORMER.build(spec), inputs.make(spec))) == []
    assert ("sdpa" in LINFORMER.kernel(spec)) == (length >= 128)


@pytest.mark.parametrize(("plugin", "knobs"), KNOBS, ids=IDS)
@pytest.mark.parametrize("seq_len", [1, 2, 3, 5, 7, 13])
def test_a_few_tokens(plugin, knobs, seq_len):
    """In float64, because the inverse for few landmarks is too ill-conditioned for a bound on float32 rounding."""
    spec = make(plugin, seq_len, knobs)
    q, k, v = draw(2, 2, seq_len, 24)
    mask = torch.arange(seq_len) < torch.tensor([[seq_len], [max(seq_len - 1, 1)]])
    output = plugin.build(spec).double()(q, k, v, mask)
    expected = plugin.oracle(spec, q, k, v, mask, torch.arange(seq_len))
    real = mask[:, None, :, None].expand_as(output)
    torch.testing.assert_close(output[real], expected[real])


@pytest.mark.parametrize(("plugin", "knobs"), KNOBS, ids=IDS)
def test_added_padding_does_not_change_the_outputs_of_real_tokens(plugin, knobs):
    q, k, v = draw(2, 2, 40, 24)
    module = plugin.build(make(plugin, 40, knobs)).double()
    mask = (torch.arange(40) < 29).expand(2, -1)
    alone = module(q[:, :, :29], k[:, :, :29], v[:, :, :29], None)
    torch.testing.assert_close(module(q, k, v, mask)[:, :, :29], alone)
    k[:, :, 29:], v[:, :, 29:] = 50.0, 50.0
    torch.testing.assert_close(module(q, k, v, mask)[:, :, :29], alone)


@pytest.mark.parametrize(("plugin", "knobs"), KNOBS, ids=IDS)
def test_a_sequence_does_not_depend_on_the_rest_of_its_batch(plugin, knobs):
    q, k, v = draw(3, 2, 40, 24)
    mask = torch.arange(40) < torch.tensor([[40], [3], [22]])
    module = plugin.build(make(plugin, 40, knobs)).double()
    together = module(q, k, v, mask)
    for b in range(3):
        alone = module(q[b : b + 1], k[b : b + 1], v[b : b + 1], mask[b : b + 1])
        torch.testing.assert_close(together[b : b + 1, :, mask[b]], alone[:, :, mask[b]])


@pytest.mark.parametrize(("plugin", "knobs"), KNOBS, ids=IDS)
def test_gradients_of_inputs_and_weights_equal_finite_differences(plugin, knobs):
    module = plugin.build(make(plugin, 6, knobs | ({"conv_kernel": 3} if "conv_kernel" in knobs else {}))).double()
    mask = torch.tensor([[True] * 5 + [False]])
    qkv = [x.requires_grad_() for x in draw(1, 2, 6, 3)]
    weights = dict(module.named_parameters())

    def call(q, k, v, *values):
        parameters = dict(zip(weights, values, strict=True))
        return torch.func.functional_call(module, parameters, (q, k, v, mask))[:, :, :5]

    assert torch.autograd.gradcheck(call, (*qkv, *weights.values()))


@pytest.mark.parametrize(
    ("plugin", "knobs", "shapes"),
    [
        (LINFORMER, {"projected_length": 16}, [[2, 16, 40], [2, 16, 40]]),
        (LINFORMER, {"projected_length": 16, "sharing": "headwise"}, [[1, 16, 40], [1, 16, 40]]),
        (LINFORMER, {"projected_length": 16, "sharing": "key_value"}, [[1, 16, 40]]),
        (NYSTROMFORMER, {}, []),
        (NYSTROMFORMER, {"conv_kernel": 33}, [[2, 1, 33, 1]]),
    ],
)
def test_the_shapes_of_the_weights_and_that_they_depend_on_the_seed_alone(plugin, knobs, shapes):
    built = [list(plugin.build(make(plugin, 40, knobs, seed=seed)).parameters()) for seed in (0, 0, 1)]
    assert [list(weight.shape) for weight in built[0]] == shapes
    for first, same, other in zip(*built, strict=True):
        assert torch.equal(first, same)
        assert not torch.equal(first, other)


@pytest.mark.parametrize(("plugin", "knobs"), [(LINFORMER, {}), (NYSTROMFORMER, {"conv_kernel": 33})])
@pytest.mark.parametrize("kind", [ModelSpec, TaskSpec])
def test_whole_models_support_attentions_with_weights(plugin, knobs, kind):
    assert plugin.unsupported(kind(attention=plugin.name, seq_len=64, knobs=knobs)) == []


@pytest.mark.parametrize(
    ("plugin", "knobs", "expected"),
    [
        (LINFORMER, {"projected_length": 0}, "projected_length must be at least 1, got 0"),
        (LINFORMER, {"sharing": "layerwise"}, "sharing must be one of none, headwise, key_value, got 'layerwise'"),
        (NYSTROMFORMER, {"conv_kernel": 4}, "conv_kernel must be odd or 0, got 4"),
        (NYSTROMFORMER, {"num_landmarks": 0}, "num_landmarks must be at least 1, got 0"),
    ],
)
def test_knobs_out_of_range_are_unsupported(plugin, knobs, expected):
    (reason,) = plugin.unsupported(make(plugin, 40, knobs))
    assert reason == expected


def test_linformer_rejects_a_sequence_longer_than_its_projections():
    q, k, v = (x.float() for x in draw(1, 2, 41, 24))
    with pytest.raises(ValueError, match="up to 40 tokens, got 41"):
        LINFORMER.build(make(LINFORMER, 40))(q, k, v, None)


def test_linformer_with_identity_projections_is_softmax():
    """If E and F are the identity, keys and values do not change."""
    module = LINFORMER.build(make(LINFORMER, 12)).double()
    for weight in module.parameters():
        weight.data.copy_(torch.eye(12))
    q, k, v = draw(1, 2, 12, 24)
    torch.testing.assert_close(module(q, k, v, None), ((q @ k.mT) / 24**0.5).softmax(-1) @ v)


@pytest.mark.parametrize("sharing", ["none", "headwise", "key_value"])
def test_linformer_equals_a_sum_over_projected_keys(sharing):
    """One query of one head, written out over the real tokens, which use the first columns of the projections."""
    spec = make(LINFORMER, 9, {"projected_length": 4, "sharing": sharing}, heads=3)
    module = LINFORMER.build(spec).double()
    q, k, v = draw(1, 3, 9, 24)
    real = torch.tensor([0, 1, 2, 4, 7])
    mask = torch.zeros(1, 9, dtype=torch.bool).index_fill(1, real, True)
    head = 2 if sharing == "none" else 0
    e, f = module.key_projection[head], module.value_projection[head]
    keys = sum(e[:, column, None] * k[0, 2, j] for column, j in enumerate(real))
    values = sum(f[:, column, None] * v[0, 2, j] for column, j in enumerate(real))
    weights = torch.stack([q[0, 2, 4].dot(key) / 24**0.5 for key in keys]).exp()
    torch.testing.assert_close(module(q, k, v, mask)[0, 2, 4], weights @ values / weights.sum())


@pytest.mark.parametrize(("length", "landmarks"), [(12, 4), (13, 4), (3, 5), (1, 1), (131, 64)])
def test_segments_are_contiguous_and_cover_every_real_token(length, landmarks):
    mask = (torch.arange(140) < length)[None]
    weights = segments(landmarks, mask)[0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(landmarks))
    assert (weights > 0).any(0).tolist() == mask[0].tolist()
    if length >= landmarks:
        assert ((weights > 0).sum(0) <= 1).all()
        sizes = (weights > 0).sum(1)
        assert sizes.max() - sizes.min() <= 1


def test_the_iteration_converges_to_the_inverse():
    a = (4 * torch.eye(8, dtype=torch.float64) + torch.randn(8, 8, dtype=torch.float64) / 4).softmax(-1)
    torch.testing.assert_close(iterative_inverse(a, 12), torch.linalg.inv(a))


def test_as_many_landmarks_as_tokens_are_softmax():
    """Nothing needs to be approximated."""
    q, k, v = draw(1, 2, 12, 24)
    module = NYSTROMFORMER.build(make(NYSTROMFORMER, 12, {"num_landmarks": 12}))
    torch.testing.assert_close(module(q, k, v, None), ((q @ k.mT) / 24**0.5).softmax(-1) @ v)


def test_one_token_more_than_landmarks_equals_softmax_if_two_tokens_are_equal():
    """One landmark is the mean of the two equal tokens, and each other landmark is one token."""
    q, k, v = draw(1, 2, 12, 24)
    k[:, :, 11] = k[:, :, 10]
    q = k  # makes the matrix of landmarks well conditioned
    module = NYSTROMFORMER.build(make(NYSTROMFORMER, 12, {"num_landmarks": 11, "iterations": 40}))
    torch.testing.assert_close(module(q, k, v, None), ((q @ k.mT) / 24**0.5).softmax(-1) @ v)


@pytest.mark.parametrize("conv", [None, 33])
@pytest.mark.parametrize("first_guess", ["exact", "original"])
def test_nystromformer_equals_that_of_transformers(conv, first_guess):
    """Outputs and gradients, with the same weights; "original" uses one initial guess for all heads of a batch."""
    from transformers import NystromformerConfig
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    heads = 1 if first_guess == "original" else 4
    batch = 1 if first_guess == "original" else 3
    config = NystromformerConfig(
        hidden_size=32,
        num_attention_heads=heads,
        num_landmarks=16,
        segment_means_seq_len=96,
        conv_kernel_size=33,
        attention_probs_dropout_prob=0.0,
    )
    reference = NystromformerSelfAttention(config).double()
    reference.init_option = first_guess
    reference.conv_kernel_size = conv  # the configuration does not accept None
    spec = make(
        NYSTROMFORMER,
        96,
        {"num_landmarks": 16, "conv_kernel": conv or 0},
        heads=heads,
        batch=batch,
        head_dim=32 // heads,
    )
    module = NYSTROMFORMER.build(spec).double()
    if conv:
        module.conv_weight.data.copy_(reference.conv.weight)

    hidden = torch.randn(batch, 96, 32, dtype=torch.float64, requires_grad=True)
    q, k, v = (
        f(hidden).unflatten(-1, (heads, -1)).transpose(1, 2) for f in (reference.query, reference.key, reference.value)
    )
    output = module(q, k, v, None).transpose(1, 2).flatten(2)
    (expected,) = reference(hidden)[:1]
    torch.testing.assert_close(output, expected)
    upstream = torch.randn_like(expected)
    sources = [hidden, *reference.query.parameters(), *reference.value.parameters()]
    grads, expected_grads = (torch.autograd.grad(x, sources, upstream) for x in (output, expected))
    torch.testing.assert_close(grads, expected_grads)


@pytest.mark.parametrize("plugin", [LINFORMER, NYSTROMFORMER])
def test_the_cost_grows_at_most_linearly_with_the_length(plugin):
    short, long = plugin.cost(make(plugin, 1024)), plugin.cost(make(plugin, 4096))
    assert all(long[ceiling] <= 4 * amount for ceiling, amount in short.items())
