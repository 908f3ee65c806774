"""The rescored estimator: against its definition in float64, without bias, within its bound of work, and its errors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoso.attention import yoso_e, yoso_sampling
from yoso.build import jit
from yoso.ops import operators, portable, reference, rescored
from yoso.ops.estimators import draw_shared_keys
from yoso.ops.hashing import draw_planes

OPS = torch.ops.yoso


@pytest.fixture(autouse=True)
def _native_kernels_are_tested():
    assert jit.load("cpu"), "the native kernels could not be built; these tests need them"


SIZES = {"num_hash": 6, "hash_code_len": 4}


def make(num_query=40, num_key=50, *, dim=24, value_dim=20, dtype=torch.float64, alike=0.0, seed=0):
    """Arguments of the operator up to the masks; ``alike`` is the share of all rows that a common direction has."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(dim, generator=generator)

    def rows(count, width):
        return torch.randn(2, 2, count, width, generator=generator)

    query, key = (alike * common + (1 - alike) * rows(count, dim) for count in (num_query, num_key))
    value = rows(num_key, value_dim)
    planes = draw_planes("gaussian", groups=4, head_dim=dim, generator=generator, **SIZES)
    codes = [OPS.fast_hash(x, planes, *SIZES.values(), "gaussian") for x in (query, key)]
    masks = [torch.rand(2, count, generator=generator) > 0.2 for count in (num_query, num_key)]
    ids = draw_shared_keys(7, (2, 2, num_key), masks[1], generator=generator)
    return *(x.to(dtype) for x in (query, key, value)), *codes, ids, *masks


def gradients(out, inputs, grad):
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def leaves(*tensors):
    return [x.detach().clone().requires_grad_() for x in tensors]


def assert_close(actual, expected, tolerance):
    assert torch.isfinite(actual).all()
    scale = max(1.0, expected.abs().max().item())
    assert (actual.double() - expected.double()).abs().max().item() <= tolerance * scale


@pytest.mark.parametrize(("floor", "rest"), [(0.0, False), (0.2, True), (0.3, False), (0.2, False)])
@pytest.mark.parametrize("keys_per_query", [0, 20, 1000], ids=["all crowded", "some crowded", "none crowded"])
@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_output_and_gradients_equal_the_definition(floor, rest, keys_per_query, alike):
    query, key, value, *others = make(alike=alike)
    grad = torch.randn(2, 2, 40, 20, dtype=torch.float64)
    inputs = leaves(query, key, value)
    out = OPS.rescored_attention(*inputs, *others, 4, keys_per_query, floor, rest, True)
    wide = leaves(query, key, value)
    truth = reference.yoso_rescored(
        *wide, *others, hash_code_len=4, keys_per_query=keys_per_query, floor=floor, rest=rest
    )
    for actual, expected in zip(gradients(out, inputs, grad), gradients(truth, wide, grad), strict=True):
        assert_close(actual, expected, 1e-10)


def at_least_half_long(rows):
    """Rows in the same directions. The rounding errors of a gradient that cancels are divided by the length."""
    length = rows.norm(dim=-1, keepdim=True)
    return rows / length * (0.5 + length)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_kernel_equals_plain_torch_on_any_shape(data):
    draw = data.draw
    batch, heads, num_hash = (draw(st.integers(1, top)) for top in (2, 3, 35))
    num_query, num_key, dim, value_dim = (draw(st.integers(1, top)) for top in (40, 40, 40, 70))
    tau = draw(st.integers(1, 16))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    query, key = (at_least_half_long(normal(batch, n, heads, dim)).transpose(1, 2) for n in (num_query, num_key))
    value, grad = normal(batch, heads, num_key, value_dim), normal(batch, heads, num_query, value_dim)
    # Few distinct codes give buckets with many keys, many distinct codes give buckets with few.
    top = min(draw(st.sampled_from([1, 2, 9, 2**tau])), 2**tau)
    codes = [
        torch.randint(0, top, (batch, heads, num_hash, n), generator=generator).to(torch.uint16)
        for n in (num_query, num_key)
    ]
    masks = [
        torch.rand(batch, n, generator=generator) > draw(st.sampled_from([0.0, 0.5, 1.1])) for n in (num_query, num_key)
    ]
    masks = [mask if draw(st.booleans()) else None for mask in masks]
    ids = draw_shared_keys(draw(st.integers(0, num_key)), (batch, heads, num_key), masks[1], generator=generator)
    rule = tau, draw(st.integers(0, 300)), draw(st.sampled_from([0.0, 0.2, 1.0])), draw(st.booleans())
    tensors = query, key, value, *codes, ids, *masks
    pairs = [
        (OPS.rescored_attention, rescored.rescored_attention, (*tensors, *rule, True)),
        (OPS.rescored_attention_backward, rescored.rescored_attention_backward, (grad, *tensors, *rule)),
    ]
    for native, plain, args in pairs:
        actual, expected = native(*args), plain(*args)
        both = zip(*((x,) if isinstance(x, torch.Tensor) else x for x in (actual, expected)), strict=True)
        for a, e in both:
            # Near 1, the slope of arccos turns the rounding error e of a cosine into an angle of sqrt(2 e) = 5e-4, that
            # is 1.6e-4 tau of a weight.
            assert_close(a, e, 1e-3 + 2e-4 * tau)


def test_with_floor_0_and_without_rest_output_and_gradients_are_unbiased():
    """The mean over many draws of planes and shared keys is YOSO-E's sum, within four standard errors, entry by entry.

    The surrogate gradient of YOSO-E is compared as well. All draws are sequences of one batch.
    """
    draws, tau = 4000, 5
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 12, 8) for _ in range(3))
    key[0, 0, :4] = query[0, 0, :4] + 0.3 * torch.randn(4, 8)
    grad = torch.randn(1, 1, 12, 8)
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[0, 9:] = False
    exact = leaves(query, key, value)
    truth = gradients(operators.expectation(*exact, mask, mask, hash_code_len=tau), exact, grad)
    many = leaves(*(x.expand(draws, -1, -1, -1) for x in (query, key, value)))
    planes = draw_planes("gaussian", groups=draws, head_dim=8, num_hash=3, hash_code_len=tau)
    codes = [OPS.fast_hash(x.detach(), planes, 3, tau, "gaussian") for x in many[:2]]
    masks = [mask.expand(draws, -1)] * 2
    ids = draw_shared_keys(2, (draws, 1, 12), masks[1])
    out = operators.rescored_attention(*many, *codes, ids, *masks, hash_code_len=tau, floor=0.0, rest=False)
    for sampled, expected in zip(gradients(out, many, grad.expand_as(out)), truth, strict=True):
        error = sampled.mean(0) - expected[0]
        standard_error = sampled.std(0) / draws**0.5
        assert (error.abs() <= 4.5 * standard_error + 1e-6).all()
        assert standard_error.max() < 0.1, "the draws are too few to show a bias"


def test_the_default_rule_has_a_smaller_error_than_the_collisions_of_the_same_hashes():
    torch.manual_seed(0)
    query = torch.randn(1, 2, 512, 32)
    key, value = 0.9 * query + 0.4 * torch.randn_like(query), torch.randn_like(query)
    truth = yoso_e(query, key, value, hash_code_len=9)
    errors = [
        (yoso_sampling(query, key, value, num_hash=16, estimator=estimator) - truth).norm() / truth.norm()
        for estimator in ("collisions", "rescored")
    ]
    assert errors[1] < 0.7 * errors[0], errors


def test_a_query_rescores_no_more_keys_than_its_bound():
    """The first hashes that fit are rescored; one that does not fit is skipped, and a later one still fits."""
    key_codes = torch.tensor([[0] * 5, [1] * 2 + [0] * 3, [0] * 3 + [1] * 2]).to(torch.uint16)[None, None]
    query_codes = torch.tensor([[0], [1], [1]]).to(torch.uint16)[None, None]
    mask = torch.tensor([[True, True, True, True, False]])
    expected = {0: [False, False, False], 1: [False, False, True], 3: [False, True, True], 4: [True, False, False]}
    for keys_per_query, fits in expected.items():
        for hashes in (
            rescored.rescored_hashes(query_codes, key_codes, mask, 1, keys_per_query),
            reference.rescored_hashes(query_codes, key_codes, mask, keys_per_query),
        ):
            assert hashes.flatten().tolist() == fits


def test_where_every_bucket_is_crowded_the_estimate_is_that_of_the_collisions():
    query, key, value, *codes, ids, query_mask, key_mask = make()
    out = OPS.rescored_attention(query, key, value, *codes, ids, query_mask, key_mask, 4, 0, 0.2, True, True)
    codes = [
        torch.where(mask[:, None, None], x.int(), 0) for x, mask in zip(codes, (query_mask, key_mask), strict=True)
    ]
    plain = portable.lsh_cumulation(*(x.to(torch.uint16) for x in codes), value, query_mask, key_mask, 4)
    empty = ~(codes[0][..., :, None] == torch.where(key_mask[:, None, None], codes[1], -1)[..., None, :]).any(-1)
    assert_close(out[~empty.any(2)], plain[~empty.any(2)], 1e-12)


def test_more_crowded_buckets_than_the_kernel_numbers_at_a_time():
    """The kernel numbers crowded buckets with 16 bits, of which two numbers are taken; here all 65,536 are crowded."""
    codes = (torch.arange(66000) % 65536).to(torch.uint16)[None, None, None]
    rows = torch.randn(3, 1, 1, 66000, 2, generator=torch.Generator().manual_seed(0))
    out = OPS.rescored_attention(*rows, codes, codes, torch.zeros(1, 1, 0).long(), None, None, 16, 0, 0.2, True, True)
    assert_close(out, OPS.lsh_cumulation(codes, codes, rows[2], None, None, 16), 1e-6)


def test_shared_keys_are_distinct_real_and_follow_the_seed():
    mask = torch.arange(20) < torch.tensor([[20], [5]])
    ids = [draw_shared_keys(8, (2, 3, 20), mask, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(ids[0], ids[1])
    assert not torch.equal(ids[0], ids[2])
    assert all(len(set(row.tolist())) == 8 for row in ids[0].flatten(0, 1))
    assert all({0, 1, 2, 3, 4} <= set(row.tolist()) for row in ids[0][1])


def test_they_are_drawn_after_the_planes_so_the_default_estimator_keeps_its_bits():
    query, key, value = (x.float() for x in make(30, 30, value_dim=24)[:3])
    torch.manual_seed(5)
    out = yoso_sampling(query, key, value, estimator="rescored", shared_keys=6, hash_family="gaussian", **SIZES)
    torch.manual_seed(5)
    planes = draw_planes("gaussian", groups=4, head_dim=24, **SIZES)
    given = {"planes": planes, "shared_key_ids": draw_shared_keys(6, (2, 2, 30)), "hash_family": "gaussian"}
    assert torch.equal(out, yoso_sampling(query, key, value, estimator="rescored", **given, **SIZES))
    plain = [
        yoso_sampling(query, key, value, planes=planes, hash_family="gaussian", **more, **SIZES)
        for more in ({}, {"estimator": "collisions", "shared_keys": 3})
    ]
    assert torch.equal(*plain)


def test_masked_keys_have_no_effect_and_masked_queries_give_zeros():
    query, key, value = (x.float() for x in make(30, 30, value_dim=24)[:3])
    mask = torch.arange(30) < torch.tensor([[30], [21]])
    given = {"planes": draw_planes("hadamard", groups=4, head_dim=24, **SIZES), "estimator": "rescored", **SIZES}
    given["shared_key_ids"] = draw_shared_keys(25, (2, 2, 30), mask)
    out = yoso_sampling(query, key, value, mask, **given)
    broken = [x.masked_fill(~mask[:, None, :, None], float("nan")) for x in (query, key, value)]
    inputs = leaves(*broken)
    again = gradients(yoso_sampling(*inputs, mask, **given), inputs, torch.ones_like(out))
    assert torch.equal(out, again[0])
    assert not out[1, :, 21:].any()
    for x in again:
        assert torch.isfinite(x).all()
        assert not x[1, :, 21:].any()


def test_a_sequence_without_keys_gives_zeros():
    query, key, value = leaves(*(x.float() for x in make(30, 30, value_dim=24)[:3]))
    mask = torch.tensor([[True], [False]]).expand(2, 30)
    out = yoso_sampling(query, key, value, mask, estimator="rescored", shared_keys=5, **SIZES)
    for x in gradients(out, (query, key, value), torch.ones_like(out)):
        assert torch.isfinite(x).all()
        assert not x[1].any()


def test_all_pairs_gradient_is_that_of_the_expectation():
    query, key, value, *others = make()
    inputs = leaves(query, key, value)
    grad = torch.randn(2, 2, 40, 20, dtype=torch.float64)
    out = OPS.rescored_attention(*inputs, *others, 4, 40, 0.2, True, False)
    expected = OPS.expectation_backward(grad, query, key, value, *others[3:], 4)
    for actual, truth in zip(torch.autograd.grad(out, inputs, grad), expected, strict=True):
        assert torch.equal(actual, truth)


def test_sixteen_bit_sums_are_not_rounded_before_they_are_normalised():
    """The sum of 4096 equal values of 20 overflows float16."""
    row = torch.ones(1, 1, 4096, 16, dtype=torch.float16)
    out = yoso_sampling(row, row, 20 * row, num_hash=2, estimator="rescored")
    torch.testing.assert_close(out, torch.full_like(out, 0.25))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bit_inputs(dtype):
    arguments = make(dtype=dtype)
    rule = 4, 30, 0.2, True
    wide = [x.double() if x.is_floating_point() else x for x in arguments]
    out = OPS.rescored_attention(*arguments, *rule, True)
    assert out.dtype == dtype
    assert_close(out, rescored.rescored_attention(*wide, *rule, True), 1e-2)
    grad = torch.randn(2, 2, 40, 20).to(dtype)
    actual = OPS.rescored_attention_backward(grad, *arguments, *rule)
    for a, e in zip(actual, rescored.rescored_attention_backward(grad.double(), *wide, *rule), strict=True):
        assert a.dtype == dtype
        assert_close(a, e, 1e-2)


def test_the_same_bits_for_any_thread_count():
    generator = torch.Generator().manual_seed(0)
    query, key, value, grad = (torch.randn(1, 3, 500, 64, generator=generator) for _ in range(4))
    codes = [torch.randint(0, 200, (1, 3, 16, 500), generator=generator).to(torch.uint16) for _ in range(2)]
    ids = draw_shared_keys(16, (1, 3, 500), generator=generator)
    tensors, before = (query, key, value, *codes, ids, None, None, 8, 35, 0.2, True), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append([OPS.rescored_attention(*tensors, True), *OPS.rescored_attention_backward(grad, *tensors)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


BAD = [
    ({"estimator": "resampled"}, r"estimator must be one of \('collisions', 'rescored'\), got 'resampled'"),
    ({"shared_keys": 11}, r"shared_keys must be at most the number of keys, 10.*got 11. Pass shared_keys=10"),
    ({"shared_keys": -1}, r"shared_keys must be at least 0, got -1"),
    ({"rescore_floor": 1.5}, r"rescore_floor must be a number from 0 to 1, got 1.5"),
    ({"rescore_floor": float("nan")}, r"rescore_floor must be a number from 0 to 1, got nan"),
    ({"rescore_floor": "0.2"}, r"rescore_floor must be a number from 0 to 1, got '0.2'"),
    ({"shared_key_ids": torch.zeros(2, 3, 4)}, r"shared_key_ids must be int64 \[2, 3, at most 10\].*got torch.float32"),
    ({"shared_key_ids": torch.zeros(2, 4, 4).long()}, r"shared_key_ids must be int64 \[2, 3, at most 10\]"),
    ({"shared_key_ids": torch.zeros(2, 3, 4, device="meta").long()}, r"shared_key_ids must be on cpu.*got meta"),
    ({"shared_key_ids": torch.full((2, 3, 4), 10)}, r"shared_key_ids must be 0 to 9.*got 10 to 10"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_are_named(arguments, message):
    query, key, value = (torch.randn(2, 3, 10, 8) for _ in range(3))
    with pytest.raises(ValueError, match=message):
        yoso_sampling(query, key, value, **({"estimator": "rescored", "shared_keys": 5} | arguments))


def test_a_row_that_is_not_finite_affects_no_other_output():
    """A shared key would otherwise carry NaN to every query. Where no bucket is crowded, such a row has no weight."""
    query, key, value = (x.float() for x in make(30, 30, value_dim=24)[:3])
    given = {"planes": draw_planes("hadamard", groups=4, head_dim=24, num_hash=6, hash_code_len=12)}
    given |= {"estimator": "rescored", "num_hash": 6, "hash_code_len": 12}
    given["shared_key_ids"] = torch.arange(30).expand(2, 2, -1)
    mask = torch.ones(2, 30, dtype=torch.bool)
    query[:, :, 3], key[:, :, 4] = float("nan"), float("inf")
    out = yoso_sampling(query, key, value, **given)
    assert torch.isfinite(out).all()
    assert not out[:, :, 3].any()
    mask[:, 4] = False
    others = torch.arange(30) != 4
    without = yoso_sampling(query, key, value, mask, **given | {"rescore_rest": False})
    torch.testing.assert_close(
        yoso_sampling(query, key, value, **given | {"rescore_rest": False})[:, :, others], without[:, :, others]
    )
