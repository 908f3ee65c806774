"""The attention under test: its specs, calls of its module, and how far two of its results may differ."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from _pytest.outcomes import Skipped  # pytest.skip.Exception, which no class can derive from for mypy
from torch import Tensor, nn

from harness.core.plugin import AttentionPlugin
from harness.core.record import Check
from harness.core.spec import Dtype, OperationSpec
from harness.measure import inputs
from harness.measure.failure_reasons import reasons
from harness.measure.inputs import Inputs
from harness.measure.sampled_rows import relative_error, run_oracle, sample_rows
from harness.measure.verify import FLOOR_EPS, MAX_ALLOWED, ROUNDING_FACTOR, ROWS

SIZES = {"batch": 2, "heads": 2, "head_dim": 64, "seq_len": 256}
"""Sizes of most tests, which most kernels support. Lengths that are no multiple of a block have their own test."""

RESULTS = ("output", "gradient of q", "gradient of k", "gradient of v")
GRADIENT_FACTOR = 16
"""Gradients may differ by so many times what outputs may: they round more, and a wrong one has an error near 1."""
ZERO_NORM = 1e-6
"""Norm below which a gradient is zero except for rounding."""


class Refused(Skipped):
    """A case is unsupported although the capabilities declare every ability that it needs."""

    __module__ = "builtins"  # so that pytest prints "Refused", as it prints "Skipped", without the module's name


@dataclass
class Coverage:
    """What the tests so far needed of one attention."""

    built: bool = False
    """The module was built."""
    supported: set[str] = field(default_factory=set)
    """Declared abilities that a supported case needed."""
    refused: dict[str, str] = field(default_factory=dict)
    """Declared abilities that a refused case needed, with the reasons against the first such case."""

    mistakes: list[str] = field(default_factory=list)
    """The known mistakes that wrong results equal, one for each test that found one."""

    def only_refused(self) -> dict[str, str]:
        """Declared abilities of which every case was refused, with reasons."""
        return {ability: why for ability, why in sorted(self.refused.items()) if ability not in self.supported}


@dataclass(frozen=True)
class AttentionUnderTest:
    """``plugin`` on ``device`` in ``dtype``. A spec that it does not support skips the test with its reasons.

    ``coverage`` is shared by all tests of the attention; ``required`` has the abilities that this test needs.
    """

    plugin: AttentionPlugin
    device: str
    dtype: Dtype
    coverage: Coverage = field(default_factory=Coverage)
    required: list[str] = field(default_factory=list)

    def unchecked_spec(self, **changes: Any) -> OperationSpec:
        """A case of the usual ``SIZES`` with ``changes``, whether the plugin supports it or not."""
        defaults = {"attention": self.plugin.name, "device": self.device, "dtype": self.dtype}
        return OperationSpec.model_validate(defaults | SIZES | changes)

    def spec(self, **changes: Any) -> OperationSpec:
        """A case of the usual ``SIZES`` with ``changes``; skips the test where the plugin does not support it."""
        spec = self.unchecked_spec(**changes)
        refusals = "; ".join(self.plugin.unsupported(spec))
        abilities = self._abilities(spec)
        is_declared = all(abilities.values())
        if refusals and is_declared:
            self.coverage.refused = dict.fromkeys(abilities, refusals) | self.coverage.refused
            raise Refused(refusals)
        if refusals:
            pytest.skip(refusals)
        if is_declared:
            self.coverage.supported.update(abilities)
        return spec

    def build(self, spec: OperationSpec) -> nn.Module:
        """The module, in training mode where the spec asks for gradients."""
        self.coverage.built = True
        return self.plugin.build(spec).train(spec.mode == "forward_backward")

    def failures(self, checks: Sequence[Check]) -> list[str]:
        """Why the checks failed, as ``harness.measure.failure_reasons`` says it; nothing if all passed."""
        self.coverage.mistakes += [check.equals for check in checks if check.equals is not None][:1]
        return reasons(checks)

    def fresh_copy(self, module: nn.Module, spec: OperationSpec) -> nn.Module:
        """A new module for ``spec`` with the weights of ``module`` and none of its other state."""
        copy = self.build(spec)
        copy.load_state_dict(module.state_dict())
        return copy

    def declares(self, ability: str) -> bool:
        """Whether the capability holds here; one given as text holds where that names the device type or the dtype."""
        declared = getattr(self.plugin.capabilities, ability)
        if not isinstance(declared, str):
            return bool(declared)
        return not {torch.device(self.device).type, self.dtype}.isdisjoint(re.findall(r"\w+", declared))

    def require(self, ability: str) -> None:
        """Skip the test, with the plugin's reason, where the plugin does not declare the capability."""
        if not self.declares(ability):
            reason = self.plugin.capabilities.reason(ability) or f"only on {getattr(self.plugin.capabilities, ability)}"
            pytest.skip(f"{ability} is not declared: {reason}")
        self.required.append(ability)

    def _abilities(self, spec: OperationSpec) -> dict[str, bool]:
        """The abilities that ``spec`` and this test need, and whether the capabilities declare them on this device."""
        declared = self.plugin.capabilities
        dtype = spec.dtype in declared.dtypes and torch.device(self.device).type in declared.devices
        needed = [*self.required]
        needed += ["padding_mask"] if spec.padding else []
        needed += ["backward"] if spec.mode == "forward_backward" else []
        return {ability: self.declares(ability) for ability in needed} | {spec.dtype: dtype}

    def allowed(self, spec: OperationSpec, tensors: Inputs) -> float:
        """The allowed relative difference of two calls with equal results; each may have the verifier's error."""
        rows = sample_rows(tensors, ROWS, spec.seed)
        exact, rounded = (
            run_oracle(self.plugin, spec, tensors, rows, dtype, backward=False).output
            for dtype in (torch.float64, tensors.q.dtype)
        )
        error = relative_error(rounded, exact)
        floor = FLOOR_EPS * torch.finfo(tensors.q.dtype).eps + self.plugin.kernel_error
        return min(2 * (ROUNDING_FACTOR * error + floor), MAX_ALLOWED) if math.isfinite(error) else floor


def call(module: nn.Module, tensors: Inputs, seed: int = 0) -> Tensor:
    """The output without gradients; torch's random generator is seeded with ``seed`` before the call."""
    torch.manual_seed(seed)
    with torch.no_grad():
        out: Tensor = module(tensors.q, tensors.k, tensors.v, tensors.key_padding_mask)
    return out


def call_with_gradients(module: nn.Module, tensors: Inputs, seed: int = 0) -> list[Tensor]:
    """The output and the gradients of q, k and v, for the upstream gradient ``tensors.grad``."""
    q, k, v = (x.detach().requires_grad_() for x in (tensors.q, tensors.k, tensors.v))
    torch.manual_seed(seed)
    out = module(q, k, v, tensors.key_padding_mask)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), tensors.grad)]


def results(module: nn.Module, tensors: Inputs, spec: OperationSpec) -> list[Tensor]:
    """The output and, where ``spec.mode`` is forward_backward, the gradients of q, k and v."""
    return call_with_gradients(module, tensors) if spec.mode == "forward_backward" else [call(module, tensors)]


def differences(actual: Sequence[Tensor], expected: Sequence[Tensor], allowed: float) -> list[str]:
    """One message for each of two ``results`` whose relative difference exceeds ``allowed``."""
    messages = []
    for name, actual_result, expected_result in zip(RESULTS, actual, expected, strict=False):
        limit = allowed if name == "output" else GRADIENT_FACTOR * allowed
        norm = max(expected_result.double().norm().item(), ZERO_NORM)
        error = relative_error(actual_result, expected_result, norm)
        if not error <= limit:
            messages.append(f"{name} differs by {error:.3g}, allowed {limit:.3g}")
    return messages


def other_inputs(spec: OperationSpec) -> Inputs:
    """Inputs of the same shapes with other values than ``inputs.make(spec)``."""
    return inputs.make(spec.model_copy(update={"seed": spec.seed + 1}))


def copied(tensors: Inputs) -> Inputs:
    """The same values in newly allocated memory."""
    return replace(tensors, q=tensors.q.clone(), k=tensors.k.clone(), v=tensors.v.clone(), grad=tensors.grad.clone())


def same_bits(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether all tensors are equal; here NaN equals NaN."""
    pairs = zip(actual, expected, strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in pairs)
