"""No attention: every token keeps its own value. The floor under the time and memory of all others."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Spec


class _KeepValues(torch.autograd.Function):
    """A copy of v, with gradients of zero for q and k: autograd asks every attention for all three."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return v.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,) = grad_outputs
        return torch.zeros_like(grad), torch.zeros_like(grad), grad


class KeepValues(nn.Module):
    """``v``, copied as any attention writes an output of its own; see ``AttentionPlugin`` for the call."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; there is nothing to mask."""
        del key_padding_mask
        out: Tensor = _KeepValues.apply(q, k, v)
        return out


class NoAttention(AttentionPlugin):
    """The floor."""

    name = "none"
    summary = "returns v and mixes no tokens: the floor of time and memory"
    source = "the harness's own baseline; there is no paper"
    capabilities = Capabilities(
        compile=True, why={"cross_attention": "a query's output is the value at its own position"}
    )

    def unsupported(self, spec: Spec) -> list[str]:
        """A device that is not there."""
        return device_reasons(spec)

    def kernel(self, spec: Spec) -> str:
        """One copy."""
        return f"torch clone on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Two tensors forward, v and the output; two of zeros backward, where v's gradient is the output's."""
        if not isinstance(spec, OperationSpec):
            return None
        tensors = 1 / 3 if spec.mode == "forward_backward" else 1 / 2  # of 12, of 4
        return {"copy": cost.softmax(spec)["copy"] * tensors}

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights."""
        del spec
        return KeepValues()

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The identity as weights, and weights that no query or key has a part in."""
        del spec, key_padding_mask
        weights = (rows[:, None] == torch.arange(v.shape[2], device=v.device)).to(v.dtype)
        return weights @ v + 0 * (q[:, :, rows] + k[:, :, rows])
