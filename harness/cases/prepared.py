"""How a case of each kind - operation, model, quality, task - is built, verified and made ready.

``prepare`` is the single entry. It builds the case, verifies it, and only then makes it ready. A kind of case is one
class below with two methods: ``verify`` returns its checks, and ``ready`` returns what can be timed, or the finished
result of a kind that is not timed.
"""

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor, nn

from harness.core.plugin import AttentionPlugin, ContractError
from harness.core.record import Check, Conditions, Divergence, Memory, Quality, Status, TaskResult, Timing
from harness.core.spec import AnySpec, Effort, ModelSpec, OperationSpec, QualitySpec, Scalar, TaskSpec
from harness.measure import conditions, inputs, kept_memory, memory, outside_torch, quality, timing, verify
from harness.measure.kept_memory import KeptMemory
from harness.statistics.disturbance import least_disturbed
from harness.training import CHECKPOINTS

INPUT_SETS = 3
"""Sets of inputs that the samples of a CUDA operation case take in turn."""
INPUT_BYTES = 2**33
"""Limit for the input sets of a case together."""


class RecordFields(TypedDict, total=False):
    """Fields of a ``Record``, collected while a case runs."""

    status: Status
    reasons: list[str]
    exact_softmax: bool
    knobs: dict[str, Scalar]
    kernel: str
    parameters: int | None
    batch: int | None
    checks: list[Check]
    timing: Timing
    memory: Memory
    work: dict[str, float] | None
    conditions: Conditions
    compile_seconds: float | None
    quality: Quality
    task: TaskResult
    divergence: Divergence


class Incorrect(Exception):
    """The case failed its verification."""

    def __init__(self, checks: list[Check]) -> None:
        super().__init__("; ".join(verify.failures(checks)))
        self.checks = checks


@dataclass(frozen=True)
class PreparedCase:
    """A verified case that is ready to be timed.

    Args:
        spec: the case.
        module: what ``calls`` call.
        calls: the call to measure, on one or more sets of inputs.
        held: tensors that exist before a call: inputs and weights.
        backward: whether a call needs gradients.
        fields: what is known for the record so far.
        kept: what a new module of an operation case keeps between calls; None: not measured.
    """

    spec: OperationSpec | ModelSpec
    module: nn.Module
    calls: list[Callable[[], Any]]
    held: list[Tensor]
    backward: bool
    fields: RecordFields
    kept: KeptMemory | None = None

    def time(self, effort: Effort, attempts: int = 1) -> Timing:
        """Warm the call up and sample it.

        Args:
            effort: how long.
            attempts: while other processes disturb the samples, so often they are taken; the least disturbed count.
        """
        timings: list[Timing] = []
        with self.grad_mode():
            while len(timings) < attempts and not (timings and not timings[-1].disturbed):
                timings.append(timing.measure(self.calls[0], self.spec.device, effort, self.calls[1:]))
        return least_disturbed(timings)

    def peak_memory(self) -> Memory:
        """Peak memory of the call, what it needs outside torch, and what stays allocated between calls."""
        call, device = self.calls[0], self.spec.device
        with self.grad_mode():
            measured = outside_torch.add(memory.peak(call, device, self.held), call, device)
            if self.kept is not None:
                kept = {"kept_bytes": self.kept.kept_bytes, "growth_bytes": self.kept.growth_bytes}
            elif isinstance(self.spec, ModelSpec):
                kept = {"growth_bytes": kept_memory.growth_bytes(call, device)}
            else:
                kept = {}
        return measured.model_copy(update=kept)

    def conditions(self) -> Conditions:
        """What the call does, except its kernels; see ``runner.kernel_launches`` for these."""
        with self.grad_mode():
            return conditions.observe(self.calls[0], self.module, self.spec)

    def grad_mode(self) -> AbstractContextManager[None]:
        """Gradients on or off, as the call needs them."""
        # no_grad instead of inference_mode: every plugin works under it, and it is what users of transformers run.
        return torch.set_grad_enabled(self.backward)


def prepare(
    plugin: AttentionPlugin, spec: AnySpec, verified: bool, observed: bool = False
) -> PreparedCase | RecordFields:
    """Build a case, verify it, and make it ready.

    Args:
        plugin: the attention of the case.
        spec: the case; the plugin supports it.
        verified: skip the verification, because a process of the same code has done it.
        observed: its memory will not be measured.

    Returns:
        A case to time; or the fields of the record, for a kind of case that is not timed.

    Raises:
        Incorrect: a check did not pass.
    """
    # Before the case is built: buffers that all modules of the process share are found only when they are allocated.
    kept = _kept_memory(plugin, spec) if isinstance(spec, OperationSpec) and not observed else None
    case = _build(plugin, spec)
    checks = [] if verified else case.verify()
    if not all(check.passed for check in checks):
        raise Incorrect(checks)
    ready = case.ready(checks)
    return replace(ready, kept=kept) if isinstance(ready, PreparedCase) else ready


def _kept_memory(plugin: AttentionPlugin, spec: OperationSpec) -> KeptMemory | None:
    """What a module of its own keeps between calls; None where it fails, which the verification will report."""
    first, backward = inputs.make(spec), spec.mode == "forward_backward"

    def call(module: nn.Module, number: int) -> None:
        tensors = first
        for _ in range(1 + number):
            tensors = inputs.rotated(tensors)
        _operation_call(module, tensors, backward)()

    with suppress(Exception), torch.set_grad_enabled(backward):
        return kept_memory.measure(lambda: plugin.build(spec).train(backward), call, spec.device)
    return None


class _BuiltCase(Protocol):
    """What each kind of case implements; its constructor builds the case from plugin and spec."""

    def verify(self) -> list[Check]:
        """Every check that must pass before anything is measured."""

    def ready(self, checks: list[Check]) -> PreparedCase | RecordFields:
        """What is measured; ``checks`` are those that passed."""


def _build(plugin: AttentionPlugin, spec: AnySpec) -> _BuiltCase:
    match spec:
        case OperationSpec():
            return _OperationCase(plugin, spec)
        case ModelSpec():
            return _ModelCase(plugin, spec)
        case QualitySpec():
            return _QualityCase(plugin, spec)
        case TaskSpec():
            return _TaskCase(spec)


class _OperationCase:
    """The attention alone, compared with its oracle."""

    def __init__(self, plugin: AttentionPlugin, spec: OperationSpec) -> None:
        self._plugin = plugin
        self._spec = spec
        self._inputs = inputs.make(spec)
        self._backward = spec.mode == "forward_backward"
        self._module = plugin.build(spec).train(self._backward)

    def verify(self) -> list[Check]:
        return verify.check(self._plugin, self._spec, self._module, self._inputs)

    def ready(self, checks: list[Check]) -> PreparedCase:
        first, backward = self._inputs, self._backward
        calls = [_operation_call(self._module, each, backward) for each in [first, *_further_inputs(first)]]
        held = [first.q, first.k, first.v, *self._module.parameters(), *([first.grad] if backward else [])]
        fields: RecordFields = {"checks": checks, "work": _work(self._plugin, self._spec)}
        return PreparedCase(self._spec, self._module, calls, held, backward, fields)


def _work(plugin: AttentionPlugin, spec: OperationSpec) -> dict[str, float] | None:
    """The plugin's ``cost``.

    Raises:
        ContractError: an amount is not a finite number of 0 or more.
    """
    cost = plugin.cost(spec)
    if cost is None:
        return None
    work = dict(cost)
    for name, amount in work.items():
        is_number = isinstance(amount, Real) and not isinstance(amount, bool)
        if not (isinstance(name, str) and is_number and math.isfinite(amount) and amount >= 0):
            received = amount if is_number else type(amount).__name__
            raise ContractError(f"`cost` must give finite numbers of 0 or more by name, got {name!r}: {received}")
    return {name: float(amount) for name, amount in work.items()}


def _operation_call(module: nn.Module, tensors: inputs.Inputs, backward: bool) -> Callable[[], Any]:
    q, k, v = (x.detach().requires_grad_(backward) for x in (tensors.q, tensors.k, tensors.v))

    def call() -> Any:
        out = module(q, k, v, tensors.key_padding_mask)
        return torch.autograd.grad(out, (q, k, v), tensors.grad) if backward else out

    return call


def _further_inputs(first: inputs.Inputs) -> list[inputs.Inputs]:
    """More inputs that samples on CUDA take in turn, so that no call finds its data cached by the one before."""
    bytes_per_set = 4 * first.q.nbytes
    sets = min(INPUT_SETS, INPUT_BYTES // bytes_per_set) if first.q.is_cuda else 1
    all_inputs = [first]
    while len(all_inputs) < sets:
        all_inputs.append(inputs.rotated(all_inputs[-1]))
    return all_inputs[1:]


class _ModelCase:
    """A whole model: finite results, agreement with eager softmax, and own weights compared with the oracle."""

    def __init__(self, plugin: AttentionPlugin, spec: ModelSpec) -> None:
        from harness.measure import largest_batch  # transformers takes seconds to import
        from harness.models import model_case

        self._plugin = plugin
        self._batch = largest_batch.find(spec) if spec.largest_batch else None
        self._spec = spec if self._batch is None else spec.model_copy(update={"batch": self._batch})
        self._built = model_case.build(self._spec)

    def verify(self) -> list[Check]:
        from harness.measure import model_agreement

        checks = self._built.check()
        if all(check.passed for check in checks):
            checks += model_agreement.check(self._plugin, self._spec, self._built)
        return checks

    def ready(self, checks: list[Check]) -> PreparedCase:
        built = self._built
        fields: RecordFields = {"checks": checks, "parameters": built.parameters, "batch": self._batch}
        return PreparedCase(self._spec, built.model, [built.call], list(built.held), True, fields)


class _QualityCase:
    """Errors of an approximation. They are the result itself, so nothing is verified before."""

    def __init__(self, plugin: AttentionPlugin, spec: QualitySpec) -> None:
        self._plugin = plugin
        self._spec = spec
        self._module = plugin.build(spec)

    def verify(self) -> list[Check]:
        return []

    def ready(self, checks: list[Check]) -> RecordFields:
        return {"quality": quality.errors(self._plugin, self._spec, self._module, inputs.make(self._spec))}


class _TaskCase:
    """A training. The attention inside is verified by its operation cases, so nothing is verified before."""

    def __init__(self, spec: TaskSpec) -> None:
        self._spec = spec

    def verify(self) -> list[Check]:
        return []

    def ready(self, checks: list[Check]) -> RecordFields:
        from harness.training.train import train_with_progress_bar  # transformers' Trainer takes seconds to import

        folder = os.environ.get(CHECKPOINTS)
        result = train_with_progress_bar(self._spec, Path(folder) if folder else None)
        return {"task": result, "parameters": result.parameters}
