"""Every operator compared with its definition in float64, on irregular shapes and masks, in every dtype."""

from dataclasses import replace

import pytest
import torch
from yoso_cases import (
    BACKWARD,
    DTYPES,
    FORWARD,
    MASKS,
    OPERATORS,
    SHAPES,
    Shape,
    assert_near,
    make,
    on,
    planes_of,
    run,
    truth,
)

from yoso.ops import reference
from yoso.ops.hashing import HASH_FAMILIES

FULL = Shape(2, 2, 1, 1, 64, 64, 4, 4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_equals_its_definition(device, name, dtype, shape):
    case = make(shape, dtype)
    allowed = (BACKWARD if "backward" in name else FORWARD)[dtype]
    for actual, expected in zip(run(name, case, device), truth(name, case), strict=True):
        assert actual.dtype == (dtype if actual.dim() == 4 else torch.float32)  # of the floors
        # A gradient that is zero by definition (one key, or along a unit row) is the rounding error of its terms.
        assert_near(actual, expected, allowed, scale=1e-2 * case.grad.double().norm().item())


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", OPERATORS[4:])
def test_masks(device, name, mask):
    case = make(Shape(2, 3, 50, 70, 24, 40, 13, 7), mask=mask)
    for actual, expected in zip(run(name, case, device), truth(name, case), strict=True):
        assert_near(actual, expected, BACKWARD[torch.float32])
        if mask == "a whole sequence":
            assert actual[-1].count_nonzero() == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", HASH_FAMILIES)
def test_codes_are_the_signs_of_the_projections(device, family, dtype, shape):
    if family == "hadamard_authors" and shape.tau > shape.dim:
        pytest.skip("hadamard_authors needs tau <= head_dim")
    x, planes = make(shape, dtype).value[..., : shape.dim], planes_of(shape, family)
    x = x if x.shape[3] == shape.dim else make(shape, dtype).key
    args = {"num_hash": shape.num_hash, "hash_code_len": shape.tau, "hash_family": family}
    codes = torch.ops.yoso.fast_hash(*on(device, (x, planes)), *args.values()).cpu()
    assert codes.dtype == torch.uint16
    settled = reference.settle_codes(codes, x.float(), planes, **args)
    assert torch.equal(codes.long(), settled)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [5, 64, 256])
@pytest.mark.parametrize("family", HASH_FAMILIES)
def test_integer_vectors_give_the_same_codes_as_on_the_cpu(device, family, dim, dtype):
    """This includes projections of 0, which must be +0; NaN has code 0 and affects no other row."""
    shape = Shape(1, 2, 70, 70, dim, dim, 35, 5)
    planes = planes_of(shape, family)
    planes = (planes * 4).round() if family == "gaussian" else planes
    x = (torch.randn(1, 2, 70, dim) * 2).round().to(dtype)
    x[:, :, 3] = 0
    x[:, :, 4] = -0.0
    x[:, :, 5] = torch.nan
    x[:, :, 6] = -torch.nan
    codes = torch.ops.yoso.fast_hash(*on(device, (x, planes)), 35, 5, family).cpu()
    assert torch.equal(codes, torch.ops.yoso.fast_hash(x.float(), planes, 35, 5, family))
    assert not codes[:, :, :, 3:7].any()


def test_planes_shared_by_all_heads(device):
    shape = Shape(2, 3, 40, 40, 32, 32, 16, 6)
    x = make(shape).key
    planes = planes_of(Shape(1, 1, 1, 1, 32, 32, 16, 6), "hadamard")
    codes = torch.ops.yoso.fast_hash(*on(device, (x, planes)), 16, 6, "hadamard").cpu()
    args = {"num_hash": 16, "hash_code_len": 6, "hash_family": "hadamard"}
    assert torch.equal(codes.long(), reference.settle_codes(codes, x.float(), planes, **args))


def test_many_equal_codes(device):
    """All tokens in one bucket: the longest segment and the most pairs."""
    case = make(Shape(1, 2, 700, 900, 64, 64, 3, 5))
    zeros = [torch.zeros_like(codes.int()).to(torch.uint16) for codes in case.codes]
    crowded = replace(case, query_codes=zeros[0], key_codes=zeros[1])
    for name in ("lsh_cumulation", "lsh_attention_backward"):
        for actual, expected in zip(run(name, crowded, device), truth(name, crowded), strict=True):
            assert_near(actual, expected, BACKWARD[torch.float32])


def test_equal_rows_of_query_and_key_give_no_nan(device):
    case = make(Shape(1, 4, 200, 200, 64, 64, 2, 9))
    same = replace(case, key=case.query)
    for name in OPERATORS[6:]:
        assert all(result.isfinite().all() for result in run(name, same, device))


def test_zero_rows_stay_zero(device):
    x = torch.randn(1, 2, 9, 70)
    x[0, 1, 2] = 0
    out = torch.ops.yoso.unit_rows(x.to(device)).cpu()
    gradient = torch.ops.yoso.unit_rows_backward(torch.ones_like(x).to(device), x.to(device)).cpu()
    assert out[0, 1, 2].count_nonzero() == gradient[0, 1, 2].count_nonzero() == 0
    assert out.isfinite().all()
    assert gradient.isfinite().all()
