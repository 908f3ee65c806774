"""The CUDA kernels of lsh_cumulation and lsh_attention_backward on the host shim, compared with the dense oracles."""

import pytest
import torch
from lsh_cases import BF16, F16, F32, TOLERANCE, assert_close, check, make

LENGTHS = [(1, 1, 32), (7, 7, 3), (33, 33, 33), (33, 7, 32), (1, 257, 3), (300, 33, 2)]


@pytest.mark.parametrize(("num_query", "num_key", "num_hash"), LENGTHS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_any_length(shim, num_query, num_key, num_hash, dtype):
    check(shim, make(num_query, num_key, num_hash, 8, dtype=dtype))


@pytest.mark.parametrize(
    ("hash_code_len", "num_hash"), [(1, 33), (4, 33), (8, 33), (9, 33), (12, 32), (12, 1), (16, 3), (16, 1)]
)
def test_any_number_of_hashes_and_bits(shim, hash_code_len, num_hash):
    check(shim, make(40, 50, num_hash, hash_code_len, 16, 16, BF16, heads=(2, 1)))


# All row layouts: 4, 8, 16 and 32 lanes, two vectors per lane, and rows that are not multiples of 16 bytes.
@pytest.mark.parametrize(
    "dims", [(32, 32), (48, 64), (64, 128), (128, 32), (100, 100), (256, 256), (256, 5), (3, 1)], ids=str
)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_any_width(shim, dims, dtype):
    check(shim, make(21, 21, 9, 9, *dims, dtype, heads=(1, 1)))


@pytest.mark.parametrize(("hash_code_len", "num_hash"), [(12, 3), (8, 2), (16, 1)])
def test_a_thousand_tokens(shim, hash_code_len, num_hash):
    check(shim, make(1000, 1000, num_hash, hash_code_len, 32, 32, F16, buckets=500, heads=(1, 1)))


def test_one_cta_per_row_or_several(shim):
    """Several CTAs share a row that has more codes than a CTA's table, or more keys than a CTA has room for."""
    check(shim, make(5, 30000, 1, 16, 8, 8, buckets=20000, heads=(1, 1)))
    check(shim, make(5, 30000, 1, 16, 8, 8, buckets=500, heads=(1, 1)))
    check(shim, make(5, 30000, 1, 9, 8, 8, buckets=512, heads=(1, 1)))
    check(shim, make(5, 30000, 1, 8, 8, 8, buckets=256, heads=(1, 1)))
    check(shim, make(9, 50, 3, 15, 8, 8, heads=(1, 2)))
    check(shim, make(8, 9001, 2, 13, 8, 8, buckets=4000, heads=(1, 1)))


@pytest.mark.parametrize("width", [8000, 12000])
def test_a_cta_with_more_keys_than_it_has_room_for(shim, width):
    """Few keys per code, but all codes in the ranges of one or two CTAs."""
    case = make(6, 30000, 1, 16, 8, 8, masks=False, heads=(1, 1))
    for codes in (case.query_codes, case.key_codes):
        codes.copy_((codes.int() % width + 30000).to(torch.uint16))
    check(shim, case)


@pytest.mark.parametrize("hash_code_len", [8, 12])
def test_sums_are_added_hash_by_hash_in_the_order_of_the_keys(shim, hash_code_len):
    """Bitwise equal to float32 sums in that order; another order would round differently."""
    case = make(50, 200, 4, hash_code_len, 8, 8, buckets=100, masks=False, heads=(1, 1))
    case.value *= 10.0 ** torch.randint(-4, 4, (1, 1, 200, 1))
    out = case.forward(shim)
    for i in range(50):
        total = torch.zeros(8)
        for h in range(4):
            bucket = (case.key_codes[0, 0, h].long() == int(case.query_codes[0, 0, h, i])).nonzero().flatten()
            assert len(bucket) <= 8, "a crowded bucket is summed in another order"
            for j in bucket:
                total += case.value[0, 0, j]
        assert torch.equal(out[0, 0, i], total / 4)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("width", [24, 64, 5, 256])
def test_unrounded_sums_are_float32(shim, dtype, width):
    case = make(33, 40, 3, 4, 8, width, dtype, heads=(1, 2))
    args = case.query_codes, case.key_codes, case.value, case.query_mask, case.key_mask, case.hash_code_len
    sums = shim.lsh_cumulation(*args, True)
    assert sums.dtype == torch.float32
    assert torch.equal(sums.to(dtype), shim.lsh_cumulation(*args))
    codes = torch.zeros_like(case.query_codes), torch.zeros_like(case.key_codes)
    large = shim.lsh_cumulation(*codes, torch.full_like(case.value, 4e4), None, None, case.hash_code_len, True)
    torch.testing.assert_close(large, torch.full_like(large, 40 * 4e4), rtol=0.01, atol=0)


def test_masks_that_leave_no_token(shim):
    for dtype in TOLERANCE:
        case = make(33, 33, 3, 4, dtype=dtype, heads=(3, 2))
        case.query_mask[0] = False
        case.key_mask[1] = False
        check(shim, case)


def test_the_contents_of_masked_rows_have_no_effect(shim):
    case = make(33, 40, 5, 4, heads=(2, 2))
    expected = [case.forward(shim), *case.backward(shim)]
    for rows, mask in [(case.query, 0), (case.grad, 0), (case.key, 1), (case.value, 1)]:
        token_mask = (case.query_mask, case.key_mask)[mask]
        rows.masked_fill_(~token_mask[:, None, :, None], float("nan"))
    for actual, wanted in zip([case.forward(shim), *case.backward(shim)], expected, strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("hash_code_len", [3, 9])
def test_codes_with_too_many_bits_collide_with_nothing(shim, hash_code_len):
    case = make(40, 40, 6, hash_code_len, 16, 16)
    case.query_codes = (case.query_codes.int() + (torch.rand(case.query_codes.shape) < 0.3) * 60000).to(torch.uint16)
    case.key_codes = (case.key_codes.int() + (torch.rand(case.key_codes.shape) < 0.3) * 60000).to(torch.uint16)
    check(shim, case)
    case.query_codes.fill_(65535)
    case.key_codes.fill_(65535)
    check(shim, case)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_any_layout(shim, dtype):
    case = make(33, 33, 5, 5, 64, 64, dtype, heads=(2, 3))
    expected = [case.forward(shim), *case.backward(shim)]
    names = "query", "key", "value", "grad"
    plain = [getattr(case, name) for name in names]
    layouts = {
        "heads inside": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        "wider rows": lambda x: torch.cat([x, x], -1)[..., :64],
        "unaligned": lambda x: torch.cat([x, x], -1)[..., 1:].contiguous()[..., 63:],
        "columns apart": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    }
    for layout, change in layouts.items():
        for name, x in zip(names, plain, strict=True):
            setattr(case, name, change(x))
            assert torch.equal(getattr(case, name), x)
        for actual, wanted in zip([case.forward(shim), *case.backward(shim)], expected, strict=True):
            if layout == "unaligned":  # rows are read element by element, so sums over a row have another order
                assert_close(actual, wanted.double(), dtype)
            else:
                assert torch.equal(actual, wanted)


def test_results_are_bitwise_equal_in_any_order_of_threads(shim):
    for buckets in (3, 40):
        case = make(70, 90, 9, 9, 32, 48, BF16, buckets=buckets)
        results = []
        for order in (0, 1, 2, 3):
            shim.set_order(order)
            results.append([case.forward(shim), *case.backward(shim)])
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


@pytest.mark.parametrize("shim", [0], indirect=True)
def test_heads_in_groups(shim):
    """The heads need more workspace than a group may have."""
    heads, num_key, num_hash = 300, 4096, 2
    torch.manual_seed(0)
    value = torch.randn(1, 1, num_key, 256)
    query_codes = torch.randint(4096, (heads, 1, num_hash, 1)).to(torch.uint16)
    key_codes = query_codes.expand(-1, -1, -1, num_key).clone()
    key_codes[..., 20:] = 4095 - key_codes[..., 20:].int()
    out = shim.lsh_cumulation(query_codes, key_codes, value.expand(heads, 1, -1, -1), None, None, 12)
    expected = value[0, 0, :20].double().sum(0).expand(heads, 1, 1, 256)
    assert_close(out, expected, F32)


@pytest.mark.parametrize(("num_query", "num_key"), [(0, 5), (5, 0), (0, 0)])
def test_empty_inputs(shim, num_query, num_key):
    case = make(num_query, num_key, 3, 4, buckets=4)
    assert torch.equal(case.forward(shim), torch.zeros(1, 2, num_query, 64))
    for actual, x in zip(case.backward(shim), (case.query, case.key, case.value), strict=True):
        assert torch.equal(actual, torch.zeros_like(x))


def test_invalid_arguments_are_refused(shim):
    case = make(7, 7, 3, 4)
    args = case.query_codes, case.key_codes
    with pytest.raises(ValueError, match="float64 runs on the CPU; on CUDA use float32, bfloat16 or float16"):
        shim.lsh_cumulation(*args, case.value.double(), None, None, 4)
    with pytest.raises(ValueError, match="1 to 16"):
        shim.lsh_cumulation(*args, case.value, None, None, 17)
    with pytest.raises(ValueError, match="1 to 256 on CUDA, got 257"):
        shim.lsh_cumulation(*args, torch.zeros(1, 2, 7, 257), None, None, 4)
    with pytest.raises(ValueError, match="must have one dtype"):
        shim.lsh_attention_backward(case.grad, case.query.half(), case.key, case.value, *args, None, None, 4)
    with pytest.raises(ValueError, match="grad must be"):
        shim.lsh_attention_backward(case.grad[:, :, 1:], case.query, case.key, case.value, *args, None, None, 4)
