"""Longformer, BigBird and Reformer: equal to their dense definitions and to the modules of transformers."""

import failed_sentences
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.attentions import bigbird, longformer, reformer
from harness.attentions.shared import cost
from harness.core import registry
from harness.core.spec import ModelSpec, OperationSpec
from harness.measure import inputs, verify

CASES = [
    ("longformer", {}),
    ("longformer", {"window": 16, "global_tokens": 3}),
    ("longformer", {"window": 2, "global_tokens": 0}),
    ("bigbird", {}),
    ("bigbird", {"block": 16, "random_blocks": 2}),
    ("bigbird", {"block": 8, "window": 5, "global_blocks": 3}),
    ("bigbird", {"block": 16, "global_blocks": 0, "random_blocks": 0, "window": 1}),
    ("reformer", {}),
    ("reformer", {"chunk": 16}),
    ("reformer", {"chunk": 8, "rounds": 3, "buckets": 64}),
]
SMALL = {
    "longformer": {"window": 32, "global_tokens": 2},
    "bigbird": {"block": 16, "random_blocks": 2},
    "reformer": {"chunk": 16, "buckets": 8},
}
NAMES = sorted(SMALL)


def spec_of(name, n, knobs=None, **changes):
    sizes = {"heads": 2, "batch": 2, "head_dim": 24, "mode": "forward_backward"} | changes
    return OperationSpec(attention=name, seq_len=n, knobs=SMALL[name] if knobs is None else knobs, **sizes)


def failures(spec):
    plugin = registry.get(spec.attention)
    assert plugin.unsupported(spec) == []
    return failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec)))


@pytest.mark.parametrize(("name", "knobs"), CASES)
@pytest.mark.parametrize("n", [1, 7, 100, 209])
@pytest.mark.parametrize("padding", [0.0, 0.3])
def test_it_equals_its_oracle(name, knobs, n, padding):
    assert failures(spec_of(name, n, knobs, padding=padding)) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_equals_its_oracle_in_half_precision(name, dtype):
    assert failures(spec_of(name, 100, dtype=dtype, padding=0.3)) == []


@pytest.mark.parametrize("name", NAMES)
def test_sequences_of_different_lengths_in_one_batch(name):
    """Outputs and gradients of real tokens equal those of the oracle with the same mask."""
    plugin, spec = registry.get(name), spec_of(name, 80, batch=3)
    mask = torch.arange(80) < torch.tensor([[80], [37], [1]])
    qkv = [torch.randn(3, 2, 80, 24).requires_grad_() for _ in range(3)]
    real = mask[:, None, :, None]
    output = plugin.build(spec)(*qkv, mask).where(real, 0.0)
    exact = plugin.oracle(spec, *(x.double() for x in qkv), mask, torch.arange(80))
    exact = exact.where(real, 0.0)
    torch.testing.assert_close(output, exact.float(), atol=1e-5, rtol=1e-4)
    upstream = torch.randn(3, 2, 80, 24)
    grads, exact_grads = (torch.autograd.grad(x, qkv, upstream.to(x.dtype)) for x in (output, exact))
    assert all(grad.isfinite().all() for grad in grads)
    torch.testing.assert_close(grads, exact_grads, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_added_padding_does_not_change_the_outputs_of_real_tokens(name):
    """54 tokens, alone and with 10 padded tokens that fit into the last block."""
    plugin = registry.get(name)
    q, k, v = (torch.randn(2, 2, 64, 24) for _ in range(3))
    mask = (torch.arange(64) < 54).expand(2, -1)
    alone = plugin.build(spec_of(name, 54))(*(x[:, :, :54] for x in (q, k, v)), None)
    padded = plugin.build(spec_of(name, 64))(q, k, v, mask)[:, :, :54]
    torch.testing.assert_close(padded, alone)


class Largest(TorchDispatchMode):
    """Counts the numbers in the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.itemsize)
        return result


@pytest.mark.parametrize("name", NAMES)
def test_no_tensor_grows_faster_than_the_length(name):
    largest = []
    for n in (1024, 4096):
        spec = spec_of(name, n, batch=1, heads=1, head_dim=8)
        module, case = registry.get(name).build(spec), inputs.make(spec)
        qkv = [x.requires_grad_() for x in (case.q, case.k, case.v)]
        with Largest() as largest_tensor:
            torch.autograd.grad(module(*qkv, torch.ones(1, n, dtype=torch.bool)), qkv, case.grad)
        largest.append(largest_tensor.numbers)
    assert largest[1] <= 4.1 * largest[0]


@pytest.mark.parametrize("name", ["bigbird", "reformer"])
def test_random_choices_depend_on_the_seed_alone(name):
    case = inputs.make(spec_of(name, 200))

    def output(seed):
        torch.rand(3)  # advances torch's default generator, which must not matter
        return registry.get(name).build(spec_of(name, 200, seed=seed))(case.q, case.k, case.v, None)

    assert torch.equal(output(1), output(1))
    assert not torch.equal(output(1), output(2))


@pytest.mark.parametrize(
    ("name", "knobs", "words"),
    [
        ("longformer", {"window": 7}, "even"),
        ("longformer", {"global_tokens": -1}, "negative"),
        ("bigbird", {"block": 0}, "at least 1"),
        ("bigbird", {"window": 2}, "odd"),
        ("bigbird", {"random_blocks": -1}, "negative"),
        ("reformer", {"rounds": 0}, "at least 1"),
        ("reformer", {"chunk": 0}, "at least 1"),
        ("reformer", {"buckets": 5}, "even and at least 2, got 5"),
        ("reformer", {"chunk": 8, "buckets": 24}, "power of two"),
    ],
)
def test_knobs_out_of_range_are_unsupported(name, knobs, words):
    (reason,) = registry.get(name).unsupported(spec_of(name, 64, knobs))
    assert words in reason


@pytest.mark.parametrize("name", NAMES)
def test_the_cost_is_less_than_that_of_all_pairs(name):
    plugin, spec = registry.get(name), spec_of(name, 200, batch=1, head_dim=64)
    all_pairs = cost.softmax(spec)
    assert plugin.cost(spec)["matmul float32"] < all_pairs["matmul float32"]
    assert plugin.cost(spec)["copy"] == all_pairs["copy"]
    assert plugin.cost(ModelSpec(attention=name, seq_len=200)) is None


@pytest.mark.parametrize(("n", "window", "num_global"), [(50, 8, 3), (50, 200, 2), (5, 2, 9), (40, 6, 0)])
def test_the_cost_of_longformer_equals_a_count_of_its_pairs(n, window, num_global):
    spec = spec_of("longformer", n, {"window": window, "global_tokens": num_global})
    pairs = sum(abs(i - j) <= window // 2 or i < num_global or j < num_global for i in range(n) for j in range(n))
    plugin, all_pairs = registry.get("longformer"), cost.softmax(spec)["matmul float32"]
    assert plugin.cost(spec)["matmul float32"] == pytest.approx(all_pairs * pairs / n**2)


def test_bigbird_draws_distinct_blocks_outside_the_window_and_the_global_blocks():
    layout = bigbird.BlockLayout(block=4, blocks=12, window=3, top=1, bottom=1, random=4)
    chosen = bigbird.random_blocks(3, layout, seed=5)
    for row in range(12):
        free = set(range(1, 11)) - {row - 1, row, row + 1}
        for head in range(3):
            blocks = chosen[head, row].tolist()
            assert set(blocks) <= free
            assert len(set(blocks)) == 4
    few = bigbird.random_blocks(1, bigbird.BlockLayout(4, 6, 3, 1, 1, random=4), seed=5)[0, 2].tolist()
    assert few == [4, -1, -1, -1]


def test_bigbird_rejects_another_length_than_it_was_built_for():
    module = registry.get("bigbird").build(spec_of("bigbird", 64))
    with pytest.raises(ValueError, match="built for 2 heads and 4 blocks of 16 tokens, got 2 heads and 100 tokens"):
        module(*[torch.randn(1, 2, 100, 24)] * 3, None)


def assert_same(output, expected, sources):
    """Two outputs are close, and so are their gradients with respect to ``sources``."""
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-4)
    upstream = torch.randn_like(output)
    grads, expected_grads = (torch.autograd.grad(x, sources, upstream) for x in (output, expected))
    torch.testing.assert_close(grads, expected_grads, atol=1e-5, rtol=1e-4)


def heads_of(x, linear):
    return linear(x).unflatten(-1, (2, 8)).transpose(1, 2)


def test_longformer_equals_that_of_transformers():
    from transformers import LongformerConfig
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = LongformerConfig(hidden_size=16, num_attention_heads=2, attention_window=[8])
    reference = LongformerSelfAttention(config, layer_id=0).eval()
    for name in ("query", "key", "value"):
        getattr(reference, f"{name}_global").load_state_dict(getattr(reference, name).state_dict())
    hidden = torch.randn(2, 40, 16, requires_grad=True)
    real = torch.arange(40) < torch.tensor([[40], [31]])
    kind = torch.where(real, 0.0, -10000.0)
    kind[:, :3] = 10000.0
    (expected,) = reference(hidden, kind, kind < 0, kind > 0, True)
    q, k, v = (heads_of(hidden, linear) for linear in (reference.query, reference.key, reference.value))
    output = longformer.LongformerAttention(window=8, global_tokens=3)(q, k, v, real)
    assert_same(output.transpose(1, 2).flatten(2)[real], expected[real], [hidden])


def test_bigbird_equals_that_of_transformers():
    from transformers import BigBirdConfig
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

    config = BigBirdConfig(hidden_size=16, num_attention_heads=2, block_size=4, num_random_blocks=2, use_bias=True)
    reference = BigBirdBlockSparseAttention(config, seed=3).train()  # it draws random blocks only in training mode
    hidden = torch.randn(2, 64, 16, requires_grad=True)
    real = torch.arange(64) < torch.tensor([[64], [51]])
    blocked, band, from_mask, to_mask = BigBirdModel.create_masks_for_block_sparse_attn(real.float(), 4)
    state = np.random.get_state()
    expected, _ = reference(hidden, band, from_mask, to_mask, blocked, blocked)

    np.random.seed(3)
    plan, counts = reference._get_rand_attn_plan(64, 4, 2)
    drawn = reference._bigbird_block_rand_mask_with_head(64, 64, 4, 4, 2, plan, counts)
    np.random.set_state(state)
    chosen = torch.nn.functional.pad(torch.from_numpy(np.stack(drawn)).long(), (0, 0, 1, 1), value=-1)
    layout = bigbird.BlockLayout(block=4, blocks=16, window=3, top=1, bottom=1, random=2)
    q, k, v = (heads_of(hidden, linear) for linear in (reference.query, reference.key, reference.value))
    output = bigbird.BigBirdAttention(layout, chosen)(q, k, v, real)
    assert_same(output.transpose(1, 2).flatten(2)[real], expected[real], [hidden])


@pytest.mark.parametrize("buckets", [8, [4, 8]])
def test_reformer_equals_that_of_transformers(buckets):
    from transformers import ReformerConfig
    from transformers.models.reformer.modeling_reformer import LSHSelfAttention

    config = ReformerConfig(
        hidden_size=16,
        num_attention_heads=2,
        attention_head_size=8,
        lsh_attn_chunk_length=8,
        lsh_attention_probs_dropout_prob=0.0,
        num_hashes=3,
        num_buckets=buckets,
        hash_seed=7,
    )
    reference = LSHSelfAttention(config, layer_idx=0).eval()
    hidden = torch.randn(2, 64, 16, requires_grad=True)
    expected = reference(hidden).hidden_states

    factors = (buckets,) if isinstance(buckets, int) else tuple(buckets)
    torch.manual_seed(7)
    module = reformer.LshAttention(8, factors, torch.randn(2, 8, 3, sum(factors) // 2))
    shared, v = heads_of(hidden, reference.query_key), heads_of(hidden, reference.value)
    assert_same(module(shared, shared, v, None).transpose(1, 2).flatten(2), expected, [hidden])


def test_reformer_takes_the_mean_of_queries_and_keys():
    spec = spec_of("reformer", 100)
    module, case = registry.get("reformer").build(spec), inputs.make(spec)
    mean = (case.q + case.k) / 2
    torch.testing.assert_close(module(case.q, case.k, case.v, None), module(mean, mean, case.v, None))


def test_reformer_factors_large_numbers_of_buckets():
    assert reformer._factors(128, 64) == (128,)
    assert reformer._factors(2048, 64) == (32, 64)
    assert registry.get("reformer").knobs(spec_of("reformer", 4096, {}))["buckets"] == 128
