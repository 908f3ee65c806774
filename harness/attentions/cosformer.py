"""cosFormer: linear attention with ReLU features, weighted by the cosine of the distance between positions."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast, float16_in_float32
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec


def angles(n: int, key_padding_mask: Tensor | None, device: torch.device) -> Tensor:
    """``pi/2 * i/M``, float32 ``[B or 1, N]``: i is the index among a sequence's real tokens, M their number."""
    if key_padding_mask is None:
        return torch.arange(n, device=device)[None] * (math.pi / 2 / n)
    length = key_padding_mask.sum(-1, keepdim=True).clamp_min(1)
    return (key_padding_mask.cumsum(-1) - 1) * (math.pi / 2) / length


class Cosformer(nn.Module):
    """cosFormer attention; see ``AttentionPlugin`` for the call.

    The weight ``cos(a - b) = cos a cos b + sin a sin b`` is a product of features, twice as many as the head is wide.

    Args:
        epsilon: the smallest denominator.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    @dtype_of_autocast
    @float16_in_float32
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; the largest intermediate tensors are ``[B, H, N, 2 D]``."""
        angle = angles(q.shape[2], key_padding_mask, q.device)[:, None, :, None]
        cosine, sine = angle.cos(), angle.sin()
        query, key = q.relu(), k.relu()
        if key_padding_mask is not None:
            key = key * key_padding_mask[:, None, :, None]
        query = torch.cat([query * cosine, query * sine], -1).to(q.dtype)
        key = torch.cat([key * cosine, key * sine], -1).to(q.dtype)
        total = query @ key.sum(-2).unsqueeze(-1)
        return query @ (key.mT @ v) / total.clamp_min(self.epsilon)


class CosformerPlugin(AttentionPlugin):
    """cosFormer."""

    name = "cosformer"
    summary = "linear attention with ReLU features, weighted by cos(pi/2 (i - j)/M); O(n d^2) time, O(n d) memory"
    source = (
        "Qin et al., ICLR 2022, https://arxiv.org/abs/2202.08791; implemented here, where M is the number of real "
        "tokens in a sequence, so that padding does not change the output"
    )
    capabilities = Capabilities(
        compile=True, why={"cross_attention": "the weights depend on the positions of query and key in one sequence"}
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``epsilon``: the smallest denominator; the output of a query orthogonal to every key is zero."""
        del spec
        return {"epsilon": 1e-6}

    def unsupported(self, spec: Spec) -> list[str]:
        """The reason why the device is missing, if it is."""
        return device_reasons(spec)

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        return f"torch elementwise features, matmul, matmul, division on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Linear attention with twice as many features as the head is wide."""
        return cost.features(spec, 2 * spec.head_dim) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        return Cosformer(float(self.knobs(spec)["epsilon"]))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Equation 10 of the paper, one sequence at a time, with a weight for each pair of positions."""
        outputs = []
        n = q.shape[2]
        for b in range(q.shape[0]):
            real = torch.ones(n, dtype=torch.bool) if key_padding_mask is None else key_padding_mask[b]
            position = real.to(q.device).cumsum(0)
            reweight = torch.cos(math.pi / 2 * (position[rows][:, None] - position).double() / position[-1])
            weights = q[b][:, rows].relu() @ k[b].relu().mT * reweight.to(q.dtype)
            weights = weights.masked_fill(~real.to(q.device), 0) / n  # without it their sum overflows float16
            total = weights.sum(-1, keepdim=True).clamp_min(float(self.knobs(spec)["epsilon"]) / n)
            outputs.append(weights / total @ v[b])
        return torch.stack(outputs)
