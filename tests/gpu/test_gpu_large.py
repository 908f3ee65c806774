"""Sizes whose products exceed 2^31, where a 32-bit index would wrap around; the last head and row would show it."""

import pytest
import torch
from yoso_cases import assert_near

from yoso.attention import yoso_e, yoso_sampling
from yoso.ops.hashing import draw_planes

GIB = 2**30


def need(gib):
    free, _ = torch.cuda.mem_get_info()
    if free < gib * GIB:
        pytest.skip(f"needs {gib} GiB of free device memory, has {free / GIB:.0f}")


def normal(*shape, dtype=torch.bfloat16):
    return torch.randn(shape, generator=torch.Generator("cuda").manual_seed(7), device="cuda", dtype=dtype)


@pytest.fixture(autouse=True)
def _release_memory(cuda):
    yield
    torch.cuda.empty_cache()


def test_tensors_of_more_than_2_to_the_31_elements(cuda):
    need(48)
    shape = (8, 8, 2**19 + 8, 64)
    sizes = {"num_hash": 2, "hash_code_len": 16}
    planes = draw_planes("hadamard", groups=64, head_dim=64, device=cuda, **sizes)
    x = normal(*shape)
    with torch.no_grad():
        out = yoso_sampling(x, x, x, planes=planes, **sizes)
        for b, h in ((0, 0), (7, 7)):
            single_head = x[b : b + 1, h : h + 1].contiguous()
            alone = yoso_sampling(
                single_head, single_head, single_head, planes=planes[8 * b + h, None].contiguous(), **sizes
            )
            assert_near(out[b, h], alone[0, 0], 1e-2)
            assert alone.count_nonzero() > 0


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward_backward"])
def test_length_times_hashes_times_width_beyond_2_to_the_31(cuda, backward):
    """One head, with n * m * d = 2^31 + 2^11. Every position collides with itself in all hashes."""
    need(24)
    n, sizes = 2**20 + 1, {"num_hash": 32, "hash_code_len": 16}
    q, v = normal(1, 1, n, 64).requires_grad_(backward), normal(1, 1, n, 64).requires_grad_(backward)
    planes = draw_planes("hadamard", groups=1, head_dim=64, device=cuda, **sizes)
    out = yoso_sampling(q, q, v, planes=planes, **sizes)
    tail = 3
    assert out.isfinite().all()
    # About n / 2^16 = 16 others share the bucket of each hash, but each in few hashes, so the own value dominates.
    cosine = torch.nn.functional.cosine_similarity(out[0, 0, -tail:].float(), v[0, 0, -tail:].float(), dim=-1)
    assert cosine.min() > 0.3
    if backward:
        grads = torch.autograd.grad(out[:, :, -tail:].float().sum(), (q, v))
        assert all(g.isfinite().all() for g in grads)
        assert all(g[0, 0, -tail:].count_nonzero() > 0 for g in grads)


def test_equal_tokens_do_not_make_the_gradient_quadratic(cuda):
    """All tokens share one bucket in every hash: 2^30 pairs per hash and head at the longer length."""
    sizes = {"num_hash": 8, "hash_code_len": 9}
    planes = draw_planes("hadamard", groups=64, head_dim=64, device=cuda, **sizes)

    def milliseconds(n):
        x = normal(8, 8, 1, 64).expand(-1, -1, n, -1).contiguous().requires_grad_()
        out = yoso_sampling(x, x, x, planes=planes, **sizes)
        grad = torch.ones_like(out)
        times = []
        for _ in range(3):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            (grad_x,) = torch.autograd.grad(out, x, grad, retain_graph=True)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        assert grad_x.isfinite().all()
        return min(times)

    assert milliseconds(2**15) < 3 * milliseconds(2**14)


def test_tables_of_all_heads_beyond_2_to_the_31(cuda):
    """B * H * m * 2^tau * d = 2^33, with a short sequence."""
    sizes = {"num_hash": 32, "hash_code_len": 16}
    planes = draw_planes("hadamard", groups=64, head_dim=64, device=cuda, **sizes)
    x = normal(8, 8, 1000, 64)
    with torch.no_grad():
        out = yoso_sampling(x, x, x, planes=planes, **sizes)
        last = x[7:, 7:].contiguous()
        assert_near(out[7, 7], yoso_sampling(last, last, last, planes=planes[-1:].contiguous(), **sizes)[0, 0], 1e-2)


def test_pairs_beyond_2_to_the_31_in_the_expectation(cuda):
    """n^2 = 2^32 pairs per head."""
    x = normal(1, 2, 2**16, 64)
    with torch.no_grad():
        out = yoso_e(x, x, x, hash_code_len=9)
        rows = torch.tensor([0, 2**15, 2**16 - 1], device=cuda)
        unit = torch.nn.functional.normalize(x.double(), dim=-1)
        angle = torch.arccos((unit[:, :, rows] @ unit.mT).clamp(-1, 1))
        expected = torch.nn.functional.normalize((1 - angle / torch.pi) ** 9 @ x.double(), dim=-1)
        assert_near(out[:, :, rows], expected, 2e-2)
