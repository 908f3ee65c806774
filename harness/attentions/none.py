"""No attention: each token keeps its own value. A lower bound for the time and memory of all attentions."""

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
    """A copy of v, with zero gradients for q and k, because the harness takes gradients of all three inputs."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return v.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,) = grad_outputs
        return torch.zeros_like(grad), torch.zeros_like(grad), grad


class KeepValues(nn.Module):
    """Return a copy of ``v``, because every attention writes a new output; see ``AttentionPlugin`` for the call."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; the mask is not needed."""
        del key_padding_mask
        out: Tensor = _KeepValues.apply(q, k, v)
        return out


class NoAttentionPlugin(AttentionPlugin):
    """The lower bound for time and memory."""

    name = "none"
    summary = "returns a copy of v without mixing tokens: a lower bound for time and memory; O(n d) time"
    source = "a baseline of this harness, without a paper"
    capabilities = Capabilities(
        compile=True, why={"cross_attention": "the output of a query is the value at the same position"}
    )

    def unsupported(self, spec: Spec) -> list[str]:
        """The reason why the device is missing, if it is."""
        return device_reasons(spec)

    def kernel(self, spec: Spec) -> str:
        """One torch copy."""
        return f"torch clone on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Forward reads v and writes the output; backward writes two tensors of zeros and passes the gradient to v."""
        if not isinstance(spec, OperationSpec):
            return None
        tensors = 1 / 3 if spec.mode == "forward_backward" else 1 / 2  # 4 of 12 tensors, or 2 of 4
        return {"copy": cost.softmax(spec)["copy"] * tensors}

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        del spec
        return KeepValues()

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The identity matrix as weights, plus zero times q and k so that their gradients are zero tensors."""
        del spec, key_padding_mask
        weights = (rows[:, None] == torch.arange(v.shape[2], device=v.device)).to(v.dtype)
        return weights @ v + 0 * (q[:, :, rows] + k[:, :, rows])
