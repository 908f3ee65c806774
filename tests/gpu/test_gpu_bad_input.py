"""Invalid and empty inputs: a clear error or an empty result, and never an invalid memory access."""

import pytest
import torch
from yoso_cases import OPERATORS, Shape, arguments, assert_near, make, on, operator, planes_of

SHAPE = Shape(2, 2, 30, 30, 16, 16, 6, 4)


def test_codes_with_too_many_bits_collide_with_nothing(cuda):
    case = make(SHAPE)
    arrays = [codes.int() for codes in case.codes]
    for codes in arrays:
        codes[..., ::3] = 16  # 2^tau and above: no bucket
        codes[..., 1::5] = 65535
    codes16 = tuple(codes.to(torch.uint16) for codes in arrays)
    # The definition, with too large codes replaced by codes that are unique to their position.
    unique = [
        torch.where(codes >= 16, sign * (1 + torch.arange(codes.shape[-1])), codes)
        for codes, sign in zip(arrays, (-1, -1000), strict=True)
    ]
    equal = (unique[0].unsqueeze(-1) == unique[1].unsqueeze(-2)).double().mean(2)
    expected = equal @ case.value.double()
    out = torch.ops.yoso.lsh_cumulation(*on(cuda, codes16), *on(cuda, (case.value,)), None, None, 4)
    assert_near(out, expected, 1e-5)
    gradients = torch.ops.yoso.lsh_attention_backward(
        *on(cuda, (case.grad, case.query, case.key, case.value)), *on(cuda, codes16), None, None, 4
    )
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("name", [*OPERATORS, "fast_hash"])
def test_float64_is_refused_with_a_clear_message(cuda, name):
    case = make(SHAPE, torch.float64)
    args = (case.key, planes_of(SHAPE, "hadamard"), 6, 4, "hadamard") if name == "fast_hash" else arguments(name, case)
    with pytest.raises(ValueError, match="float64 runs on the CPU"):
        operator(name)(*on(cuda, args))


def test_tensors_on_two_devices_are_refused(cuda):
    case = make(SHAPE)
    with pytest.raises((ValueError, RuntimeError), match=r"device|cuda|Expected"):
        torch.ops.yoso.lsh_cumulation(*case.codes, case.value.to(cuda), None, None, 4)
    with pytest.raises((ValueError, RuntimeError), match=r"device|cuda|Expected"):
        torch.ops.yoso.expectation(case.query.to(cuda), case.key.to(cuda), case.value, None, None, 4)
    with pytest.raises((ValueError, RuntimeError), match=r"device|cuda|Expected"):
        torch.ops.yoso.fast_hash(case.key.to(cuda), planes_of(SHAPE, "hadamard"), 6, 4, "hadamard")
    torch.cuda.synchronize()  # raises if a kernel with an invalid access was launched


def test_inconsistent_sizes_are_refused(device):
    case = make(SHAPE)
    codes, value = on(device, case.codes), case.value.to(device)
    with pytest.raises(ValueError, match="value's length"):
        torch.ops.yoso.lsh_cumulation(*codes, value[:, :, 1:], None, None, 4)
    with pytest.raises(ValueError, match="must be bool"):
        torch.ops.yoso.lsh_cumulation(*codes, value, None, torch.ones(2, 3, device=device).bool(), 4)
    with pytest.raises(ValueError, match="hash_code_len must be 1 to 16"):
        torch.ops.yoso.lsh_cumulation(*codes, value, None, None, 17)


@pytest.mark.parametrize("name", OPERATORS[4:])
def test_an_empty_sequence_has_an_empty_result(device, name):
    case = make(Shape(1, 2, 0, 0, 8, 8, 2, 4), mask="none")
    out = operator(name)(*on(device, arguments(name, case)))
    assert all(x.numel() == 0 for x in (out if isinstance(out, tuple) else (out,)))
