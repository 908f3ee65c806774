import gc
import time

import pytest
import torch

from harness.core.spec import Effort
from harness.measure import memory, timing

EFFORT = Effort(min_samples=3, max_samples=5, seconds=10.0, warmup_calls=2, warmup_seconds=0.0)


def test_a_sleep_takes_as_long_as_it_sleeps():
    found = timing.measure(lambda: time.sleep(0.01), "cpu", EFFORT)
    assert len(found.wall_seconds) == 5
    assert found.calls_per_sample == 1
    assert all(0.01 <= seconds < 0.2 for seconds in found.wall_seconds)
    assert found.device_seconds is None
    assert found.threads == torch.get_num_threads()


def test_short_calls_are_grouped_and_counted():
    calls = 0

    def call():
        nonlocal calls
        calls += 1

    found = timing.measure(call, "cpu", EFFORT)
    assert found.calls_per_sample > 100
    assert calls == found.warmup_calls + 5 * found.calls_per_sample
    assert all(seconds < 1e-3 for seconds in found.wall_seconds)


def test_the_minimum_of_samples_is_taken_whatever_the_budget():
    found = timing.measure(lambda: time.sleep(0.002), "cpu", Effort(4, 100, 0.0, 1, 0.0))
    assert (len(found.wall_seconds), found.warmup_calls) == (4, 1)


def test_warm_up_lasts_as_long_as_asked():
    found = timing.measure(lambda: time.sleep(0.002), "cpu", Effort(1, 1, 0.0, 1, 0.05))
    assert found.warmup_calls > 3


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_off_within_and_as_before_after(on):
    within = []
    was = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        timing.measure(lambda: within.append(gc.isenabled()), "cpu", Effort(1, 1, 0.0, 1, 0.0))
        assert not any(within)
        assert gc.isenabled() is on
    finally:
        (gc.enable if was else gc.disable)()


MIB = 2**20


def test_peak_counts_temporaries_that_live_together():
    x = torch.randn(512, 512)  # 1 MiB

    def call():
        first = x @ x
        second = first @ x
        del first
        third = second @ x  # two live at any time, and the result
        return third.sum()

    assert memory.peak(call, "cpu", [x]).peak_bytes == pytest.approx(2 * MIB, rel=0.03)


def test_peak_counts_the_result():
    assert memory.peak(lambda: torch.empty(3 * MIB, dtype=torch.uint8), "cpu", []).peak_bytes == pytest.approx(3 * MIB)


def test_peak_of_eager_attention_is_its_n_by_n_tensors():
    n, heads = 512, 4
    q, k, v = (torch.randn(1, heads, n, 64) for _ in range(3))
    square = heads * n * n * 4

    def call():
        return (q @ k.mT).softmax(-1) @ v

    found = memory.peak(call, "cpu", [q, k, v])
    assert found.peak_bytes == pytest.approx(2 * square, rel=0.05)  # scores and weights
    assert found.input_bytes == 3 * heads * n * 64 * 4


def test_memory_from_before_the_call_is_not_the_calls():
    held = [torch.empty(8 * MIB, dtype=torch.uint8)]

    def call():
        held.clear()
        return torch.empty(MIB, dtype=torch.uint8)

    assert memory.peak(call, "cpu", []).peak_bytes == pytest.approx(MIB)


def test_views_of_one_storage_are_held_once():
    x = torch.zeros(MIB, dtype=torch.uint8)
    assert memory.peak(lambda: None, "cpu", [x, x[:10], x.view(2, -1)]).input_bytes == MIB


def test_backward_is_watched_too():
    x = torch.randn(MIB // 4, requires_grad=True)  # 1 MiB

    def call():
        return torch.autograd.grad(x.exp().sum(), x)

    assert memory.peak(call, "cpu", [x]).peak_bytes == pytest.approx(2 * MIB, rel=0.03)  # exp, and the gradient
