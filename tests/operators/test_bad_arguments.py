"""Every wrong argument raises an error that names it and says what was expected and what was given."""

import pytest
import torch

from yoso.attention import dense_yoso_e, yoso_e, yoso_sampling
from yoso.ops import operators, portable
from yoso.ops.hashing import draw_planes


def qkv(**overrides):
    shapes = {"query": (2, 3, 10, 8), "key": (2, 3, 10, 8), "value": (2, 3, 10, 8)} | overrides
    return {name: x if isinstance(x, torch.Tensor) else torch.randn(x) for name, x in shapes.items()}


CASES = [
    ({"query": (2, 10, 8)}, r"query must be .*\[batch, heads, length, head_dim\].*\[2, 10, 8\]"),
    ({"query": (2, 3, 10, 9)}, r"query must be \[2, 3, length, 8\].*got \[2, 3, 10, 9\]"),
    ({"query": (2, 4, 10, 8)}, r"query must be \[2, 3"),
    ({"value": (2, 3, 11, 8)}, r"value must be \[2, 3, 10"),
    ({"key": torch.randn(2, 3, 10, 8).bfloat16()}, r"key must have value's dtype.*float32.*got torch.bfloat16"),
    ({"value": torch.ones(2, 3, 10, 8, dtype=torch.long)}, r"value must be a floating-point tensor.*int64"),
    ({"key_padding_mask": torch.ones(2, 10)}, r"mask must be bool \[2, 10\].*got torch.float32.*mask.bool\(\)"),
    ({"key_padding_mask": torch.ones(2, 9, dtype=torch.bool)}, r"mask must be bool \[2, 10\].*\[2, 9\]"),
    ({"hash_code_len": 0}, r"hash_code_len must be 1 to 16.*got 0"),
    ({"hash_code_len": 17}, r"hash_code_len must be 1 to 16.*got 17"),
    ({"query": torch.randn(2, 3, 10, 8, device="meta")}, r"query must have value's dtype and device.*got.*meta"),
]


@pytest.mark.parametrize(("overrides", "message"), CASES)
@pytest.mark.parametrize("attention", [yoso_e, yoso_sampling])
def test_a_wrong_argument_of_an_attention_is_named(attention, overrides, message):
    options = {name: overrides[name] for name in ("key_padding_mask", "hash_code_len") if name in overrides}
    tensors = qkv(**{name: x for name, x in overrides.items() if name not in options})
    with pytest.raises(ValueError, match=message):
        attention(**tensors, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization": "l1"}, r"normalization must be one of \('l2', 'sum'\), got 'l1'; 'l2' scales"),
        ({"normalization": None}, "normalization must be one of .* got None"),
        ({"norm_floor": -0.1}, "norm_floor must be a finite number of at least 0, got -0.1; 0 means no floor"),
        ({"norm_floor": float("nan")}, "norm_floor must be a finite number of at least 0, got nan"),
        ({"norm_floor": float("inf")}, "norm_floor must be .* got inf"),
        ({"norm_floor": 10**400}, "norm_floor must be .* got 1000"),
        ({"norm_floor": "0.1"}, "norm_floor must be .* got '0.1'"),
        ({"norm_floor": True}, "norm_floor must be .* got True"),
    ],
)
@pytest.mark.parametrize("attention", [yoso_e, yoso_sampling, dense_yoso_e])
def test_a_wrong_normalization_is_named_before_any_work(attention, options, message):
    with pytest.raises(ValueError, match=message):
        attention(None, None, None, **options)


def test_a_value_without_room_for_the_sum_of_the_weights_is_named():
    wide = torch.ones(1, 1, 2, 1024)
    with pytest.raises(ValueError, match=r"value's head_dim must be at most 1023 with normalization 'sum'.*got 1024"):
        yoso_e(wide, wide, wide, normalization="sum")
    assert torch.equal(yoso_e(wide, wide, wide[..., 1:], normalization="sum"), wide[..., 1:])


def test_a_wrong_floor_of_rows_is_named():
    x = torch.ones(2, 3, 4, 5)
    for floor in (torch.ones(2, 4), torch.ones(2, 3, 1), torch.ones(2, 3).double()):
        with pytest.raises(ValueError, match=r"floor must be .* \[2, 3\], one for each head of x, got"):
            operators.floored_unit_rows(x, floor)


def test_a_wrong_sampling_parameter_is_named():
    with pytest.raises(ValueError, match=r"num_hash must be at least 1, got 0"):
        yoso_sampling(**qkv(), num_hash=0)
    with pytest.raises(ValueError, match=r"hash_family must be one of.*got 'sha256'"):
        yoso_sampling(**qkv(), hash_family="sha256")
    planes = draw_planes("hadamard", groups=5, head_dim=8, num_hash=4, hash_code_len=3)
    with pytest.raises(ValueError, match=r"planes.*groups dividing batch \* heads = 6"):
        yoso_sampling(**qkv(), num_hash=4, hash_code_len=3, planes=planes)


def test_wrong_codes_are_named():
    codes = torch.zeros(2, 3, 4, 10, dtype=torch.uint16)
    value = torch.randn(2, 3, 10, 8)
    with pytest.raises(ValueError, match=r"key_codes must be uint16.*got torch.int32"):
        operators.lsh_cumulation(codes, codes.int(), value, hash_code_len=4)
    with pytest.raises(ValueError, match=r"key_codes must have value's length 10, got 9"):
        operators.lsh_cumulation(codes, codes[..., :9].contiguous(), value, hash_code_len=4)
    with pytest.raises(ValueError, match=r"same num_hash, got 4 and 3"):
        operators.lsh_cumulation(codes, codes[:, :, :3], value, hash_code_len=4)


@pytest.mark.parametrize("kernel", [torch.ops.yoso.lsh_cumulation, portable.lsh_cumulation], ids=["native", "portable"])
def test_codes_that_are_too_large_for_hash_code_len_are_an_error(kernel):
    codes = torch.full((1, 1, 2, 4), 16, dtype=torch.int32).to(torch.uint16)
    with pytest.raises(ValueError, match=r"codes must be below 2\^hash_code_len = 16"):
        kernel(codes, codes, torch.randn(1, 1, 4, 8), None, None, 4)


@pytest.mark.parametrize("kernel", [torch.ops.yoso.expectation, portable.expectation], ids=["native", "portable"])
def test_an_empty_sequence_has_an_empty_result(kernel):
    empty = torch.randn(1, 2, 0, 8)
    assert kernel(empty, empty, empty, None, None, 4).shape == (1, 2, 0, 8)


def test_direct_calls_of_the_operators_are_checked_too():
    codes = torch.zeros(2, 3, 4, 10, dtype=torch.uint16)
    with pytest.raises(ValueError, match=r"value's length"):
        torch.ops.yoso.lsh_cumulation(codes, codes, torch.randn(2, 3, 9, 8), None, None, 4)
    with pytest.raises(ValueError, match=r"key_mask must be bool"):
        torch.ops.yoso.lsh_cumulation(codes, codes, torch.randn(2, 3, 10, 8), None, torch.ones(2, 3).bool(), 4)
    with pytest.raises(ValueError, match=r"hash_code_len must be 1 to 16"):
        torch.ops.yoso.lsh_cumulation(codes, codes, torch.randn(2, 3, 10, 8), None, None, 17)
