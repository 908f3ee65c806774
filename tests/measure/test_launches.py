"""Counts of one call: kernels on a simulated CUDA device, and operators of a real call on the CPU."""

from types import SimpleNamespace

import pytest
import synthetic
import torch
import wrong_attentions as wrong
from torch.autograd import DeviceType

from harness.cases import runner
from harness.core import registry
from harness.core.spec import Effort, OperationSpec
from harness.gate.judge import judgement
from harness.gate.judge.thresholds import Settings
from harness.measure import launches

EFFORT = Effort(min_samples=3, max_samples=3, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)


class SimulatedDevice:
    """A CUDA device, torch's profiler, and a tensor on the device. Profiled work leaves events."""

    def __init__(self, blind):
        self.profiling, self.events, self.lost, self.number = False, [], 0, 0
        self.profiler = SimpleNamespace(
            kineto_results=SimpleNamespace(events=lambda: [] if blind else self.events),
        )

    def runs(self, name, device=DeviceType.CUDA, annotation=False, number=0):
        if self.profiling:
            self.events.append(
                SimpleNamespace(
                    name=lambda: name,
                    device_type=lambda: device,
                    is_user_annotation=lambda: annotation,
                    correlation_id=lambda: number,
                )
            )

    def launches(self, name, by="cudaLaunchKernel"):
        """A kernel and the host's call that starts it; the records of the first ``lost`` kernels are lost."""
        self.number += 1
        number = self.number
        self.runs(by, device=DeviceType.CPU, number=number)
        if self.profiling and self.lost:
            self.lost -= 1
        else:
            self.runs(name, number=number)

    def add_(self, _):
        self.launches("vectorized_elementwise_kernel")

    def profile(self, activities, acc_events):
        assert activities == [torch.profiler.ProfilerActivity.CUDA]
        return self

    def __enter__(self):
        self.profiling = True
        return self

    def __exit__(self, *_):
        self.profiling = False


@pytest.fixture
def device(monkeypatch, request):
    simulated = SimulatedDevice(blind=getattr(request, "param", False))
    monkeypatch.setattr(launches, "profile", simulated.profile)
    monkeypatch.setattr(launches.torch, "zeros", lambda *_, device: simulated)
    monkeypatch.setattr(launches.torch.cuda, "synchronize", lambda _: None)
    return simulated


def test_kernels_are_counted_and_copies_fills_and_host_calls_are_not(device):
    def call():
        device.launches("flash_fwd_kernel")
        device.runs("Memcpy DtoD (Device -> Device)", number=50)
        device.runs("cudaMemcpyAsync", device=DeviceType.CPU, number=50)
        device.runs("Memset (Device)", number=51)
        device.launches("flash_fwd_kernel", by="cuLaunchKernelEx")
        device.runs("step", annotation=True)

    assert launches.count(call, "cuda:0") == 2


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_kernels_without_a_record_are_counted_by_their_launches(device, lost):
    device.lost = lost
    assert (
        launches.count(lambda: [device.launches("one"), device.launches("two"), device.launches("three")], "cuda") == 3
    )


def test_each_kernel_of_a_graph_counts_although_the_host_launches_it_once(device):
    def call():
        device.runs("cudaGraphLaunch", device=DeviceType.CPU, number=70)
        for _ in range(5):
            device.runs("kernel_of_the_graph", number=70)

    assert launches.count(call, "cuda") == 5


def test_a_call_without_a_kernel_counts_zero(device):
    assert launches.count(lambda: device.runs("Memset (Device)"), "cuda") == 0


@pytest.mark.parametrize("device", [True], indirect=True, ids=["blind"])
def test_the_count_is_none_if_the_profiler_sees_nothing(device):
    assert launches.count(lambda: device.runs("flash_fwd_kernel"), "cuda") is None


def test_the_count_is_none_on_a_cpu_and_the_call_is_not_made():
    assert launches.count(lambda: pytest.fail("called"), "cpu") is None


def measured(attend):
    plugin = wrong.plugin_of(attend)
    plugin.name = "counted"
    registry.add(plugin)
    try:
        record = runner.run(OperationSpec(attention="counted", seq_len=48, heads=2, mode="forward_backward"), EFFORT)
    finally:
        registry.remove("counted")
    assert record.status == "ok", record.reasons
    return record


def test_the_gate_detects_one_more_operator():
    base, head = measured(wrong.right), measured(lambda *inputs: wrong.right(*inputs) * 1.0)
    assert head.conditions.operators == base.conditions.operators + 2  # the multiplication and its gradient
    assert head.kernel_launches is None

    def verdict(before, after):
        judged = judgement.judge(synthetic.run([before]), synthetic.run([after]), Settings())
        return {finding.metric.name: finding.verdict for finding in judged.findings}["operators"]

    assert [verdict(base, head), verdict(base, base), verdict(head, base)] == ["MORE", "SAME", "FEWER"]
