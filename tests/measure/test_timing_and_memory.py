import gc
import time
from dataclasses import replace

import pytest
import torch
from same_call import SameCall

from harness.core.spec import Effort
from harness.measure import memory, timing

EFFORT = Effort(min_samples=3, max_samples=5, seconds=10.0, warmup_calls=2, warmup_seconds=0.0)


def test_the_time_of_a_sleep_is_its_duration():
    measured = timing.measure(SameCall(lambda: time.sleep(0.01)), "cpu", EFFORT)
    assert len(measured.wall_seconds) == 5
    assert measured.calls_per_sample == 1
    assert all(0.01 <= seconds < 0.2 for seconds in measured.wall_seconds)
    assert measured.device_seconds is None
    assert measured.threads == torch.get_num_threads()


def test_short_calls_are_grouped_and_counted():
    calls = 0

    def call():
        nonlocal calls
        calls += 1

    # The quickest warm-up call decides how many calls a sample has: of a thousand one is undisturbed on any machine.
    measured = timing.measure(SameCall(call), "cpu", replace(EFFORT, warmup_calls=1000))
    assert measured.calls_per_sample > 100
    assert calls == measured.warmup_calls + 5 * measured.calls_per_sample
    assert all(seconds < 1e-3 for seconds in measured.wall_seconds)


def test_the_minimum_number_of_samples_is_taken_whatever_the_time_limit():
    measured = timing.measure(SameCall(lambda: time.sleep(0.002)), "cpu", Effort(4, 100, 0.0, 1, 0.0))
    assert (len(measured.wall_seconds), measured.warmup_calls) == (4, 1)


def test_the_warm_up_lasts_as_long_as_requested():
    measured = timing.measure(SameCall(lambda: time.sleep(0.002)), "cpu", Effort(1, 1, 0.0, 1, 0.05))
    assert measured.warmup_calls > 3


def test_calls_are_told_which_sample_is_the_last_and_get_one_result_of_each():
    calls = SameCall(lambda: time.sleep(0.002) or len(calls.purposes))
    timing.measure(calls, "cpu", EFFORT)
    assert calls.purposes == ["warm-up"] * 2 + ["sample"] * 4 + ["last sample"]
    assert calls.results == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_off_during_timing_and_restored_afterwards(on):
    within = []
    was = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        timing.measure(SameCall(lambda: within.append(gc.isenabled())), "cpu", Effort(1, 1, 0.0, 1, 0.0))
        assert not any(within)
        assert gc.isenabled() is on
    finally:
        (gc.enable if was else gc.disable)()


MIB = 2**20


def test_the_peak_counts_temporaries_that_live_at_the_same_time():
    x = torch.randn(512, 512)  # 1 MiB

    def call():
        first = x @ x
        second = first @ x
        del first
        third = second @ x  # at most two live at any time, with the result
        return third.sum()

    assert memory.peak(call, "cpu", [x]).peak_bytes == pytest.approx(2 * MIB, rel=0.03)


def test_the_peak_counts_the_result():
    assert memory.peak(lambda: torch.empty(3 * MIB, dtype=torch.uint8), "cpu", []).peak_bytes == pytest.approx(3 * MIB)


def test_the_peak_of_eager_attention_is_its_n_by_n_tensors():
    n, heads = 512, 4
    q, k, v = (torch.randn(1, heads, n, 64) for _ in range(3))
    square = heads * n * n * 4

    def call():
        return (q @ k.mT).softmax(-1) @ v

    measured = memory.peak(call, "cpu", [q, k, v])
    assert measured.peak_bytes == pytest.approx(2 * square, rel=0.05)  # scores and weights
    assert measured.input_bytes == 3 * heads * n * 64 * 4


def test_releasing_memory_from_before_the_call_does_not_change_the_peak():
    held = [torch.empty(8 * MIB, dtype=torch.uint8)]

    def call():
        held.clear()
        return torch.empty(MIB, dtype=torch.uint8)

    assert memory.peak(call, "cpu", []).peak_bytes == pytest.approx(MIB)


def test_views_of_one_storage_count_once():
    x = torch.zeros(MIB, dtype=torch.uint8)
    assert memory.peak(lambda: None, "cpu", [x, x[:10], x.view(2, -1)]).input_bytes == MIB


def test_the_peak_covers_the_backward_pass():
    x = torch.randn(MIB // 4, requires_grad=True)  # 1 MiB

    def call():
        return torch.autograd.grad(x.exp().sum(), x)

    assert memory.peak(call, "cpu", [x]).peak_bytes == pytest.approx(2 * MIB, rel=0.03)  # exp, and the gradient
