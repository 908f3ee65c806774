"""YOSO-E's CUDA kernels, run on the host shim, compared with the definition in float64."""

import pytest
import torch

from yoso.ops import reference

# Relative Frobenius errors. float32: two TF32 numbers have 22 bits. bfloat16 and float16: weights are rounded to 8 and
# 11 bits before the product with the values, and the results are rounded again.
TOLERANCES = {torch.float32: 5e-6, torch.bfloat16: 4e-3, torch.float16: 6e-4}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: str(dtype).split(".")[1])

# n_q, n_k, d, d_v, tau: lengths around the rows of a warp, a step, a tile and a CTA; all padded head dims; rows that
# are not multiples of 16 bytes; all code paths of the power.
SIZES = [
    (1, 1, 64, 64, 9),
    (7, 33, 32, 32, 8),
    (33, 7, 48, 64, 9),
    (200, 65, 64, 64, 9),
    (65, 200, 32, 20, 12),
    (17, 40, 100, 100, 2),
    (66, 35, 128, 128, 16),
    (18, 50, 64, 128, 1),
    (34, 17, 256, 256, 9),
    (5, 19, 3, 5, 7),
    (9, 9, 1, 1, 5),
    (16, 16, 130, 201, 3),
]


def unit(x, dtype):
    return torch.nn.functional.normalize(x, dim=-1).to(dtype)


def draw(n_q, n_k, d, d_v, dtype, batch=1, heads=2):
    torch.manual_seed(n_q * 1000 + n_k)
    query, key = unit(torch.randn(batch, heads, n_q, d), dtype), unit(torch.randn(batch, heads, n_k, d), dtype)
    return query, key, torch.randn(batch, heads, n_k, d_v).to(dtype), torch.randn(batch, heads, n_q, d_v).to(dtype)


def define(query, key, value, grad, query_mask, key_mask, tau, exact, scale=reference.unit):
    """Output and gradients by the definition. The exact derivative is limited to its value at the angle 1e-3.

    Unit rows are rounded to the inputs' dtype, as in the operator.
    """

    def unit(x):
        rows = scale(x)
        return rows + (rows.to(query.dtype).double() - rows).detach()

    q, k, v = (x.double().requires_grad_() for x in (query, key, value))
    cosine = unit(q) @ unit(k).transpose(-1, -2)
    weights = reference.collision_probability(cosine.detach(), tau)
    if exact:
        sine = ((1 - cosine) * (1 + cosine)).detach().clamp(min=1e-6).sqrt()
        slope = tau * reference.collision_probability(cosine.detach(), tau - 1) / (torch.pi * sine)
        weights = weights + slope * (cosine - cosine.detach())
    else:
        weights = reference.with_surrogate_gradient(weights, cosine, tau)
    out = reference.masked(weights, query_mask, key_mask) @ v
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), grad.double())]


def norms_before_cancellation(*args):
    """The norms that errors are relative to.

    The gradient's component along its row is large and is subtracted, but its rounding error remains. These are the
    norms before the subtraction.
    """
    return [x.norm() for x in define(*args, scale=lambda x: x / x.norm(dim=-1, keepdim=True).detach())]


def run(shim, query, key, value, grad, query_mask, key_mask, tau, exact):
    args = (query, key, value, query_mask, key_mask, tau, exact)
    return [shim.expectation(*args), *shim.expectation_backward(grad, *args)]


def check(results, expected, dtype, tolerance=None, norms=None):
    for result, right, norm in zip(results, expected, norms or [x.norm() for x in expected], strict=True):
        assert result.dtype == dtype
        assert result.shape == right.shape
        assert result.is_contiguous()
        assert (result.double() - right).norm() <= (tolerance or TOLERANCES[dtype]) * norm


@DTYPES
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_output_and_gradients_equal_the_definition(shim, sizes, dtype):
    tau = sizes[4]
    tensors = draw(*sizes[:4], dtype)
    for exact in (False, True):
        arguments = (*tensors, None, None, tau, exact)
        check(run(shim, *arguments), define(*arguments), dtype, norms=norms_before_cancellation(*arguments))


def test_a_long_sequence(shim):
    tensors = draw(1000, 1000, 64, 64, torch.bfloat16, heads=1)
    check(run(shim, *tensors, None, None, 10, False), define(*tensors, None, None, 10, False), torch.bfloat16)


@DTYPES
def test_masked_rows_contribute_nothing_and_get_zeros(shim, dtype):
    tensors = draw(70, 45, 36, 32, dtype, batch=3)
    masks = torch.rand(3, 70) < 0.6, torch.rand(3, 45) < 0.5
    masks[0][1], masks[1][2] = False, False  # one sequence without queries, one without keys
    expected = define(*tensors, *masks, 9, False)
    query, key, value, grad = tensors
    for rows, mask in ((query, masks[0]), (grad, masks[0]), (key, masks[1]), (value, masks[1])):
        rows.masked_fill_(~mask[:, None, :, None], torch.nan)
    results = run(shim, *tensors, *masks, 9, False)
    check(results, expected, dtype)
    for result, mask in zip(results, (masks[0], masks[0], masks[1], masks[1]), strict=True):
        assert (result.masked_select(~mask[:, None, :, None]) == 0).all()


@DTYPES
def test_equal_and_opposite_rows(shim, dtype):
    """Cosines of 1 and -1, and by rounding slightly beyond: parallel rows of different lengths."""
    query, _, value, grad = draw(40, 40, 64, 64, dtype)
    query = (query * torch.linspace(0.5, 3, 40)[:, None]).to(dtype)
    key = query.clone()
    key[:, :, ::3] *= -1
    for exact in (False, True):
        arguments = (query, key, value, grad, None, None, 8, exact)
        # The angle of equal rows is the square root of the cosine's rounding error, and the pole is sensitive to it.
        tolerance = max(TOLERANCES[dtype], 5e-3 if exact else 1e-3)
        check(run(shim, *arguments), define(*arguments), dtype, tolerance, norms_before_cancellation(*arguments))
    axis = torch.zeros(1, 1, 1, 64, dtype=dtype)
    axis[..., 0] = 1
    for tau in range(1, 17):
        assert (shim.expectation(axis, axis * 1.5, axis, None, None, tau, False)[..., 0] - 1).abs() <= 2**-11
        assert shim.expectation(axis, axis * -1.5, axis, None, None, tau, False)[..., 0].abs() <= 1e-6


@DTYPES
@pytest.mark.parametrize("tau", range(1, 17))
def test_the_collision_probability(shim, dtype, tau):
    """With unit vectors as values, the output is the weights themselves, over all angles."""
    angle = torch.linspace(0, torch.pi, 64)
    query = torch.tensor([1.0, 0, 0, 0]).expand(1, 1, 64, 4).to(dtype)
    key = torch.stack([angle.cos(), angle.sin(), 0 * angle, 0 * angle], -1).expand(1, 1, 64, 4).to(dtype)
    value = torch.eye(64, dtype=dtype)[None, None]
    cosine = shim.unit_rows(key)[..., 0].double()  # rounded as in the operator
    right = reference.collision_probability(cosine, tau)
    weights = shim.expectation(query, key, value, None, None, tau, False)[:, :, 0].double()
    relative = {torch.float32: 2e-6, torch.bfloat16: 5e-3, torch.float16: 1e-3}[dtype]
    # float32: the effect of a cosine's rounding error of 3e-7 on the angle
    steepness = tau / torch.pi / (1 - cosine**2).clamp(min=1e-6).sqrt()
    absolute = {torch.float32: 3e-7 * steepness, torch.bfloat16: 4e-6, torch.float16: 4e-6}[dtype]
    assert ((weights - right).abs() <= relative * right + absolute).all()


@DTYPES
@pytest.mark.parametrize(("dim", "value_dim"), [(64, 64), (32, 5)])
def test_unrounded_sums_are_float32(shim, dtype, dim, value_dim):
    query, key, value, _ = draw(40, 70, dim, value_dim, dtype)
    args = None, None, 9, False
    sums = shim.expectation(query, key, value, *args, True)
    assert sums.dtype == torch.float32
    assert torch.equal(sums.to(dtype), shim.expectation(query, key, value, *args))
    large = shim.expectation(query[:, :, :1], query[:, :, :1].expand_as(key), torch.full_like(value, 4e4), *args, True)
    torch.testing.assert_close(large, torch.full_like(large, 70 * 4e4), rtol=0.25, atol=0)


def test_a_gradient_of_float32_is_rounded_to_the_dtype_of_the_values(shim):
    query, key, value, grad = draw(20, 30, 32, 32, torch.bfloat16)
    rounded = shim.expectation_backward(grad, query, key, value, None, None, 9, False)
    for a, b in zip(rounded, shim.expectation_backward(grad.float(), query, key, value, None, None, 9), strict=True):
        assert torch.equal(a, b)


def test_a_nan_affects_only_its_row_and_its_head(shim):
    query, key, value, grad = draw(40, 40, 64, 64, torch.bfloat16)
    query[0, 0, 3] = torch.nan
    out, grad_query, grad_key, _ = run(shim, query, key, value, grad, None, None, 9, False)
    bad = torch.zeros(1, 2, 40, dtype=torch.bool)
    bad[0, 0, 3] = True
    assert torch.equal(out.isnan().all(-1), bad)
    assert torch.equal(out.isnan().any(-1), bad)
    assert torch.equal(grad_query.isnan().all(-1), bad)
    assert torch.equal(grad_query.isnan().any(-1), bad)
    assert grad_key[:, 0].isnan().all()
    assert not grad_key[:, 1].isnan().any()
    query[0, 0, 3] = torch.inf
    assert shim.expectation(query, key, value, None, None, 9, False)[0, 1].isfinite().all()
    query, key, value, grad = draw(40, 40, 64, 64, torch.bfloat16)
    key[0, 1, 39] = torch.nan
    out = shim.expectation(query, key, value, None, None, 9, False)
    assert out[:, 1].isnan().all()
    assert not out[:, 0].isnan().any()


@DTYPES
def test_any_strides_and_alignment(shim, dtype):
    """Sequence before heads; rows that are not aligned to 16 bytes; a last dimension that is not contiguous."""
    tensors = draw(37, 50, 64, 64, dtype, batch=2)
    expected = run(shim, *tensors, None, None, 9, False)
    transposed = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors]
    shifted = [torch.nn.functional.pad(x, (1, 2))[..., 1:-2] for x in tensors]
    spread = [x.repeat_interleave(2, -1)[..., ::2] for x in tensors]
    for variant in (transposed, shifted, spread):
        assert not any(x.is_contiguous() for x in variant)
        for result, right in zip(run(shim, *variant, None, None, 9, False), expected, strict=True):
            # The order in which a row's squares are summed depends on the row's alignment.
            assert (result.double() - right.double()).norm() <= TOLERANCES[dtype] * right.double().norm()


@DTYPES
def test_the_same_inputs_give_the_same_bits(shim, dtype):
    tensors = draw(50, 70, 64, 64, dtype)
    first = run(shim, *tensors, None, None, 9, True)
    assert all(torch.equal(a, b) for a, b in zip(first, run(shim, *tensors, None, None, 9, True), strict=True))


def test_empty_inputs(shim):
    query, key, value, grad = draw(4, 6, 8, 8, torch.float32)
    results = run(shim, query, key[:, :, :0], value[:, :, :0], grad, None, None, 9, False)
    assert (results[0] == 0).all()
    assert (results[1] == 0).all()
    assert results[2].numel() == results[3].numel() == 0
    results = run(shim, query[:, :, :0], key, value, grad[:, :, :0], None, None, 9, False)
    assert results[0].numel() == 0
    assert (results[2] == 0).all()
    assert (results[3] == 0).all()
    assert shim.expectation(query[:0], key[:0], value[:0], None, None, 9, False).shape == (0, 2, 4, 8)


@DTYPES
@pytest.mark.parametrize("dim", [32, 64, 128, 256])
def test_99_kib_of_shared_memory_is_enough(shim, dtype, dim):
    shim.set_device(shared_bytes=99 << 10)
    tensors = draw(5, 5, dim, dim, dtype, heads=1)
    check(run(shim, *tensors, None, None, 9, False), define(*tensors, None, None, 9, False), dtype)


def test_invalid_arguments_are_refused(shim):
    query, key, value, grad = draw(4, 6, 8, 8, torch.float32)
    with pytest.raises(ValueError, match="float64 runs on the CPU"):
        shim.expectation(query.double(), key.double(), value.double(), None, None, 9, False)
    with pytest.raises(ValueError, match="head_dim must be 1 to 256"):
        shim.expectation(*draw(4, 4, 257, 8, torch.float32)[:3], None, None, 9, False)
    with pytest.raises(ValueError, match="grad must be"):
        shim.expectation_backward(grad.half(), query, key, value, None, None, 9, False)
    shim.set_device(shared_bytes=8 << 10)
    with pytest.raises(RuntimeError, match="expectation: the launch failed"):
        shim.expectation(query, key, value, None, None, 9, False)
