"""The operators compared with the float64 oracles, and the native ones with plain torch, with the same planes."""

import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from yoso.attention import expectation_weights, yoso_e, yoso_sampling
from yoso.build import jit
from yoso.ops import portable, reference
from yoso.ops.hashing import HASH_FAMILIES, draw_planes
from yoso.ops.operators import unit_rows

SHAPES = [
    # batch, heads, query and key length, head_dim, value_dim, num_hash, hash_code_len
    (2, 3, 50, 24, 24, 13, 7),
    (1, 1, 1, 1, 1, 1, 1),
    (1, 2, 33, 64, 64, 32, 9),
    (2, 1, 100, 100, 40, 70, 16),
    (1, 1, 257, 16, 128, 5, 3),
    (1, 1, 300, 20, 20, 3, 1),
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def make(shape, dtype=torch.float32, masked=True):
    batch, heads, length, head_dim, value_dim, num_hash, tau = shape
    torch.manual_seed(length + tau)
    query, key = (torch.randn(batch, heads, length, head_dim, dtype=dtype) for _ in range(2))
    value, grad = (torch.randn(batch, heads, length, value_dim, dtype=dtype) for _ in range(2))
    mask = torch.rand(batch, length) > 0.2 if masked else None
    sizes = {"num_hash": num_hash, "hash_code_len": tau}
    return query, key, value, grad, mask, sizes


def oracle(query, key, value, mask, sizes, hash_family, planes):
    args = sizes | {"hash_family": hash_family}
    native = [torch.ops.yoso.fast_hash(x.detach(), planes, *args.values()) for x in (query, key)]
    settled = [
        reference.settle_codes(n, x.detach().float(), planes, **args) for n, x in zip(native, (query, key), strict=True)
    ]
    return reference.yoso_sampling(query, key, value, *settled, mask, mask, hash_code_len=sizes["hash_code_len"])


def leaves(*tensors, dtype=None):
    return [t.detach().to(dtype or t.dtype).requires_grad_() for t in tensors]


def assert_close(actual, expected, tolerance, scale=None):
    """The largest error, relative to ``scale`` or else to the largest expected entry, is within the tolerance."""
    scale = expected.abs().max().item() if scale is None else scale
    assert torch.isfinite(actual).all()
    assert (actual.double() - expected.double()).abs().max().item() <= tolerance * max(scale, 1e-30)


@pytest.fixture(autouse=True)
def _native_kernels_are_tested():
    assert jit.load("cpu"), "the native kernels could not be built; these tests need them"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_sampling_equals_its_definition(shape, hash_family, dtype):
    query, key, value, _, mask, sizes = make(shape, dtype)
    if hash_family == "hadamard_authors" and sizes["hash_code_len"] > 2 * query.shape[3]:
        pytest.skip("a code longer than the rotation")
    planes = draw_planes(hash_family, groups=query.shape[0] * query.shape[1], head_dim=query.shape[3], **sizes)
    out = yoso_sampling(query, key, value, mask, hash_family=hash_family, planes=planes, **sizes)
    wide = [x.double() for x in (query, key, value)]
    assert_close(out, oracle(*wide, mask, sizes, hash_family, planes), TOLERANCE[dtype], 1.0)
    assert out.dtype == dtype


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_sampled_gradient_equals_the_surrogate(shape, dtype):
    query, key, value, grad, mask, sizes = make(shape, dtype)
    planes = draw_planes("gaussian", groups=1, head_dim=query.shape[3], **sizes)
    inputs = leaves(query, key, value)
    out = yoso_sampling(*inputs, mask, hash_family="gaussian", planes=planes, **sizes)
    wide = leaves(query, key, value, dtype=torch.float64)
    expected = torch.autograd.grad(oracle(*wide, mask, sizes, "gaussian", planes), wide, grad.double())
    # Where a single key collides, the exact gradient of query and key is zero and the result is rounding error only, so
    # the scale is that of the terms of the sum and not that of the result.
    scale = sizes["hash_code_len"] / query.double().norm(dim=-1).min().item()
    scale = max(scale, 1 / sizes["num_hash"])
    for actual, truth in zip(torch.autograd.grad(out, inputs, grad), expected, strict=True):
        assert_close(actual, truth, 30 * TOLERANCE[dtype], max(scale, truth.abs().max().item()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_expectation_equals_its_definition(shape, dtype):
    query, key, value, _, mask, sizes = make(shape, dtype)
    tau = sizes["hash_code_len"]
    out = yoso_e(query, key, value, mask, hash_code_len=tau)
    truth = reference.yoso_e(query.double(), key.double(), value.double(), mask, mask, hash_code_len=tau)
    assert_close(out, truth, 3 * TOLERANCE[dtype], 1.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("lsh_backward", [None, False], ids=["expectation", "lsh_backward=False"])
def test_gradient_over_all_pairs_equals_the_surrogate(shape, dtype, lsh_backward):
    query, key, value, grad, mask, sizes = make(shape, dtype)
    tau = sizes["hash_code_len"]
    inputs = leaves(query, key, value)
    wide = leaves(query, key, value, dtype=torch.float64)
    if lsh_backward is None:
        out = yoso_e(*inputs, mask, hash_code_len=tau)
        grads, context = torch.autograd.grad(out, inputs, grad), None
        truth = torch.autograd.grad(reference.yoso_e(*wide, mask, mask, hash_code_len=tau), wide, grad.double())
    else:
        # The operator without the outer normalisation, so that the gradient does not depend on the sampled output.
        codes = [torch.zeros(*x.shape[:2], 2, x.shape[2], dtype=torch.uint16) for x in (query, key)]
        context = torch.ops.yoso.lsh_attention(*inputs, *codes, mask, mask, tau, False)
        grads = torch.autograd.grad(context, inputs, grad)
        units = [reference.unit(x) for x in wide[:2]]
        weights = reference.collision_probability(units[0].detach() @ units[1].detach().transpose(-1, -2), tau)
        context = reference.weighted_sum(weights, *units, wide[2], mask, mask, tau)
        truth = torch.autograd.grad(context, wide, grad.double())
    for actual, expected in zip(grads, truth, strict=True):
        assert_close(actual, expected, 30 * TOLERANCE[dtype], max(1.0, expected.abs().max().item()))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_native_equals_plain_torch_on_any_shape(data):
    draw = data.draw
    batch, heads, num_hash = (draw(st.integers(1, top)) for top in (2, 3, 9))
    num_query, num_key, dim, value_dim = (draw(st.integers(1, top)) for top in (40, 40, 40, 70))
    tau = draw(st.integers(1, 16))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    query = torch.nn.functional.normalize(torch.randn(batch, num_query, heads, dim, generator=generator), dim=-1)
    key = torch.nn.functional.normalize(torch.randn(batch, num_key, heads, dim, generator=generator), dim=-1)
    query, key = query.transpose(1, 2), key.transpose(1, 2)
    # In few dimensions some pair may be so nearly parallel that its angle is little more than the rounding of a cosine.
    distance_to_parallel = 1 - (query @ key.transpose(2, 3)).abs()
    assume(dim == 1 or distance_to_parallel.min() > 1e-4)
    value = torch.randn(batch, heads, num_key, value_dim, generator=generator)
    grad = torch.randn(batch, heads, num_query, value_dim, generator=generator)
    # Few distinct codes give buckets with many keys, many distinct codes give buckets with few.
    top = draw(st.sampled_from([1, 2, 2**tau]))
    codes = [
        torch.randint(0, min(top, 2**tau), (batch, heads, num_hash, n), generator=generator).to(torch.uint16)
        for n in (num_query, num_key)
    ]
    masks = [
        torch.rand(batch, n, generator=generator) > draw(st.sampled_from([0.0, 0.5, 1.1])) for n in (num_query, num_key)
    ]
    pairs = [
        (torch.ops.yoso.lsh_cumulation, portable.lsh_cumulation, (*codes, value, *masks, tau)),
        (
            torch.ops.yoso.lsh_attention_backward,
            portable.lsh_attention_backward,
            (grad, query, key, value, *codes, *masks, tau),
        ),
        (torch.ops.yoso.unit_rows, portable.unit_rows, (value,)),
        (torch.ops.yoso.unit_rows_backward, portable.unit_rows_backward, (value.flip(2), value)),
        (torch.ops.yoso.floored_unit_rows, portable.floored_unit_rows, (value, value[:, :, 0, 0])),
        (
            torch.ops.yoso.floored_unit_rows_backward,
            portable.floored_unit_rows_backward,
            (value.flip(2), value, value[:, :, 0, 0]),
        ),
        (torch.ops.yoso.expectation, portable.expectation, (query, key, value, *masks, tau)),
        (torch.ops.yoso.expectation_backward, portable.expectation_backward, (grad, query, key, value, *masks, tau)),
        (
            torch.ops.yoso.expectation_backward,
            portable.expectation_backward,
            (grad, query, key, value, *masks, tau, True),
        ),
    ]
    for native, plain, args in pairs:
        actual, expected = native(*args), plain(*args)
        both = zip(*((x,) if isinstance(x, torch.Tensor) else x for x in (actual, expected)), strict=True)
        for a, e in both:
            # Near 1, the slope of arccos turns the rounding error e of a cosine into an angle of sqrt(2 e) = 5e-4, that
            # is 1.6e-4 tau of a weight, and the two implementations sum the cosine in different orders.
            tolerance = 1e-3 + 2e-4 * tau if plain.__name__.startswith("expectation") else 1e-4
            assert_close(a, e, tolerance, max(1.0, e.abs().max().item()))


def test_buckets_with_many_keys_use_the_moment_and_agree():
    """With 300 equal codes the kernel uses the d x d moment instead of 90,000 pairs."""
    query, key, value, grad, _, _ = make((1, 2, 300, 32, 16, 2, 4), torch.float64)
    codes = torch.zeros(1, 2, 2, 300, dtype=torch.uint16)
    args = (grad, query, key, value, codes, codes, None, None, 4)
    for actual, expected in zip(
        torch.ops.yoso.lsh_attention_backward(*args), portable.lsh_attention_backward(*args), strict=True
    ):
        assert_close(actual, expected, 1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_unit_rows_in_place_gives_the_same_bits(dtype):
    torch.manual_seed(0)
    for x in (torch.randn(2, 3, 40, 33).to(dtype), torch.randn(2, 40, 3, 33).to(dtype).transpose(1, 2)):
        expected = unit_rows(x)
        torch.ops.yoso.unit_rows_(x)
        assert torch.equal(x, expected)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_unit_rows_equal_torchs_normalisation_and_zero_rows_stay_zero(dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 9, 3, 70, dtype=dtype).transpose(1, 2)
    x[0, 1, 2] = 0
    (x,) = leaves(x)
    grad = torch.randn(2, 3, 9, 70, dtype=dtype)
    (wide,) = leaves(x, dtype=torch.float64)
    truth = torch.nn.functional.normalize(wide, dim=-1)
    out = unit_rows(x)
    assert_close(out, truth, TOLERANCE[dtype])
    (gradient,) = torch.autograd.grad(out, x, grad)
    (expected,) = torch.autograd.grad(truth, wide, grad.double())
    expected[0, 1, 2] = 0
    assert_close(gradient, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("attention", ["yoso_e", "yoso_sampling"])
def test_a_fully_masked_sequence_gives_zeros_and_zero_gradients(attention):
    query, key, value, grad, _, _ = make((2, 2, 20, 16, 16, 8, 5))
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1] = False
    inputs = leaves(query, key, value)
    out = yoso_e(*inputs, mask) if attention == "yoso_e" else yoso_sampling(*inputs, mask, num_hash=8)
    assert torch.equal(out[1], torch.zeros_like(out[1]))
    for gradient in torch.autograd.grad(out, inputs, grad):
        assert torch.isfinite(gradient).all()
        assert torch.equal(gradient[1], torch.zeros_like(gradient[1]))


def test_equal_rows_of_query_and_key_give_no_nan():
    """Rounding can put a product of equal rows above 1, where arccos is NaN; transformers' model returns NaN here."""
    torch.manual_seed(0)
    query = torch.randn(1, 4, 200, 64)
    unit = torch.nn.functional.normalize(query, dim=-1)
    assert ((unit * unit).sum(-1) > 1).any(), "no product of these inputs is above 1"
    inputs = leaves(query, query, torch.randn_like(query))
    out = yoso_e(*inputs)
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(out.sum(), inputs))
    weights = expectation_weights(query, query)
    assert torch.isfinite(weights).all()
    assert weights.diagonal(dim1=-2, dim2=-1).min() > 0.99


def test_the_same_planes_give_the_same_bits_for_any_thread_count():
    query, key, value, grad, mask, sizes = make((2, 3, 500, 64, 64, 16, 8))
    planes = draw_planes("hadamard", groups=6, head_dim=64, **sizes)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            inputs = leaves(query, key, value)
            out = yoso_sampling(*inputs, mask, planes=planes, **sizes)
            results.append([out.detach(), *torch.autograd.grad(out, inputs, grad)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_error_against_the_expectation_falls_with_more_hashes():
    query, key, value, _, _, _ = make((1, 2, 256, 32, 32, 1, 1), masked=False)
    truth = yoso_e(query, key, value, hash_code_len=6)
    errors = []
    for num_hash in (16, 64, 256):
        draws = [yoso_sampling(query, key, value, num_hash=num_hash, hash_code_len=6) for _ in range(4)]
        errors.append(sum((d - truth).norm().item() for d in draws))
    for few, many in itertools.pairwise(errors):
        assert many < 0.7 * few, f"four times as many hashes should halve the error, got {errors}"
