"""The clock of a CUDA device, on a simulated device: a host and a queue, each with its own time."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from harness.measure import device_time
from harness.measure.device_time import DeviceClock

MICRO = 1e-6
L2 = 50 * 2**20


class SimulatedDevice:
    """Replaces ``torch.cuda`` and the buffer. The host's clock is ``now``; the device is busy until ``busy``."""

    def __init__(self):
        self.now = self.busy = 0.0
        self.calls = self.flushes = 0
        simulated = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at = max(simulated.busy, simulated.now)

            def elapsed_time(self, other):
                return (other.at - self.at) * 1e3

        self.Event = Event

    def get_device_properties(self, _):
        return SimpleNamespace(L2_cache_size=L2)

    @contextmanager
    def device(self, _):
        yield

    def synchronize(self, _=None):
        self.now = max(self.now, self.busy)

    def zero_(self):
        self.flushes += 1
        self._launch(3 * MICRO, 40 * MICRO)

    def kernels(self, count, host, device):
        def call():
            self.calls += 1
            for _ in range(count):
                self._launch(host, device)

        return call

    def _launch(self, host, device):
        self.now += host
        self.busy = max(self.busy, self.now) + device


@pytest.fixture
def device(monkeypatch):
    simulated = SimulatedDevice()
    monkeypatch.setattr(device_time, "perf_counter", lambda: simulated.now)
    return simulated


def clock_of(device):
    return DeviceClock("cuda", cuda=device, buffer=device)


def test_the_flush_is_larger_than_the_cache(device):
    assert clock_of(device).flushed_bytes == 2 * L2


def test_the_submission_of_a_launch_bound_call_does_not_count_as_device_time(device):
    call = device.kernels(20, host=10 * MICRO, device=2 * MICRO)
    sample, _ = clock_of(device).sample([call, call], submit_seconds=200 * MICRO)
    assert sample.device == pytest.approx(40 * MICRO, rel=0.01)
    assert sample.submit == pytest.approx(200 * MICRO, rel=0.01)
    assert sample.wall == pytest.approx(202 * MICRO, rel=0.01)
    assert device.calls == 2


def test_a_call_that_keeps_the_device_busy_has_all_its_device_time(device):
    call = device.kernels(5, host=10 * MICRO, device=1000 * MICRO)
    sample, _ = clock_of(device).sample([call, call], submit_seconds=50 * MICRO)
    assert sample.device == pytest.approx(5e-3, rel=0.01)
    assert sample.submit == pytest.approx(50 * MICRO, rel=0.01)
    assert sample.wall == pytest.approx(5e-3 + 10 * MICRO, rel=0.01)


def test_a_long_call_is_timed_with_one_call(device):
    call = device.kernels(5, host=10 * MICRO, device=0.1)
    assert device_time.is_long(0.5)
    sample, _ = clock_of(device).sample([call], submit_seconds=50 * MICRO)
    assert sample.device == pytest.approx(0.5, rel=0.001)
    assert device.calls == 1


def test_every_timed_call_comes_after_a_flush(device):
    clock = clock_of(device)
    flushed_before = []
    seen = device.flushes

    def call():
        nonlocal seen
        flushed_before.append(device.flushes > seen)
        seen = device.flushes

    for _ in range(3):
        clock.sample([call, call], submit_seconds=MICRO)
    assert flushed_before == [True] * 6


def test_the_number_of_flushes_is_limited_when_the_host_is_slow(device):
    call = device.kernels(1, MICRO, MICRO)
    clock_of(device).sample([call, call], submit_seconds=10.0)
    assert device.flushes < 300


def test_the_results_of_both_calls_are_returned(device):
    _, results = clock_of(device).sample([lambda: "first", lambda: "second"], submit_seconds=MICRO)
    assert results == ["first", "second"]
    assert clock_of(device).sample([lambda: "only"], submit_seconds=MICRO)[1] == ["only"]
