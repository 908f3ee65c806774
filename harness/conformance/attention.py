"""An attention under test: its specs, its module's calls, and how far two of its outputs may lie apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.core.plugin import AttentionPlugin
from harness.core.spec import Dtype, OperationSpec
from harness.measure import inputs
from harness.measure.inputs import Inputs
from harness.measure.sampled_rows import relative_error, run_oracle, sample_rows
from harness.measure.verify import FLOOR_EPS, MAX_ALLOWED, ROUNDING_FACTOR, ROWS

SIZES = {"batch": 2, "heads": 2, "head_dim": 64, "seq_len": 256}
"""Of most tests: what most kernels take. Awkward lengths have a test of their own."""

RESULTS = ("output", "gradient of q", "gradient of k", "gradient of v")
GRADIENTS = 16
"""Gradients may lie so many times further apart than outputs: they round more, and a fault gives an error near 1."""
SMALL = 1e-6
"""Norm below which a gradient is zero but for rounding."""


@dataclass(frozen=True)
class Attention:
    """``plugin`` on ``device`` in ``dtype``. Specs that it does not support skip the test with its reasons."""

    plugin: AttentionPlugin
    device: str
    dtype: Dtype

    def spec(self, **changes: Any) -> OperationSpec:
        """A small case with ``changes``; the test is skipped where the plugin declares it unsupported."""
        given = {"attention": self.plugin.name, "device": self.device, "dtype": self.dtype} | SIZES | changes
        spec = OperationSpec.model_validate(given)
        reasons = self.plugin.unsupported(spec)
        if reasons:
            pytest.skip("; ".join(reasons))
        return spec

    def build(self, spec: OperationSpec) -> nn.Module:
        """The module, in the mode that the spec asks for."""
        return self.plugin.build(spec).train(spec.mode == "forward_backward")

    def twin(self, module: nn.Module, spec: OperationSpec) -> nn.Module:
        """Another module for ``spec``, with the weights of ``module`` and nothing of what it has seen."""
        built = self.build(spec)
        built.load_state_dict(module.state_dict())
        return built

    def declares(self, ability: str) -> bool:
        """Whether the capability holds on this device; one in words holds where the words name the device's type."""
        declared = getattr(self.plugin.capabilities, ability)
        return torch.device(self.device).type in declared if isinstance(declared, str) else bool(declared)

    def needs(self, ability: str) -> None:
        """Skip the test, with the plugin's reason, where it does not declare the capability."""
        if not self.declares(ability):
            reason = self.plugin.capabilities.reason(ability) or f"only on {getattr(self.plugin.capabilities, ability)}"
            pytest.skip(f"{ability} is not declared: {reason}")

    def allowed(self, spec: OperationSpec, given: Inputs) -> float:
        """How far two calls that mean the same may lie apart, relative: each may be off by what the verifier allows."""
        rows = sample_rows(given, ROWS, spec.seed)
        exact, rounded = (
            run_oracle(self.plugin, spec, given, rows, dtype, backward=False).output
            for dtype in (torch.float64, given.q.dtype)
        )
        error = relative_error(rounded, exact)
        floor = FLOOR_EPS * torch.finfo(given.q.dtype).eps + self.plugin.kernel_error
        return min(2 * (ROUNDING_FACTOR * error + floor), MAX_ALLOWED) if math.isfinite(error) else floor


def call(module: nn.Module, given: Inputs, seed: int = 0) -> Tensor:
    """The output without gradients, the random numbers of the call from ``seed``."""
    torch.manual_seed(seed)
    with torch.no_grad():
        out: Tensor = module(given.q, given.k, given.v, given.key_padding_mask)
    return out


def call_with_gradients(module: nn.Module, given: Inputs, seed: int = 0) -> list[Tensor]:
    """The output and the gradients of q, k and v; the gradient of the output is ``given.grad``."""
    q, k, v = (x.detach().requires_grad_() for x in (given.q, given.k, given.v))
    torch.manual_seed(seed)
    out = module(q, k, v, given.key_padding_mask)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), given.grad)]


def results(module: nn.Module, given: Inputs, spec: OperationSpec) -> list[Tensor]:
    """The output, and with ``spec.mode`` forward_backward the gradients of q, k and v."""
    return call_with_gradients(module, given) if spec.mode == "forward_backward" else [call(module, given)]


def differences(ours: Sequence[Tensor], theirs: Sequence[Tensor], allowed: float) -> list[str]:
    """A sentence for each of two ``results`` that is further away than ``allowed``, relative to ``theirs``."""
    said = []
    for name, one, two in zip(RESULTS, ours, theirs, strict=False):
        its_allowed = allowed if name == "output" else GRADIENTS * allowed
        error = relative_error(one, two, max(two.double().norm().item(), SMALL))
        if not error <= its_allowed:
            said.append(f"{name}: {error:.3g} away, allowed {its_allowed:.3g}")
    return said


def other(spec: OperationSpec) -> Inputs:
    """Inputs of the same shapes with other numbers."""
    return inputs.make(spec.model_copy(update={"seed": spec.seed + 1}))


def copied(given: Inputs) -> Inputs:
    """The same numbers in memory of their own."""
    return replace(given, q=given.q.clone(), k=given.k.clone(), v=given.v.clone(), grad=given.grad.clone())


def same_bits(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Whether all tensors are equal; NaN is equal to NaN here."""
    return all(torch.allclose(one, two, rtol=0, atol=0, equal_nan=True) for one, two in zip(ours, theirs, strict=True))
