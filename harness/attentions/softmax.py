"""Softmax attention in plain torch operations, which transformers calls "eager"."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons, quadratic_reasons
from harness.attentions.shared.precision import dtype_of_autocast
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Spec


class EagerSoftmax(nn.Module):
    """Dense softmax attention with an additive mask; see ``AttentionPlugin`` for the call."""

    @dtype_of_autocast
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if key_padding_mask is not None:
            bias = torch.zeros(key_padding_mask.shape, dtype=q.dtype, device=q.device)
            bias = bias.masked_fill(~key_padding_mask, torch.finfo(q.dtype).min)
            scores = scores + bias[:, None, None, :]
        return scores.softmax(-1) @ v


class SoftmaxPlugin(AttentionPlugin):
    """The eager baseline."""

    name = "softmax"
    summary = "exact softmax attention in plain torch operations; O(n^2 d) time, n x n memory"
    source = "Vaswani et al., 2017, https://arxiv.org/abs/1706.03762"
    exact_softmax = True
    capabilities = Capabilities(
        scales="float32 bfloat16",
        cross_attention=True,
        compile=True,
        why={
            "scales": "it rounds scores, and their gradients, to the dtype of its inputs, as transformers' eager "
            "attention does; in float16 they overflow beyond 65504"
        },
    )

    def unsupported(self, spec: Spec) -> list[str]:
        """A missing device, or n x n tensors that do not fit in memory."""
        return device_reasons(spec) or quadratic_reasons(spec, forward_copies=3, backward_copies=4)

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        return f"torch matmul, softmax, matmul on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Two matrix products in the forward pass, five in the backward pass."""
        return cost.softmax(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        del spec
        return EagerSoftmax()

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax attention as it is defined."""
        del spec
        return softmax_attention(q, k, v, key_padding_mask, rows)
