"""Cases that only a GPU can show: NaN as a device computes it, and launches near the default shared memory limit."""

from dataclasses import replace

import pytest
import torch
from yoso_cases import DTYPES, FORWARD, Shape, assert_near, make, on, run, truth

from yoso.attention import yoso_e


def nan_of(device):
    """NaN as the device computes it; its bits differ from those of a CPU."""
    zero = torch.zeros((), device=device)
    return zero / zero


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_nan_in_a_query_affects_only_its_row(device, dtype):
    q, k, v = (torch.randn(1, 2, 70, 64, device=device, dtype=dtype) for _ in range(3))
    q[0, 1, 5] = nan_of(device)
    out = yoso_e(q, k, v, hash_code_len=9)
    assert out[0, 1, 5].isnan().all()
    out[0, 1, 5] = 0
    assert out.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_key", [5, 300], ids=["visited", "by moments"])
def test_a_nan_in_a_value_affects_the_gradients_of_its_bucket(device, dtype, num_key):
    case = make(Shape(2, 16, num_key, num_key, 64, 64, 1, 3), dtype)
    codes = torch.arange(num_key).remainder(2).expand(2, 16, 1, -1).to(torch.uint16).contiguous()
    case = replace(case, query_codes=codes, key_codes=codes)
    args = on(device, (case.grad, case.query, case.key, case.value, *case.codes))
    args[3][1, 15, 2] = nan_of(device)
    grad_query, _, _ = torch.ops.yoso.lsh_attention_backward(*args, None, None, 3)
    assert grad_query[1, 15, 0::2].isnan().all()
    assert grad_query[1, 15, 1::2].isfinite().all()
    assert grad_query[:, :15].isfinite().all()


@pytest.mark.parametrize(("num_key", "tau"), [(6048, 12), (6080, 12), (6081, 12), (1920, 13), (8128, 11), (12200, 1)])
def test_lengths_whose_sort_is_near_the_default_shared_memory_limit(device, num_key, tau):
    case = make(Shape(1, 1, 64, num_key, 16, 16, 1, tau))
    for actual, expected in zip(run("lsh_cumulation", case, device), truth("lsh_cumulation", case), strict=True):
        assert_near(actual, expected, FORWARD[torch.float32])
