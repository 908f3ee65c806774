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
from harness.measure import (
    conditions,
    failure_reasons,
    inputs,
    kept_memory,
    memory,
    neighbours,
    outside_torch,
    quality,
    timing,
    verify,
)
from harness.measure.kept_memory import KeptMemory
from harness.measure.kept_samples import KeptSamples
from harness.measure.timed_calls import TimedCalls, operation_call
from harness.statistics.disturbance import least_disturbed
from harness.training import CHECKPOINTS


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
    unverified: list[str]
    findings: list[str]
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
        super().__init__("; ".join(failure_reasons.reasons(checks)))
        self.checks = checks


class VerifiedCalls(timing.Calls, Protocol):
    """The calls that are timed, some of whose results are kept for verification."""

    seed: int
    """Seed of all inputs."""
    input_sets: int
    """Sets of inputs whose memory the calls use in turn."""
    kept: KeptSamples[Any]
    """The results that were kept; what they are only the implementation knows."""

    def check(self) -> list[Check]:
        """Verify the results that were kept; there are none before the first sample."""


@dataclass(frozen=True)
class PreparedCase:
    """A verified case that is ready to be timed.

    Args:
        spec: the case.
        module: what is called.
        call: one call, always on the same inputs, for everything but the timing.
        timed_calls: the calls that are timed.
        held: tensors that exist before ``call``: inputs and weights.
        backward: whether a call needs gradients.
        fields: what is known for the record so far.
        kept: what a new module of an operation case keeps between calls; None: not measured.
    """

    spec: OperationSpec | ModelSpec
    module: nn.Module
    call: Callable[[], Any]
    timed_calls: VerifiedCalls
    held: list[Tensor]
    backward: bool
    fields: RecordFields
    kept: KeptMemory | None = None

    def time(self, effort: Effort, attempts: int = 1) -> Timing:
        """Warm the calls up and sample them.

        Args:
            effort: how long.
            attempts: while other processes disturb the samples, so often they are taken; the least disturbed count.
        """
        calls = self.timed_calls
        timings: list[Timing] = []
        kept = []
        with self.grad_mode():
            while len(timings) < attempts and not (timings and not timings[-1].disturbed):
                if timings:
                    calls.kept = KeptSamples()
                timings.append(timing.measure(calls, self.spec.device, effort))
                kept.append(calls.kept)
        best = least_disturbed(timings)
        calls.kept = kept[best]  # verified are results of the attempt that counts
        given = {"input_sets": calls.input_sets, "inputs_seed": calls.seed, "attempts": len(timings)}
        return timings[best].model_copy(update=given)

    def verify_timed_calls(self) -> None:
        """Verify results of the timed calls and add the checks to ``fields``.

        Raises:
            Incorrect: a check did not pass.
        """
        checks = [*self.fields.get("checks", []), *self.timed_calls.check()]
        if not all(check.passed for check in checks):
            raise Incorrect(checks)
        self.fields["checks"] = checks

    def peak_memory(self) -> Memory:
        """Peak memory of the call, what it needs outside torch, and what stays allocated between calls."""
        device = self.spec.device
        with self.grad_mode():
            # Each call has inputs of its own, because a result that is remembered needs no memory.
            measured = outside_torch.add(memory.peak(self._ready_call(), device, self.held), self._ready_call, device)
            if self.kept is not None:
                kept = {"kept_bytes": self.kept.kept_bytes, "growth_bytes": self.kept.growth_bytes}
            elif isinstance(self.spec, ModelSpec):
                kept = {"growth_bytes": kept_memory.growth_bytes(lambda: self._ready_call()(), device)}
            else:
                kept = {}
        return measured.model_copy(update=kept)

    def _ready_call(self) -> Callable[[], Any]:
        return self.timed_calls.ready(1, "warm-up").calls[0]

    def conditions(self) -> Conditions:
        """What the call does, except its kernels; see ``runner.kernel_launches`` for these."""
        with self.grad_mode():
            return conditions.observe(self.call, self.module, self.spec)

    def grad_mode(self) -> AbstractContextManager[None]:
        """Gradients on or off, as the call needs them."""
        # no_grad instead of inference_mode: every plugin works under it, and it is what users of transformers run.
        return torch.set_grad_enabled(self.backward)


def prepare(
    plugin: AttentionPlugin, spec: AnySpec, verified: bool, observed: bool = False, inputs_seed: int | None = None
) -> PreparedCase | RecordFields:
    """Build a case, verify it, and make it ready.

    Args:
        plugin: the attention of the case.
        spec: the case; the plugin supports it.
        verified: skip the verification, because a process of the same code has done it.
        observed: its memory will not be measured.
        inputs_seed: seed of the inputs of the timed calls; None: drawn from entropy.

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
    ready = case.ready(checks, inputs_seed)
    return replace(ready, kept=kept) if isinstance(ready, PreparedCase) else ready


def _kept_memory(plugin: AttentionPlugin, spec: OperationSpec) -> KeptMemory | None:
    """What a module of its own keeps between calls; None where it fails, which the verification will report."""
    fresh, backward = inputs.FreshInputs(spec, None, sets=0), spec.mode == "forward_backward"

    def call(module: nn.Module, number: int) -> None:
        operation_call(module, fresh.again(number), backward)()

    with suppress(Exception), torch.set_grad_enabled(backward):
        return kept_memory.measure(lambda: plugin.build(spec).train(backward), call, spec.device)
    return None


class _BuiltCase(Protocol):
    """What each kind of case implements; its constructor builds the case from plugin and spec."""

    def verify(self) -> list[Check]:
        """Every check that must pass before anything is measured."""

    def ready(self, checks: list[Check], inputs_seed: int | None) -> PreparedCase | RecordFields:
        """What is measured; ``checks`` are those that passed, and the seed is that of ``prepare``."""


def _build(plugin: AttentionPlugin, spec: AnySpec) -> _BuiltCase:
    match spec:
        case OperationSpec():
            return _OperationCase(plugin, spec)
        case ModelSpec():
            return _ModelCase(plugin, spec)
        case QualitySpec():
            return _QualityCase(plugin, spec)
        case TaskSpec():
            return _TaskCase(plugin, spec)


class _OperationCase:
    """The attention alone, compared with its oracle."""

    def __init__(self, plugin: AttentionPlugin, spec: OperationSpec) -> None:
        self._plugin = plugin
        self._spec = spec
        self._inputs = inputs.make(spec)
        self._backward = spec.mode == "forward_backward"
        self._module = plugin.build(spec).train(self._backward)

    def verify(self) -> list[Check]:
        of_neighbours = neighbours.check(self._plugin, self._spec)
        return verify.check(self._plugin, self._spec, self._module, self._inputs) + of_neighbours

    def ready(self, checks: list[Check], inputs_seed: int | None) -> PreparedCase:
        given, backward = self._inputs, self._backward
        call = operation_call(self._module, given, backward)
        timed_calls = TimedCalls(self._plugin, self._spec, self._module, inputs_seed)
        held = [given.q, given.k, given.v, *self._module.parameters(), *([given.grad] if backward else [])]
        fields: RecordFields = {"checks": checks, "work": _work(self._plugin, self._spec)}
        return PreparedCase(self._spec, self._module, call, timed_calls, held, backward, fields)


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


class _ModelCase:
    """A whole model: finite results, the attention of every layer, and agreement with eager softmax."""

    def __init__(self, plugin: AttentionPlugin, spec: ModelSpec) -> None:
        from harness.measure import largest_batch  # transformers takes seconds to import
        from harness.models import model_case

        self._plugin = plugin
        self._batch = largest_batch.find(spec) if spec.largest_batch else None
        self._spec = spec if self._batch is None else spec.model_copy(update={"batch": self._batch})
        self._built = model_case.build(self._spec)

    def verify(self) -> list[Check]:
        from harness.measure import model_agreement

        return model_agreement.check(self._plugin, self._spec, self._built)

    def ready(self, checks: list[Check], inputs_seed: int | None) -> PreparedCase:
        from harness.measure import model_agreement
        from harness.measure.timed_model_calls import TimedModelCalls

        built = self._built
        fields: RecordFields = {
            "checks": checks,
            "unverified": model_agreement.unverified(self._spec, built),
            "parameters": built.parameters,
            "batch": self._batch,
        }
        timed_calls = TimedModelCalls(self._plugin, self._spec, built, inputs_seed)
        return PreparedCase(self._spec, built.model, built.call, timed_calls, list(built.held), True, fields)


class _QualityCase:
    """Errors of an approximation, which are its results; verified is that the module computes its own definition."""

    def __init__(self, plugin: AttentionPlugin, spec: QualitySpec) -> None:
        self._plugin = plugin
        self._spec = spec
        self._module = plugin.build(spec)
        self._inputs = inputs.make(spec)
        self._unverified: list[str] = []

    def verify(self) -> list[Check]:
        checks = quality.check(self._plugin, self._spec, self._module, self._inputs)
        of_budget = quality.check_budget(self._plugin, self._spec, self._inputs)
        if isinstance(of_budget, str):
            self._unverified = [f"the effect of the budget: {of_budget}"] if self._plugin.budget else []
            return checks
        return checks + of_budget

    def ready(self, checks: list[Check], inputs_seed: int | None) -> RecordFields:
        del inputs_seed  # nothing is timed
        errors, of_draw = quality.errors(self._plugin, self._spec, self._module, self._inputs)
        checks = checks + of_draw
        if not all(check.passed for check in checks):
            raise Incorrect(checks)
        return {"quality": errors, "checks": checks, "unverified": self._unverified}


class _TaskCase:
    """A training; the attention inside is verified before it and after it."""

    def __init__(self, plugin: AttentionPlugin, spec: TaskSpec) -> None:
        self._plugin = plugin
        self._spec = spec

    def verify(self) -> list[Check]:
        from harness.training.model_verification import Verification
        from harness.training.train import check_untrained  # transformers' Trainer takes seconds to import

        verification = Verification(self._plugin, self._spec)
        check_untrained(self._spec, verification)
        return verification.checks

    def ready(self, checks: list[Check], inputs_seed: int | None) -> RecordFields:
        del inputs_seed  # nothing is timed
        from harness.training.model_verification import Verification
        from harness.training.train import train_with_progress_bar

        folder = os.environ.get(CHECKPOINTS)
        verification = Verification(self._plugin, self._spec)
        result = train_with_progress_bar(self._spec, Path(folder) if folder else None, verification=verification)
        checks = checks + verification.checks
        if not all(check.passed for check in checks):
            raise Incorrect(checks)
        return {
            "task": result,
            "parameters": result.parameters,
            "checks": checks,
            "unverified": verification.unverified,
            "findings": verification.findings,
        }
