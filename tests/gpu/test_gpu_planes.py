"""Planes that a call draws itself: equal to those drawn on the CPU, and copied without synchronization."""

import pytest
import torch
from test_gpu_attention import SIZES, leaves

from yoso.attention import yoso_sampling
from yoso.ops.hashing import HASH_FAMILIES, draw_planes


def drawn(family, device):
    torch.manual_seed(3)
    return draw_planes(family, groups=8, head_dim=64, device=device, **SIZES)


@pytest.mark.parametrize("family", HASH_FAMILIES)
def test_a_busy_device_gets_the_planes_of_the_cpu_generator(cuda, family):
    expected = drawn(family, "cpu")
    for _ in range(3):
        torch.cuda._sleep(20_000_000)  # so that the copies of many draws are queued
        draws = [drawn(family, cuda) for _ in range(20)]
        assert all(torch.equal(planes.cpu(), expected) for planes in draws)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_call_that_draws_its_planes_does_not_synchronize(cuda):
    inputs = leaves(cuda, 2, 2, 300, 64)
    yoso_sampling(*inputs, **SIZES)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = yoso_sampling(*inputs, **SIZES)
        torch.autograd.grad(out, inputs, torch.ones_like(out))
    finally:
        torch.cuda.set_sync_debug_mode("default")
