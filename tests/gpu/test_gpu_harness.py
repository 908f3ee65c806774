"""What the harness measures with, on a real device: ceilings, clock, memory and counts, and cases from end to end."""

import pytest
import torch

from harness.cases import runner
from harness.core.spec import Effort, OperationSpec
from harness.measure import ceilings, memory
from harness.measure.device_time import DeviceClock
from harness.processes.launch_counter import LaunchCounter

EFFORT = Effort(min_samples=5, max_samples=5, seconds=0.0, warmup_calls=2, warmup_seconds=0.0)
MIB = 2**20


def case(name, **changes):
    fields = {"seq_len": 512, "dtype": "bfloat16", "mode": "forward_backward", "device": "cuda"} | changes
    return OperationSpec(attention=name, **fields)


def test_every_ceiling_is_measured(cuda):
    found = {one.name: one for one in ceilings.measure(cuda)}
    assert {name: one.reason for name, one in found.items() if one.reason} == {}
    rates = {name: one.amount / min(one.seconds) for name, one in found.items()}
    assert min(rates.values()) > 1e11
    assert rates["matmul bfloat16"] > rates["matmul float32"]
    assert 0.5 * rates["matmul float32"] < rates["vector float32"] < 4 * rates["matmul float32"]


def test_the_clock_takes_the_devices_time_and_not_the_hosts(cuda):
    clock = DeviceClock(cuda)
    x = torch.ones(16 * MIB, device=cuda)  # read and written: 128 MiB

    def call():
        for _ in range(10):
            x.add_(1)

    call()
    found = [clock.sample(call, submit_seconds=1e-4, seconds=1e-3) for _ in range(10)]
    device = min(sample.device for sample in found)
    assert 10 * 128 * MIB / 1e13 < device < 20e-3
    assert all(sample.submit < sample.wall for sample in found)
    one = min(clock.sample(lambda: x.add_(1), 1e-4, 1e-4).device for _ in range(10))
    assert device == pytest.approx(10 * one, rel=0.5)


def test_peak_memory_is_what_a_call_allocates(cuda):
    held = torch.empty(8 * MIB, dtype=torch.uint8, device=cuda)
    found = memory.peak(lambda: torch.empty(32 * MIB, dtype=torch.uint8, device=cuda), cuda, [held])
    assert (found.peak_bytes, found.input_bytes) == (32 * MIB, 8 * MIB)


@pytest.mark.parametrize("name", ["yoso", "yoso_e", "sdpa_flash", "none", "linear"])
def test_a_case_is_verified_and_measured(cuda, name):
    record = runner.run(case(name), EFFORT)
    assert (record.status, record.reasons) == ("ok", [])
    assert len(record.timing.device_seconds) == len(record.timing.submit_seconds) == 5
    assert record.timing.input_sets == 3
    assert record.memory.peak_bytes > 0
    assert record.conditions.unseen is None


def test_kernels_are_counted_alike_time_after_time(cuda):
    """The profiler loses records of a session, more with every one; see ``harness.measure.launches``."""
    record = runner.run(case("none", mode="forward"), EFFORT)
    counter = LaunchCounter()
    try:
        ten = [counter.counted(runner.run(case("linear"), EFFORT)).kernel_launches for _ in range(10)]
        assert counter.counted(record).kernel_launches == 0  # one copy
    finally:
        counter.close()
    assert len(set(ten)) == 1
    assert ten[0] > 10
