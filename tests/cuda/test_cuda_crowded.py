"""Crowded buckets: their values are summed once, and their gradients are computed by a moment."""

import pytest
import torch
from lsh_cases import BF16, F16, TOLERANCE, Case, assert_close, check, make, oracle

MANY_HEADS = 2, 4


@pytest.fixture(autouse=True)
def _few_keys_make_a_bucket_crowded(shim):
    """In the gradient as well as in the forward pass: with one SM, moments are faster than visiting pairs early."""
    shim.set_device(multiprocessors=1)


@pytest.mark.parametrize("hash_code_len", [4, 12])
@pytest.mark.parametrize("buckets", [1, 2, 9])  # more keys per bucket than are ordered by comparison, and fewer
def test_crowded_buckets(shim, hash_code_len, buckets):
    """Equal tokens share all their buckets; the sums of crowded buckets are computed separately."""
    check(shim, make(40, 150, 5, hash_code_len, 64, 64, buckets=buckets))
    check(shim, make(9, 100, 2, hash_code_len, 100, 256, BF16, buckets=buckets, heads=(1, 1)))


@pytest.mark.parametrize(("num_query", "num_key"), [(33, 70), (70, 33), (1, 50), (50, 9), (100, 20)])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_gradients(shim, num_query, num_key, dtype):
    """A bucket is crowded on one side, and on the other it is crowded too, short, of one token or empty."""
    check(shim, make(num_query, num_key, 2, 4, dtype=dtype, buckets=3, heads=MANY_HEADS))


@pytest.mark.parametrize("shim", [0], indirect=True)
@pytest.mark.parametrize("dims", [(32, 48), (48, 64), (64, 128), (128, 32), (100, 100), (256, 5), (3, 1), (16, 256)])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_any_width(shim, dims, dtype):
    """Several CTAs own the columns of the gradient; more than 64 columns of the value take several passes."""
    check(shim, make(41, 45, 2, 2, *dims, dtype, buckets=1, masks=False, heads=(1, 2)))


@pytest.mark.parametrize("shim", [0], indirect=True)
@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_a_moment_has_more_bits_than_the_rows(shim, dtype):
    """Two large columns whose products cancel exactly, as they do if every pair is visited."""
    case = make(40, 60, 1, 1, dtype=dtype, buckets=1, masks=False, heads=MANY_HEADS)
    whole = torch.randint(-8, 9, case.value.shape[:3])
    case.value[..., 0], case.value[..., 1] = 64 * whole, 3 * 64 * whole
    case.grad[..., 1] = (2 * case.grad[..., 1]).round()
    case.grad[..., 0] = -3 * case.grad[..., 1]
    _, (expected, *_) = oracle(case)
    assert_close(case.backward(shim)[0], expected, dtype, 3)


@pytest.mark.parametrize("shim", [0], indirect=True)
@pytest.mark.parametrize(("value", "grad"), [(1e4, 1e-3), (1e-6, 1e4)])
def test_moments_beyond_the_range_of_float16(shim, value, grad):
    """Sums of products that are infinite in float16, or have only a few bits."""
    case = make(40, 90, 1, 1, dtype=F16, buckets=1, masks=False, heads=MANY_HEADS)
    case.value, case.grad, case.key = (case.value.abs() * value).half(), (case.grad * grad).half(), case.key.abs()
    assert case.value.isfinite().all()
    _, (expected, *_) = oracle(case)
    assert_close(case.backward(shim)[0], expected, F16, 3)


@pytest.mark.parametrize("shim", [0], indirect=True)
def test_hashes_are_processed_in_order(shim):
    """Two hashes add to the same tokens while one warp is at a large bucket and another is done with a small one."""
    shim.set_order(3)  # warps take turns
    case = make(80, 90, 2, 4, masks=False, heads=MANY_HEADS)
    for order in ((1, 2), (2, 1)):
        case.query_codes[:], case.key_codes[:] = 15, 14
        case.query_codes[:, :, 0, :70], case.key_codes[:, :, 0, :80] = order[0], order[0]
        case.query_codes[:, :, 0, 70:], case.key_codes[:, :, 0, 80:] = order[1], order[1]
        case.query_codes[:, :, 1, :70], case.key_codes[:, :, 1, :48] = 3, 3
        check(shim, case)


@pytest.mark.parametrize("shim", [0], indirect=True)
def test_nan_stays_in_its_bucket(shim):
    clean, spoiled = (make(60, 60, 1, 1, buckets=2, masks=False, heads=MANY_HEADS) for _ in range(2))
    spoiled.value[1, 3, 7] = float("nan")
    hit = clean.query_codes[1, 3, 0].int() == clean.key_codes[1, 3, 0, 7].int()
    assert 9 < hit.sum() < 51
    reached = hit, torch.arange(60) == 7, torch.zeros(60).bool()
    for actual, expected, rows in zip(spoiled.backward(shim), clean.backward(shim), reached, strict=True):
        assert actual[1, 3, rows].isnan().all()
        actual[1, 3, rows], expected[1, 3, rows] = 0, 0
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("shim", [0], indirect=True)
def test_results_are_bitwise_equal_in_any_order_of_threads(shim):
    case = make(70, 90, 3, 4, 32, 48, BF16, buckets=3, heads=(2, 8))
    results = []
    for order in (0, 1, 2, 3):
        shim.set_order(order)
        results.append(case.backward(shim))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


@pytest.mark.parametrize("shim", [0], indirect=True)
def test_heads_in_groups(shim):
    """Groups of heads reuse the workspace, so sums must be cleared. For speed, most tokens are in no bucket."""
    case = make(4096, 4096, 64, 8, 32, 256, BF16, buckets=1, masks=False, heads=(1, 14))
    for codes in (case.query_codes, case.key_codes):
        codes[..., 20:] = 65535
    few = [x[:, :, :20] for x in (case.grad, case.query, case.key, case.value)]
    codes = [x[..., :20] for x in (case.query_codes, case.key_codes)]
    _, expected = oracle(Case(*few[1:], few[0], *codes, None, None, 8))
    for actual, wanted, roundings in zip(case.backward(shim), expected, (3, 3, 1), strict=True):
        assert_close(actual[:, :, :20].contiguous(), wanted, BF16, roundings)
        assert actual[:, :, 20:].count_nonzero() == 0
