"""The native operators on NaN, infinity, full masks, empty sequences and wrong sizes."""

import pytest
import torch
from torch.nn.functional import normalize

from yoso.attention import dense_yoso_e, yoso_e, yoso_sampling
from yoso.build import jit
from yoso.ops.hashing import HASH_FAMILIES, draw_planes

native = torch.ops.yoso


@pytest.fixture(autouse=True, scope="module")
def _native_kernels_are_tested():
    assert jit.load("cpu"), "the native kernels could not be built; these tests need them"


def rows_and_codes():
    """Query, key, value, grad and codes: every row has a bucket of its own, except that rows 3 and 5 share one."""
    torch.manual_seed(0)
    x = [normalize(torch.randn(1, 1, 8, 20), dim=-1) for _ in range(4)]
    codes = torch.arange(8).to(torch.uint16).expand(1, 1, 2, 8).contiguous()
    codes[..., 5] = 3
    return x, codes


def rows_not_finite(x):
    return (~x.isfinite()).any(-1)[0, 0].nonzero().flatten().tolist()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_affects_only_the_queries_that_collide_with_it(bad):
    (query, key, value, grad), codes = rows_and_codes()
    value[0, 0, 3, 7] = bad
    assert rows_not_finite(native.lsh_cumulation(codes, codes, value, None, None, 3)) == [3, 5]
    to_query, to_key, _ = native.lsh_attention_backward(grad, query, key, value, codes, codes, None, None, 3)
    assert rows_not_finite(to_query) == [3, 5]
    assert rows_not_finite(to_key) == [3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_query_that_is_not_finite_affects_only_its_own_row(bad):
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 40, 20) for _ in range(3))
    clean_e, query_bad = yoso_e(query, key, value, hash_code_len=4), query.clone()
    query_bad[0, 0, 3, 7] = bad
    assert rows_not_finite(yoso_e(query_bad, key, value, hash_code_len=4)) == [3]
    others = [i for i in range(40) if i != 3]
    assert torch.equal(yoso_e(query_bad, key, value, hash_code_len=4)[:, :, others], clean_e[:, :, others])
    for family in HASH_FAMILIES:
        planes = draw_planes(family, groups=1, head_dim=20, num_hash=4, hash_code_len=4)
        outs = [
            yoso_sampling(q, key, value, num_hash=4, hash_code_len=4, hash_family=family, planes=planes)
            for q in (query, query_bad)
        ]
        assert torch.equal(outs[0][:, :, others], outs[1][:, :, others])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("family", HASH_FAMILIES)
def test_a_key_that_is_not_finite_gets_a_code_like_any_other(family, bad):
    """Its bits are defined, because a projection that is NaN counts as not positive, so it has one bucket per hash."""
    torch.manual_seed(0)
    x = torch.randn(1, 1, 20, 20)
    planes = draw_planes(family, groups=1, head_dim=20, num_hash=4, hash_code_len=4)
    clean = native.fast_hash(x, planes, 4, 4, family)
    x[0, 0, 3] = bad
    codes = native.fast_hash(x, planes, 4, 4, family)
    assert codes.int().max() < 16
    others = [i for i in range(20) if i != 3]
    assert torch.equal(codes[..., others], clean[..., others])
    out = yoso_sampling(
        x.flip(2), x, torch.randn(1, 1, 20, 20), num_hash=4, hash_code_len=4, planes=planes, hash_family=family
    )
    assert torch.isfinite(out).all(), "only the hash may read the content of a key"


@pytest.mark.parametrize("name", ["query", "key", "value", "grad"])
def test_nan_in_a_masked_row_affects_no_result(name):
    (query, key, value, grad), codes = rows_and_codes()
    {"query": query, "key": key, "value": value, "grad": grad}[name][0, 0, 3] = float("nan")
    real = torch.ones(1, 8, dtype=torch.bool)
    real[0, 3] = False
    results = [
        native.lsh_cumulation(codes, codes, value, real, real, 3),
        *native.lsh_attention_backward(grad, query, key, value, codes, codes, real, real, 3),
        native.expectation(query, key, value, real, real, 3),
        *native.expectation_backward(grad, query, key, value, real, real, 3),
    ]
    assert [rows_not_finite(x) for x in results] == [[]] * len(results)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_batch_of_masked_tokens_gives_zeros_and_zero_gradients(dtype):
    torch.manual_seed(0)
    x = [torch.randn(2, 2, 33, 24, dtype=dtype).requires_grad_() for _ in range(3)]
    mask = torch.zeros(2, 33, dtype=torch.bool)
    for out in (
        yoso_e(*x, mask, hash_code_len=5),
        *(yoso_sampling(*x, mask, num_hash=3, hash_code_len=5, hash_family=family) for family in HASH_FAMILIES),
    ):
        grads = torch.autograd.grad(out, x, torch.randn_like(out))
        assert all(torch.equal(t, torch.zeros_like(t)) for t in (out, *grads))


@pytest.mark.parametrize(("num_query", "num_key"), [(0, 0), (0, 3), (3, 0)])
def test_an_empty_sequence_gives_empty_or_zero_results(num_query, num_key):
    query, grad = torch.randn(1, 2, num_query, 8), torch.randn(1, 2, num_query, 5)
    key, value = torch.randn(1, 2, num_key, 8), torch.randn(1, 2, num_key, 5)
    planes = draw_planes("hadamard", groups=2, head_dim=8, num_hash=3, hash_code_len=4)
    codes = [native.fast_hash(x, planes, 3, 4, "hadamard") for x in (query, key)]
    assert [c.shape for c in codes] == [(1, 2, 3, num_query), (1, 2, 3, num_key)]
    results = {
        (1, 2, num_query, 5): [
            native.lsh_cumulation(*codes, value, None, None, 4),
            native.expectation(query, key, value, None, None, 4),
        ],
        (1, 2, num_query, 8): [
            native.lsh_attention_backward(grad, query, key, value, *codes, None, None, 4)[0],
            native.expectation_backward(grad, query, key, value, None, None, 4)[0],
        ],
        (1, 2, num_key, 8): [
            native.lsh_attention_backward(grad, query, key, value, *codes, None, None, 4)[1],
            native.expectation_backward(grad, query, key, value, None, None, 4)[1],
        ],
    }
    for shape, outs in results.items():
        assert all(torch.equal(out, torch.zeros(shape)) for out in outs)
    assert native.unit_rows(query).shape == native.unit_rows_backward(query, query).shape == query.shape
    floor = torch.ones(1, 2)
    assert native.floored_unit_rows(query, floor).shape == query.shape
    grads = native.floored_unit_rows_backward(query, query, floor)
    assert [x.shape for x in grads] == [query.shape, floor.shape]
    assert num_query > 0 or not grads[1].any()
    for options in ({"norm_floor": 0.1}, {"normalization": "sum"}):
        for out in (
            yoso_e(query, key, value, **options),
            yoso_sampling(query, key, value, num_hash=3, **options),
            dense_yoso_e(query, key, value, **options)[0],
        ):
            assert torch.equal(out, torch.zeros(1, 2, num_query, 5)) or num_key > 0
            assert torch.isfinite(out).all()


@pytest.mark.parametrize("tau", [-1, 0, 17, 2**40])
def test_a_wrong_hash_code_len_is_an_error_in_every_operator(tau):
    x, codes = torch.randn(1, 1, 4, 8), torch.zeros(1, 1, 2, 4, dtype=torch.uint16)
    calls = [
        lambda: native.fast_hash(x, torch.randn(1, 2, 8), 2, tau, "gaussian"),
        lambda: native.lsh_cumulation(codes, codes, x, None, None, tau),
        lambda: native.lsh_attention_backward(x, x, x, x, codes, codes, None, None, tau),
        lambda: native.expectation(x, x, x, None, None, tau),
        lambda: native.expectation_backward(x, x, x, x, None, None, tau),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"hash_code_len must be 1 to 16.*got -?\d+"):
            call()


def test_zero_hashes_are_an_error():
    x, codes = torch.randn(1, 1, 4, 8), torch.zeros(1, 1, 0, 4, dtype=torch.uint16)
    with pytest.raises(ValueError, match="planes do not fit"):
        native.fast_hash(x, torch.randn(1, 0, 8), 0, 4, "gaussian")
    with pytest.raises(ValueError, match=r"num_hash"):
        native.lsh_cumulation(codes, codes, x, None, None, 4)
    with pytest.raises(ValueError, match=r"num_hash"):
        native.lsh_attention_backward(x, x, x, x, codes, codes, None, None, 4)
