"""The attentions over the ranges of their dtypes: long and short rows, large sums, means, padding, all rows equal.

Every case is compared with the float64 oracle of the input without its padding.
"""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoso.attention import dense_yoso_e, yoso_e, yoso_sampling
from yoso.build import jit
from yoso.ops import portable, reference
from yoso.ops.hashing import HASH_FAMILIES, draw_planes

TAU, HASHES, DIM = 5, 12, 16
# Of the output; gradients accumulate several roundings, and each of theirs is relative to the largest entry.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
GRADIENT_FACTOR = 8
ATTENTIONS = ("yoso_e", "yoso_sampling", "yoso_sampling over all pairs", "eager")
NORMALIZATIONS = (("l2", 0.1), ("sum", 0.0), ("sum", 0.1))
"""Those other than the default, with their floor."""


@pytest.fixture(autouse=True, scope="module")
def _native_kernels_are_tested():
    assert jit.load("cpu"), "the native kernels could not be built; these tests need them"


@pytest.fixture
def portable_kernels(monkeypatch):
    """The operators in plain torch, called as the attentions call the operators."""

    class Lifted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, forward, backward, *tensors):
            ctx.save_for_backward(*tensors)
            ctx.backward_of = backward
            return forward(*tensors)

        @staticmethod
        def backward(ctx, grad):
            return None, None, *ctx.backward_of(grad, *ctx.saved_tensors)

    def expectation(query, key, value, query_mask, key_mask, *, hash_code_len, exact_gradient, unrounded):
        rest = query_mask, key_mask, hash_code_len, exact_gradient
        return Lifted.apply(
            lambda *qkv: portable.expectation(*qkv, *rest, unrounded),
            lambda grad, *qkv: portable.expectation_backward(grad, *qkv, *rest),
            query,
            key,
            value,
        )

    def lsh_attention(query, key, value, *codes_and_masks, hash_code_len, lsh_backward, unrounded):
        codes, masks = codes_and_masks[:2], codes_and_masks[2:]

        def backward(grad, *qkv):
            if not lsh_backward:
                return portable.expectation_backward(grad, *qkv, *masks, hash_code_len)
            return portable.lsh_attention_backward(grad, *qkv, *codes, *masks, hash_code_len)

        return Lifted.apply(
            lambda _query, _key, value: portable.lsh_cumulation(*codes, value, *masks, hash_code_len, unrounded),
            backward,
            query,
            key,
            value,
        )

    def unit_rows(x, dtype):
        return Lifted.apply(
            lambda x: portable.unit_rows(x, dtype), lambda grad, x: (portable.unit_rows_backward(grad, x),), x
        )

    def floored_unit_rows(x, floor, dtype):
        return Lifted.apply(
            lambda x, floor: portable.floored_unit_rows(x, floor, dtype), portable.floored_unit_rows_backward, x, floor
        )

    def fast_hash(x, planes, *, num_hash, hash_code_len, hash_family):
        return portable.fast_hash(x, planes, num_hash, hash_code_len, hash_family)

    replaced = {"expectation": expectation, "lsh_attention": lsh_attention, "fast_hash": fast_hash}
    replaced |= {"unit_rows_overwriting": unit_rows, "floored_unit_rows": floored_unit_rows}
    for name, function in replaced.items():
        monkeypatch.setattr(f"yoso.attention.operators.{name}", function)


def planes(hash_family="hadamard"):
    generator = torch.Generator().manual_seed(3)
    sizes = {"num_hash": HASHES, "hash_code_len": TAU}
    return draw_planes(hash_family, groups=1, head_dim=DIM, generator=generator, **sizes)


def attend(name, query, key, value, mask=None, normalization="l2", norm_floor=0.0):
    options = {"normalization": normalization, "norm_floor": norm_floor}
    if name == "yoso_e":
        return yoso_e(query, key, value, mask, hash_code_len=TAU, **options)
    if name == "eager":
        return dense_yoso_e(query, key, value, mask, hash_code_len=TAU, **options)[0]
    sizes = {"num_hash": HASHES, "hash_code_len": TAU, "lsh_backward": name == "yoso_sampling"}
    return yoso_sampling(query, key, value, mask, planes=planes(), **sizes, **options)


def oracle(name, query, key, value, normalization="l2", norm_floor=0.0):
    """The attention by its definition, without padding, in float64."""
    options = {"normalization": normalization, "norm_floor": norm_floor}
    if name == "yoso_e":
        return reference.yoso_e(query, key, value, hash_code_len=TAU, **options)
    sizes = {"num_hash": HASHES, "hash_code_len": TAU, "hash_family": "hadamard"}
    codes = [reference.fast_hash(x.detach(), planes(), **sizes) for x in (query, key)]
    if name == "yoso_sampling":
        return reference.yoso_sampling(query, key, value, *codes, hash_code_len=TAU, **options)
    cosine = reference.unit(query) @ reference.unit(key).transpose(-1, -2)
    if name == "eager":  # the true derivative; the clamp of the cosines is far from the angles of random rows
        weights = reference.collision_probability(cosine, TAU)
    else:
        probability = reference.collision_probability(cosine.detach(), TAU)
        weights = reference.with_surrogate_gradient(probability, cosine, TAU)
    sums, mass = weights @ value, weights.sum(-1, keepdim=True)
    if name == "yoso_sampling over all pairs":
        sampled = reference.collision_fraction(*codes, value.dtype)
        # The gradient of the probability over all pairs, at the sampled sums.
        sums = sums + (sampled @ value - sums).detach()
        mass = mass + (sampled.sum(-1, keepdim=True) - mass).detach()
    return by_definition(sums, mass, value, normalization, norm_floor)


def by_definition(sums, mass, value, normalization, norm_floor):
    """Rows normalised as ``yoso.ops.normalization`` defines it, in float64."""
    if normalization == "sum":
        return torch.where(mass > 0, sums / torch.where(mass > 0, mass + norm_floor, 1.0), 0.0)
    floor = norm_floor * value.square().sum(-1).mean(-1)[..., None, None].sqrt()
    return reference.unit(sums) if norm_floor == 0 else sums / (sums.square().sum(-1, keepdim=True) + floor**2).sqrt()


def draw(dtype, scales=(1, 1, 1), mean=0.0, length=20):
    """Query, key and value of these scales; the values have a mean of ``mean`` times their deviation."""
    generator = torch.Generator().manual_seed(length)
    query, key, value = (torch.randn(1, 2, length, DIM, generator=generator) for _ in range(3))
    rows = zip((query, key, value + mean), scales, strict=True)
    return [(x.double() * scale).to(dtype) for x, scale in rows]


def padded(x, padding, left):
    """x with as many padded tokens of NaN at one end."""
    tokens = torch.full((*x.shape[:2], padding, x.shape[3]), torch.nan, dtype=x.dtype)
    return torch.cat([tokens, x] if left else [x, tokens], 2)


def check(name, qkv, *, padding=0, left=False, tolerance=None, normalization="l2", norm_floor=0.0):
    dtype, length = qkv[0].dtype, qkv[0].shape[2]
    real = slice(padding, padding + length) if left else slice(0, length)
    inputs = [padded(x, padding, left).requires_grad_() for x in qkv]
    mask = None
    if padding:
        mask = torch.zeros(1, length + padding, dtype=torch.bool)
        mask[:, real] = True
    out = attend(name, *inputs, mask, normalization, norm_floor)
    assert out.dtype == dtype
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    gradients = torch.autograd.grad(out, inputs, weight)

    wide = [x.double().requires_grad_() for x in qkv]
    truth = oracle(name, *wide, normalization, norm_floor)
    expected = torch.autograd.grad(truth, wide, weight[:, :, real].double())
    tolerance = tolerance or TOLERANCE[dtype]
    # Means of values are as large as the values, and l2-normalised sums are at most 1.
    size = qkv[2].double().abs().max().item() if normalization == "sum" else 1.0
    assert (out[:, :, real].double() - truth).abs().max() <= tolerance * size
    for x, actual, right in zip(wide, gradients, expected, strict=True):
        assert torch.isfinite(actual[:, :, real]).all()
        # Compared after multiplication by the row's length, which the gradient is divided by. The terms of its sums are
        # then about 1, and where they cancel, their rounding errors remain.
        factor = x.detach().norm(dim=-1, keepdim=True)
        error = (actual[:, :, real].double() - right) * factor
        scale = max((right * factor).abs().max().item(), size)
        # Gradients below a 16-bit dtype's range are rounded to multiples of its smallest number.
        least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps * factor
        assert (error.abs() <= GRADIENT_FACTOR * tolerance * scale + least).all()


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
ALL = pytest.mark.parametrize("name", ATTENTIONS)


@ALL
@DTYPES
@pytest.mark.parametrize("kernels", ["native", "portable"])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_any_scale_and_mean_equals_the_oracle(request, name, dtype, kernels, scale):
    if kernels == "portable":
        request.getfixturevalue("portable_kernels")
    for scales in ((scale, scale, 1.0), (1.0, 1.0, scale)):
        check(name, draw(dtype, scales, mean=1.0))


@ALL
@DTYPES
@pytest.mark.parametrize("kernels", ["native", "portable"])
@pytest.mark.parametrize(("normalization", "norm_floor"), NORMALIZATIONS)
def test_every_normalization_equals_the_oracle_at_any_scale_and_with_padding(
    request, name, dtype, kernels, normalization, norm_floor
):
    if kernels == "portable":
        request.getfixturevalue("portable_kernels")
    options = {"normalization": normalization, "norm_floor": norm_floor}
    for scale in (1e-4, 1.0, 1e3):
        check(name, draw(dtype, (1.0, 1.0, scale), mean=0.5), padding=7, left=scale == 1.0, **options)


@ALL
@DTYPES
@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
def test_padding_of_nan_at_either_end_equals_the_unpadded_input(name, dtype, left):
    check(name, draw(dtype, mean=0.5), padding=7, left=left)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_combination_of_scales_dtypes_and_padding_equals_the_oracle(data):
    normalization, norm_floor = data.draw(st.sampled_from((("l2", 0.0), *NORMALIZATIONS)))
    # The gradients of short queries and keys grow with the length of the mean, and float16 ends at 65504.
    longest = 0 if normalization == "sum" else 4
    exponents = [data.draw(st.floats(-4, top)) for top in (4, 4, longest)]
    dtype = data.draw(st.sampled_from(list(TOLERANCE)))
    qkv = draw(dtype, [10.0**e for e in exponents], data.draw(st.floats(-1, 1)), data.draw(st.integers(2, 40)))
    check(
        data.draw(st.sampled_from(ATTENTIONS)),
        qkv,
        padding=data.draw(st.integers(0, 9)),
        left=data.draw(st.booleans()),
        normalization=normalization,
        norm_floor=norm_floor,
    )


@ALL
@pytest.mark.parametrize("kernels", ["native", "portable"])
@pytest.mark.parametrize("scale", [1e-38, 1e-37, 1e-23, 1e20, 3e38 / DIM])
def test_very_long_and_short_rows_of_query_and_key_are_rows_of_length_1(request, name, kernels, scale):
    if kernels == "portable":
        request.getfixturevalue("portable_kernels")
    qkv = draw(torch.float64)
    query, key = ((reference.unit(x) * scale).float() for x in qkv[:2])
    # The gradient of a row of 1e-38 is near float32's largest number.
    check(name, (query, key, qkv[2].float()), tolerance=1e-4)


@ALL
@pytest.mark.parametrize("kernels", ["native", "portable"])
@pytest.mark.parametrize("scale", [1e-30, 1e-23, 1e20, 1e36])
def test_very_long_and_short_sums_are_scaled_to_length_1(request, name, kernels, scale):
    if kernels == "portable":
        request.getfixturevalue("portable_kernels")
    check(name, draw(torch.float32, (1, 1, scale)))
    check(name, draw(torch.float32, (1, 1, scale)), norm_floor=0.5)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("name", ["yoso_e", "yoso_sampling"])
def test_float64_rows_beyond_the_range_of_float32(name, scale):
    query, key, value = draw(torch.float64)
    expected = attend(name, query, key, value)
    torch.testing.assert_close(attend(name, query * scale, key * scale, value), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
@pytest.mark.parametrize("hashing", [torch.ops.yoso.fast_hash, portable.fast_hash], ids=["native", "portable"])
def test_codes_do_not_depend_on_the_length_of_a_row(hash_family, hashing):
    x = draw(torch.float32, length=40)[0]
    args = planes(hash_family), HASHES, TAU, hash_family
    for power in (-120, -90, 90, 123):
        assert torch.equal(hashing(x * 2.0**power, *args).int(), hashing(x, *args).int())


@DTYPES
@ALL
def test_a_large_sum_of_equal_rows_is_normalised_before_it_is_rounded(name, dtype):
    """The sum of 4,096 values of 20 exceeds float16, whose largest number is 65,504."""
    row = torch.randn(64, generator=torch.Generator().manual_seed(0))
    length = 1024 if name == "eager" else 4096
    query = row.expand(1, 1, length, 64).to(dtype).clone().requires_grad_()
    value = torch.full((1, 1, length, 64), 20.0 * 4096 / length, dtype=dtype, requires_grad=True)
    functions = {"yoso_e": yoso_e, "eager": lambda *qkv: dense_yoso_e(*qkv)[0]}
    out = functions.get(name, partial(yoso_sampling, num_hash=4))(query, query, value)
    torch.testing.assert_close(out, torch.full_like(out, 0.125), rtol=torch.finfo(dtype).eps, atol=0)
    for gradient in torch.autograd.grad(out.float().square().sum(), (query, value)):
        assert torch.isfinite(gradient).all()
    with torch.no_grad():
        assert torch.isfinite(functions.get(name, partial(yoso_sampling, num_hash=4))(query, query, value)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["yoso_e", "yoso_sampling"])
def test_a_16_bit_output_is_the_float32_output_rounded_once(name, dtype):
    qkv = draw(dtype, mean=1.0, length=64)
    for options in ((None, "l2", 0.0), *((None, *options) for options in NORMALIZATIONS)):
        assert torch.equal(attend(name, *qkv, *options), attend(name, *(x.float() for x in qkv), *options).to(dtype))


@ALL
@DTYPES
def test_a_fully_padded_sequence_gives_zeros_and_zero_rows_have_zero_gradients(name, dtype):
    query, key, value = (x.repeat(2, 1, 1, 1) for x in draw(dtype))
    query[0, 0, 3] = key[0, 1, 5] = 0
    mask = torch.ones(2, query.shape[2], dtype=torch.bool)
    mask[1] = False
    inputs = [x.requires_grad_() for x in (query, key, value)]
    for options in (("l2", 0.0), *NORMALIZATIONS):
        out = attend(name, *inputs, mask, *options)
        gradients = torch.autograd.grad(out.float().sum(), inputs)
        assert (out[1] == 0).all()
        for x in (out, *gradients):
            assert torch.isfinite(x).all()
        assert all((x[1] == 0).all() for x in gradients)
        assert (gradients[0][0, 0, 3] == 0).all()
        assert (gradients[1][0, 1, 5] == 0).all()
