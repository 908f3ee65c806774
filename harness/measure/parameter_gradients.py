"""The gradients of an attention's own weights, which the oracle cannot give: it makes the weights itself.

They are compared with the change of the module's own output, in float32, when all elements of a weight are moved a
little in random directions. That is right only for an attention whose gradient is the derivative of its output; YOSO's
sampled attention, for example, has a gradient of its own. So the oracle's gradient is compared with the change of the
oracle's output first, and where they differ, the gradients need only be there, finite and not all zero.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.core.plugin import AttentionPlugin
from harness.core.record import Check
from harness.core.spec import OperationSpec
from harness.measure.inputs import Inputs
from harness.measure.sampled_rows import at_real_rows, real_positions, run_oracle, sample_rows

DIRECTIONS = 3
"""Random directions in which each weight is moved."""
STEP = 1e-2
"""How far, in root mean squares of the weight: central differences then err by about the square of this."""
ALLOWED = 0.2
"""Largest difference of the two derivatives, in lengths that the derivative in a random direction has on average. With
a gradient that is zero in half of the elements it is 0.7."""
ORACLE_ROWS = 8
"""Rows at which the oracle's gradient is compared with the change of its output."""


def check(plugin: AttentionPlugin, spec: OperationSpec, module: nn.Module, inputs: Inputs) -> list[Check]:
    """One check of each weight of ``module`` that can be trained; none if it has no weights.

    Args:
        plugin: gives the oracle.
        spec: the case, in mode ``forward_backward``.
        module: the result of ``plugin.build(spec)``.
        inputs: of the call.
    """
    weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if not weights:
        return []
    loss = _Loss(spec, module, inputs)
    total = loss()
    gradients: Sequence[Tensor | None] = [None] * len(weights)
    if total.requires_grad:
        gradients = torch.autograd.grad(total, [*weights.values()], allow_unused=True)
    exact = spec.dtype == "float32" and _is_derivative(plugin, spec, inputs)
    return [
        _check(name, weight, gradient, loss, exact)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    ]


@dataclass(frozen=True)
class _Loss:
    """The sum of the output at real positions, weighted with the upstream gradient, in float64."""

    spec: OperationSpec
    module: nn.Module
    inputs: Inputs

    def __call__(self) -> Tensor:
        given = self.inputs
        torch.manual_seed(self.spec.seed)
        output = self.module(given.q, given.k, given.v, given.key_padding_mask)
        real = real_positions(given)
        return (at_real_rows(output, given, real).double() * at_real_rows(given.grad, given, real).double()).sum()


def _check(name: str, weight: nn.Parameter, gradient: Tensor | None, loss: _Loss, exact: bool) -> Check:
    what = f"gradient of weight {name}"
    if gradient is None:
        return Check(what=f"{what}: there is none", error=None, allowed=0.0, passed=False)
    if not bool(gradient.isfinite().all()) or not bool(gradient.any()):
        kind = "not finite" if bool(gradient.any()) else "zero everywhere"
        return Check(what=f"{what}: it is {kind}", error=None, allowed=0.0, passed=False)
    if not exact:
        return Check(what=f"{what}: finite and not zero", error=0.0, allowed=0.0, passed=True)
    error = max(_differences(weight, gradient, loss))
    error_or_none = error if math.isfinite(error) else None
    return Check(what=what, error=error_or_none, allowed=ALLOWED, passed=error <= ALLOWED)


def _differences(weight: nn.Parameter, gradient: Tensor, loss: _Loss) -> Iterator[float]:
    """Between the gradient along each direction and the change of the loss; see ``ALLOWED`` for the unit."""
    generator = torch.Generator().manual_seed(loss.spec.seed)
    rms = weight.detach().double().square().mean().sqrt().item() or 1.0
    for _ in range(DIRECTIONS):
        direction = (torch.randint(2, weight.shape, generator=generator) * 2 - 1).to(weight)
        expected = (gradient.double() * direction.double()).sum().item()
        measured = _derivative(weight, direction * rms, loss) / rms
        yield abs(measured - expected) / gradient.double().norm().item()


@torch.no_grad()
def _derivative(weight: Tensor, direction: Tensor, loss: Callable[[], Tensor]) -> float:
    """The change of the loss for each unit of ``direction``."""
    before = weight.clone()
    values = []
    try:
        for sign in (1, -1):
            weight.copy_(before + sign * STEP * direction)
            values.append(loss().item())
    finally:
        weight.copy_(before)
    return (values[0] - values[1]) / (2 * STEP)


def _is_derivative(plugin: AttentionPlugin, spec: OperationSpec, inputs: Inputs) -> bool:
    """Whether the oracle's gradients of q and k are the derivatives of its output."""
    rows = sample_rows(inputs, ORACLE_ROWS, spec.seed)
    upstream = at_real_rows(inputs.grad, inputs, rows).double()
    gradients = run_oracle(plugin, spec, inputs, rows, torch.float64, backward=True).gradients
    generator = torch.Generator().manual_seed(spec.seed)
    q, k = inputs.q.double(), inputs.k.double()
    for tensor, gradient in ((q, gradients[0]), (k, gradients[1])):
        direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)

        def loss() -> Tensor:
            moved = Inputs(q, k, inputs.v.double(), inputs.key_padding_mask, inputs.grad.double())
            output = run_oracle(plugin, spec, moved, rows, torch.float64, backward=False).output
            return (output * upstream).sum()

        measured = _derivative(tensor, direction, loss)
        if not abs(measured - (gradient * direction).sum().item()) <= ALLOWED * gradient.norm().item():
            return False
    return True
