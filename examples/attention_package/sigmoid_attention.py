"""Sigmoid attention as a plugin of the harness: one file and one entry point, in its own package."""

import math

from torch import Tensor, nn

from harness import AttentionPlugin
from harness.attentions.shared.capacity import device_reasons, quadratic_reasons
from harness.core.capabilities import Capabilities
from harness.core.spec import Spec


class SigmoidAttention(nn.Module):
    """``sigmoid(q k^T / sqrt(d) - log n) v``, where n is the number of real tokens."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; padded values are set to zero, so scores need no minus infinity."""
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if key_padding_mask is None:
            return (scores - math.log(k.shape[2])).sigmoid() @ v
        real = key_padding_mask[:, None, :, None]
        length = real.sum(2, keepdim=True).clamp_min(1).to(q.dtype)
        return (scores - length.log()).sigmoid() @ v.masked_fill(~real, 0)


class Sigmoid(AttentionPlugin):
    """The plugin that pyproject.toml registers."""

    name = "sigmoid"
    summary = "sigmoid of each score instead of softmax over them; n x n memory and time"
    source = "Ramapuram et al., ICLR 2025, https://arxiv.org/abs/2409.04431"
    capabilities = Capabilities(cross_attention=True, compile=True)

    def unsupported(self, spec: Spec) -> list[str]:
        """A missing device, or n x n tensors that do not fit."""
        return device_reasons(spec) or quadratic_reasons(spec, forward_copies=3, backward_copies=4)

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights."""
        return SigmoidAttention()

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The paper's definition, with its bias of minus the logarithm of the number of real tokens."""
        scores = q[:, :, rows] @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if key_padding_mask is None:
            return (scores - math.log(k.shape[2])).sigmoid() @ v
        real = key_padding_mask[:, None, None, :]
        length = real.sum(-1, keepdim=True).to(q.dtype)
        return (scores - length.log()).sigmoid().masked_fill(~real, 0) @ v
