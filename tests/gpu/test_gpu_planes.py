"""Planes that a call draws for itself: the numbers of the CPU's generator, sent without a wait for the device."""

import pytest
import torch
from test_gpu_attention import SIZES, leaves

from yoso.attention import yoso_sampling
from yoso.ops.hashing import HASH_FAMILIES, draw_planes


def drawn(family, device):
    torch.manual_seed(3)
    return draw_planes(family, groups=8, head_dim=64, device=device, **SIZES)


@pytest.mark.parametrize("family", HASH_FAMILIES)
def test_a_device_gets_the_cpus_numbers_however_busy_it_is(cuda, family):
    expected = drawn(family, "cpu")
    for _ in range(3):
        torch.cuda._sleep(20_000_000)  # the copies of many draws wait for their turn
        found = [drawn(family, cuda) for _ in range(20)]
        assert all(torch.equal(planes.cpu(), expected) for planes in found)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_call_that_draws_its_planes_does_not_wait_for_the_device(cuda):
    inputs = leaves(cuda, 2, 2, 300, 64)
    yoso_sampling(*inputs, **SIZES)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = yoso_sampling(*inputs, **SIZES)
        torch.autograd.grad(out, inputs, torch.ones_like(out))
    finally:
        torch.cuda.set_sync_debug_mode("default")
