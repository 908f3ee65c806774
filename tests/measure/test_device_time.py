"""The clock of a CUDA device, on a made-up device: a host and a queue, each with a time of its own."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from harness.measure import device_time
from harness.measure.device_time import DeviceClock

MICRO = 1e-6
L2 = 50 * 2**20


class MadeUpDevice:
    """``torch.cuda`` and a buffer, for one device. The host's clock is ``now``; the device is busy until ``busy``."""

    def __init__(self):
        self.now = self.busy = 0.0
        self.calls = self.flushes = 0
        outer = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at = max(outer.busy, outer.now)

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
def made_up(monkeypatch):
    device = MadeUpDevice()
    monkeypatch.setattr(device_time, "perf_counter", lambda: device.now)
    return device


def clock_of(device):
    return DeviceClock("cuda", cuda=device, buffer=device)


def test_the_flush_is_larger_than_the_cache(made_up):
    assert clock_of(made_up).flushed_bytes == 2 * L2


def test_a_call_that_waits_for_its_host_shows_in_the_submission_and_not_in_the_devices_time(made_up):
    call = made_up.kernels(20, host=10 * MICRO, device=2 * MICRO)
    found = clock_of(made_up).sample(call, submit_seconds=200 * MICRO, seconds=210 * MICRO)
    assert found.device == pytest.approx(40 * MICRO, rel=0.01)
    assert found.submit == pytest.approx(200 * MICRO, rel=0.01)
    assert found.wall == pytest.approx(202 * MICRO, rel=0.01)
    assert made_up.calls == 2


def test_a_call_that_keeps_the_device_busy(made_up):
    call = made_up.kernels(5, host=10 * MICRO, device=1000 * MICRO)
    found = clock_of(made_up).sample(call, submit_seconds=50 * MICRO, seconds=5e-3)
    assert found.device == pytest.approx(5e-3, rel=0.01)
    assert found.submit == pytest.approx(50 * MICRO, rel=0.01)
    assert found.wall == pytest.approx(5e-3 + 10 * MICRO, rel=0.01)


def test_a_long_call_is_made_once(made_up):
    call = made_up.kernels(5, host=10 * MICRO, device=0.1)
    found = clock_of(made_up).sample(call, submit_seconds=50 * MICRO, seconds=0.5)
    assert found.device == pytest.approx(0.5, rel=0.001)
    assert made_up.calls == 1


def test_every_timed_call_comes_after_a_flush(made_up):
    clock = clock_of(made_up)
    flushed_before = []
    seen = made_up.flushes

    def call():
        nonlocal seen
        flushed_before.append(made_up.flushes > seen)
        seen = made_up.flushes

    for _ in range(3):
        clock.sample(call, submit_seconds=MICRO, seconds=MICRO)
    assert flushed_before == [True] * 6


def test_a_host_that_never_gets_ahead_does_not_flush_for_ever(made_up):
    clock_of(made_up).sample(made_up.kernels(1, MICRO, MICRO), submit_seconds=10.0, seconds=10e-3)
    assert made_up.flushes < 300
