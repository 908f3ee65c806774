"""The CUDA kernels of unit_rows, floored_unit_rows and their gradients, run on the host shim, against float64."""

import itertools

import pytest
import torch

from yoso.ops import portable

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
LENGTHS = [1, 7, 33, 1000]
DIMS = [1, 3, 8, 32, 48, 64, 65, 128, 200, 256, 1024]


def rows(length, dim, dtype=torch.float32):
    return torch.randn(2, 3, length, dim, generator=torch.Generator().manual_seed(length + dim)).to(dtype)


def assert_close(shim, x, grad):
    tolerance = TOLERANCE[x.dtype]
    out, gradient = shim.unit_rows(x), shim.unit_rows_backward(grad, x)
    assert out.dtype == gradient.dtype == x.dtype
    assert out.is_contiguous()
    torch.testing.assert_close(out.double(), portable.unit_rows(x.double()), atol=tolerance, rtol=0)
    expected = portable.unit_rows_backward(grad.double(), x.double())
    scale = expected.abs().max().item() + (grad.double().abs().max() / x.double().norm(dim=-1).clamp(1e-2).min()).item()
    torch.testing.assert_close(gradient.double(), expected, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize(("length", "dim"), [*itertools.product(LENGTHS[:3], DIMS), (1000, 48), (1000, 64)])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_any_shape(shim, length, dim, dtype):
    assert_close(shim, rows(length, dim, dtype), rows(length, dim, dtype).flip(-1))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_any_layout(shim, dtype):
    x = rows(33, 64, dtype)
    grad = rows(33, 64, dtype).flip(2)
    heads_inside = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert_close(shim, heads_inside, grad)
    wider = torch.cat([x, grad, x], -1)
    assert_close(shim, wider[..., 64:128], grad)
    assert_close(shim, wider[..., 3:67], wider[..., 5:69])  # rows that are not aligned to 16 bytes
    assert_close(shim, x.transpose(2, 3), grad.transpose(2, 3).contiguous())  # the last dimension is not contiguous
    assert_close(shim, x, grad[:1, :1, :1].expand_as(x))
    assert_close(shim, x[:, :, ::2], grad[:, :, 1::2].flip(2)[:, :, :17].repeat(1, 1, 2, 1)[:, :, :17])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_zero_rows_stay_zero_and_have_gradient_zero(shim, dtype):
    x = rows(33, 48, dtype)
    x[1, 2, 5] = 0
    out, gradient = shim.unit_rows(x), shim.unit_rows_backward(torch.ones_like(x), x)
    assert torch.isfinite(out).all()
    assert torch.isfinite(gradient).all()
    assert (out[1, 2, 5] == 0).all()
    assert (gradient[1, 2, 5] == 0).all()


def test_the_norm_of_a_float16_row_may_exceed_float16(shim):
    x = torch.full((1, 1, 2, 64), 60000.0, dtype=torch.float16)
    x[0, 0, 1] = 6e-8
    torch.testing.assert_close(shim.unit_rows(x), torch.full_like(x, 0.125))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dim", [64, 33], ids=str)
def test_float32_rows_become_unit_rows_of_16_bits(shim, dtype, dim):
    x = rows(33, dim) * 1e6
    out, grad = shim.unit_rows(x, dtype), rows(33, dim, dtype).flip(-1)
    assert torch.equal(out, shim.unit_rows(x).to(dtype))
    gradient = shim.unit_rows_backward(grad, x)
    assert gradient.dtype == torch.float32
    assert torch.equal(gradient, shim.unit_rows_backward(grad.float(), x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1e-34, 1e-23, 1e20, 1e37])
def test_rows_of_any_length(shim, scale, dtype):
    x, grad = rows(33, 48).to(dtype), rows(33, 48, dtype).flip(-1)
    scaled = x * torch.where(torch.arange(33) % 3 == 0, 1.0, scale)[:, None].to(dtype)
    tolerance = 3 * TOLERANCE[dtype]
    torch.testing.assert_close(shim.unit_rows(scaled), shim.unit_rows(x), atol=tolerance, rtol=0)
    gradient = shim.unit_rows_backward(grad, scaled).double() * (scaled / x).double()
    torch.testing.assert_close(gradient, shim.unit_rows_backward(grad, x).double(), atol=tolerance, rtol=tolerance)


FLOOR = torch.tensor([[0.0, 0.5, 30.0], [2.0, 1e-3, 1.0]])


def assert_floored(shim, x, grad, floor=FLOOR):
    tolerance = TOLERANCE[x.dtype]
    out, (gradient, of_floor) = shim.floored_unit_rows(x, floor), shim.floored_unit_rows_backward(grad, x, floor)
    assert (out.dtype, gradient.dtype, of_floor.dtype) == (x.dtype, x.dtype, torch.float32)
    wide = x.double(), floor.double()
    torch.testing.assert_close(out.double(), portable.floored_unit_rows(*wide), atol=tolerance, rtol=0)
    expected = portable.floored_unit_rows_backward(grad.double(), *wide)
    lengths = (x.double().square().sum(-1) + floor.double()[..., None].square()).sqrt()
    # A gradient is divided by the length of its row; that of the floor sums over the rows.
    size = grad.double().norm(dim=-1) / lengths.clamp(min=1e-300)
    error = (gradient.double() - expected[0]).abs()
    assert (error <= 4 * tolerance * size[..., None] + torch.finfo(x.dtype).smallest_normal).all()
    assert ((of_floor.double() - expected[1]).abs() <= 4e-6 * size.sum(-1)).all()


@pytest.mark.parametrize(("length", "dim"), [*itertools.product([1, 33], [1, 3, 8, 64, 65, 200, 1024]), (1000, 48)])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_rows_with_a_floor(shim, length, dim, dtype):
    assert_floored(shim, rows(length, dim, dtype), rows(length, dim, dtype).flip(-1))


@pytest.mark.parametrize("scale", [1e-34, 1e-23, 1e20, 1e36])
def test_a_floor_of_rows_of_any_length(shim, scale):
    x, grad = rows(33, 48), rows(33, 48).flip(-1)
    x[:, :, 3] = 0
    scales = torch.where(torch.arange(33) % 3 == 0, 1.0, scale)[:, None]
    for floor in (FLOOR, FLOOR * scale):
        assert_floored(shim, x * scales, grad, floor)


def test_rows_with_a_floor_in_any_layout_and_order(shim):
    x, grad = rows(33, 64), rows(33, 64).flip(2)
    try:
        for order in (0, 1, 3):
            shim.set_order(order)
            assert_floored(shim, x.transpose(1, 2).contiguous().transpose(1, 2), grad.transpose(2, 3).contiguous().mT)
            assert_floored(shim, x, grad[:1, :1, :1].expand_as(x), FLOOR.t().contiguous().t())
    finally:
        shim.set_order(0)


def test_without_a_floor_the_bits_are_those_of_unit_rows(shim):
    x, grad, floor = rows(33, 64), rows(33, 64).flip(2), torch.zeros(2, 3)
    assert torch.equal(shim.floored_unit_rows(x, floor), shim.unit_rows(x))
    gradient, of_floor = shim.floored_unit_rows_backward(grad, x, floor)
    assert torch.equal(gradient, shim.unit_rows_backward(grad, x))
    assert not of_floor.any()


def test_float32_rows_with_a_floor_become_rows_of_16_bits(shim):
    x, grad = rows(33, 64), rows(33, 64, torch.bfloat16).flip(-1)
    out = shim.floored_unit_rows(x, FLOOR, torch.bfloat16)
    assert torch.equal(out, shim.floored_unit_rows(x, FLOOR).bfloat16())
    actual, expected = (shim.floored_unit_rows_backward(g, x, FLOOR) for g in (grad, grad.float()))
    assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


def test_a_row_of_one_entry_becomes_exactly_one(shim):
    x = rows(1000, 1)
    assert torch.equal(shim.unit_rows(x), x.sign())


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)], ids=str)
def test_empty_inputs(shim, shape):
    x = torch.empty(shape)
    assert shim.unit_rows(x).shape == shape
    assert shim.unit_rows_backward(x, x).shape == shape
    floor = torch.ones(shape[:2])
    assert shim.floored_unit_rows(x, floor).shape == shape
    gradient, of_floor = shim.floored_unit_rows_backward(x, x, floor)
    assert gradient.shape == shape
    assert torch.equal(of_floor, torch.zeros(shape[:2]))


def test_invalid_arguments_are_refused(shim):
    x = rows(7, 8)
    with pytest.raises(ValueError, match="float64 runs on the CPU; on CUDA use float32, bfloat16 or float16"):
        shim.unit_rows(x.double())
    with pytest.raises(ValueError, match="must be floating"):
        shim.unit_rows(x[0])
    with pytest.raises(ValueError, match="like x, got"):
        shim.unit_rows_backward(x, x.half())
    with pytest.raises(ValueError, match="only float32 rows become unit rows of another dtype"):
        shim.unit_rows(x.half(), torch.bfloat16)
    with pytest.raises(ValueError, match=r"floor must be Float \[2, 3\], one for each head of x, got"):
        shim.floored_unit_rows(x, torch.ones(3, 2))
    with pytest.raises(ValueError, match="float64 runs on the CPU"):
        shim.floored_unit_rows(x.double(), FLOOR.double())
    with pytest.raises(ValueError, match="like x, got"):
        shim.floored_unit_rows_backward(x.half(), x.bfloat16(), FLOOR)
