"""The harness's instruments on a real device: ceilings, clock, memory, launch counts, and whole cases."""

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
    by_name = {ceiling.name: ceiling for ceiling in ceilings.measure(cuda)}
    assert {name: ceiling.reason for name, ceiling in by_name.items() if ceiling.reason} == {}
    rates = {name: ceiling.amount / min(ceiling.seconds) for name, ceiling in by_name.items()}
    assert min(rates.values()) > 1e11
    assert rates["matmul bfloat16"] > rates["matmul float32"]
    assert 0.5 * rates["matmul float32"] < rates["vector float32"] < 4 * rates["matmul float32"]


def test_the_clock_measures_device_time_not_host_time(cuda):
    clock = DeviceClock(cuda)
    x = torch.ones(16 * MIB, device=cuda)  # read and written: 128 MiB

    def call():
        for _ in range(10):
            x.add_(1)

    call()
    samples = [clock.sample([call, call], submit_seconds=1e-4)[0] for _ in range(10)]
    device = min(sample.device for sample in samples)
    assert 10 * 128 * MIB / 1e13 < device < 20e-3
    assert all(sample.submit < sample.wall for sample in samples)
    single = min(clock.sample([lambda: x.add_(1)] * 2, 1e-4)[0].device for _ in range(10))
    assert device == pytest.approx(10 * single, rel=0.5)


def test_peak_memory_is_what_a_call_allocates(cuda):
    inputs = torch.empty(8 * MIB, dtype=torch.uint8, device=cuda)
    peak = memory.peak(lambda: torch.empty(32 * MIB, dtype=torch.uint8, device=cuda), cuda, [inputs])
    assert (peak.peak_bytes, peak.input_bytes) == (32 * MIB, 8 * MIB)


@pytest.mark.parametrize("name", ["yoso", "yoso_e", "sdpa_flash", "none", "linear"])
def test_a_case_is_verified_and_measured(cuda, name):
    record = runner.run(case(name), EFFORT)
    assert (record.status, record.reasons) == ("ok", [])
    assert len(record.timing.device_seconds) == len(record.timing.submit_seconds) == 5
    assert record.timing.input_sets == 3
    clocks = record.timing.clocks
    assert clocks.core_mhz is None
    assert all(value is None or value > 0 for value in (clocks.sm_mhz, clocks.gpu_watts))  # containers may hide them
    assert record.memory.peak_bytes > 0
    assert record.conditions.unseen is None


def test_launch_counts_are_the_same_every_time(cuda):
    """The profiler loses records, more with every session in a process; see ``harness.measure.launches``."""
    record = runner.run(case("none", mode="forward"), EFFORT)
    counter = LaunchCounter()
    try:
        counts = [counter.counted(runner.run(case("linear"), EFFORT)).kernel_launches for _ in range(10)]
        assert counter.counted(record).kernel_launches == 0  # a copy is not a kernel
    finally:
        counter.close()
    assert len(set(counts)) == 1
    assert counts[0] > 10
