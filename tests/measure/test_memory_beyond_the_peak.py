"""Memory that the peak of a call at torch's allocator does not show: kept, growing, and outside torch."""

import gc

import numpy as np
import pytest
import torch
from torch import nn
from wrong_attentions import RIGHT, StubPlugin, plugin_of, right, wrong_shape

from harness.cases import prepared, runner
from harness.core import registry
from harness.core.spec import Effort, ModelSpec, OperationSpec

EFFORT = Effort(min_samples=1, max_samples=1, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)
MIB = 2**20
OUTPUT_BYTES = 4 * 512 * 64 * 4


class KeepsScratchFromItsConstruction(nn.Module):
    def __init__(self):
        super().__init__()
        self.scratch = torch.empty(16 * MIB, dtype=torch.uint8)

    def forward(self, q, k, v, mask):
        return right(q, k, v, mask)


class KeepsNumpyScratch(nn.Module):
    def __init__(self):
        super().__init__()
        self.scratch = np.empty(16 * MIB, np.uint8)

    def forward(self, q, k, v, mask):
        return right(q, k, v, mask)


class SharesScratch(nn.Module):
    """All modules of the process share a buffer that the first call allocates."""

    scratch: torch.Tensor | None = None

    def forward(self, q, k, v, mask):
        if SharesScratch.scratch is None:
            SharesScratch.scratch = torch.empty(16 * MIB, dtype=torch.uint8)
        return right(q, k, v, mask)


class WritesIntoTwoOutputsInTurn(nn.Module):
    def __init__(self):
        super().__init__()
        self.outputs = []

    def forward(self, q, k, v, mask):
        out = right(q, k, v, mask)
        if len(self.outputs) < 2:
            self.outputs.append(torch.empty_like(out))
        self.outputs.reverse()
        return self.outputs[0].copy_(out)


class LeaksItsOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.outputs = []

    def forward(self, q, k, v, mask):
        self.outputs.append(right(q, k, v, mask))
        return self.outputs[-1].clone()


class HoldsItsInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.inputs = []

    def forward(self, q, k, v, mask):
        self.inputs.append(q)
        return right(q, k, v, mask)


class LeaksNumpyArrays(nn.Module):
    def __init__(self):
        super().__init__()
        self.arrays = []

    def forward(self, q, k, v, mask):
        self.arrays.append(np.empty(3 * MIB, np.uint8))
        return right(q, k, v, mask)


class ComputesInNumpyMemory(nn.Module):
    def forward(self, q, k, v, mask):
        scratch = np.ones(100 * MIB, np.uint8)
        return right(q, k, v, mask) + float(scratch[0] - 1)


class OwnsParameters(nn.Module):
    """Its weights are not workspace, and a buffer is."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4 * MIB // 4))
        self.register_buffer("table", torch.zeros(2 * MIB // 4))

    def forward(self, q, k, v, mask):
        return right(q, k, v, mask)


class IsInAReferenceCycle(nn.Module):
    """What only the garbage collector frees is not kept."""

    def forward(self, q, k, v, mask):
        cycle = [right(q, k, v, mask)]
        cycle.append(cycle)
        return cycle[0].clone()


def memory_of(make_module, mode="forward"):
    spec = OperationSpec(attention="stub", heads=4, seq_len=512, head_dim=64, seed=0, mode=mode)
    return prepared.prepare(StubPlugin("stub", make_module), spec, verified=True).peak_memory()


@pytest.mark.parametrize(
    ("make_module", "kept", "growth"),
    [
        (KeepsScratchFromItsConstruction, 16 * MIB, 0),
        (KeepsNumpyScratch, 16 * MIB, 0),
        (SharesScratch, 16 * MIB, 0),
        (WritesIntoTwoOutputsInTurn, 2 * OUTPUT_BYTES, 0),
        (LeaksItsOutputs, 2 * OUTPUT_BYTES, OUTPUT_BYTES),
        (HoldsItsInputs, 2 * OUTPUT_BYTES, OUTPUT_BYTES),
        (LeaksNumpyArrays, 6 * MIB, 3 * MIB),
        (OwnsParameters, 2 * MIB, 0),
        (IsInAReferenceCycle, 0, 0),
    ],
)
def test_memory_between_calls_is_seen(make_module, kept, growth):
    measured = memory_of(make_module)
    assert measured.kept_bytes == pytest.approx(kept, rel=0.01)
    assert measured.growth_bytes == pytest.approx(growth, rel=0.01)


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_a_module_without_state_keeps_nothing(mode):
    measured = memory_of(RIGHT.make_module, mode)
    assert (measured.kept_bytes, measured.growth_bytes) == (0, 0)
    assert measured.outside_torch_bytes < 2**16
    assert measured.resident_bytes is not None


def test_numpy_memory_of_a_call_is_seen_outside_torch():
    measured = memory_of(ComputesInNumpyMemory)
    assert measured.outside_torch_bytes == pytest.approx(100 * MIB, rel=0.01)
    assert measured.resident_bytes >= 99 * MIB
    assert measured.peak_bytes < 50 * MIB
    assert measured.kept_bytes == 0


@pytest.mark.parametrize("name", [name for name in registry.names() if name != "flex"])  # it compiles for seconds
def test_no_attention_leaks(name):
    spec = OperationSpec(attention=name, heads=2, seq_len=256, head_dim=64, seed=0)
    plugin = registry.get(name)
    if plugin.unsupported(spec):
        pytest.skip("unsupported here")
    measured = prepared.prepare(plugin, spec, verified=True).peak_memory()
    assert measured.growth_bytes == 0
    assert measured.kept_bytes < 2**17  # random features, hash planes, positions
    assert measured.outside_torch_bytes < 2**18


def test_the_record_of_a_verified_case_has_them():
    registry.add(StubPlugin("stub", KeepsScratchFromItsConstruction))
    try:
        record = runner.run(OperationSpec(attention="stub", heads=1, seq_len=64, seed=0), EFFORT)
    finally:
        registry.remove("stub")
    assert (record.memory.kept_bytes, record.memory.growth_bytes) == (16 * MIB, 0)


def test_a_module_that_fails_has_no_kept_memory_and_its_usual_status():
    registry.add(plugin_of(wrong_shape))
    try:
        record = runner.run(
            OperationSpec(attention="wrong_shape", heads=1, seq_len=64, mode="forward_backward"), EFFORT
        )
    finally:
        registry.remove("wrong_shape")
    assert record.status == "incorrect"


def test_a_model_has_its_growth():
    spec = ModelSpec(
        attention="sdpa", family="yoso", head="encoder", seq_len=32, hidden_size=32, layers=1, heads=2, vocab_size=99
    )  # fmt: skip
    measured = runner.run(spec, EFFORT).memory
    assert measured.growth_bytes == 0
    assert measured.kept_bytes is None


@pytest.mark.parametrize("frozen", [True, False])
def test_the_measurement_leaves_objects_frozen_as_they_were(frozen):
    (gc.freeze if frozen else gc.unfreeze)()
    try:
        memory_of(RIGHT.make_module)
        assert (gc.get_freeze_count() > 0) is frozen
    finally:
        gc.unfreeze()
