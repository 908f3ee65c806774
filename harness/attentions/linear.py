"""Linear attention: elu(x) + 1 features replace the exponential, so keys and values are summed only once."""

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import elu

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast, float16_in_float32
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Spec


def features(x: Tensor) -> Tensor:
    """``elu(x) + 1`` elementwise: ``x + 1`` above zero, ``exp(x)`` below, computed without cancellation."""
    return x.relu() + x.clamp_max(0).exp()


class LinearAttention(nn.Module):
    """``phi(q) (phi(k)^T v)`` divided by ``phi(q) sum phi(k)``; see ``AttentionPlugin`` for the call."""

    @dtype_of_autocast
    @float16_in_float32
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; the largest intermediate tensor is as large as an input."""
        key_features = features(k)
        if key_padding_mask is not None:
            key_features = key_features * key_padding_mask[:, None, :, None]
        state = key_features.mT @ v
        total = key_features.sum(-2).unsqueeze(-1)
        query_features = features(q)
        norm = query_features @ total
        return query_features @ state / norm.masked_fill(norm == 0, 1)  # zero if all keys are padding


class LinearAttentionPlugin(AttentionPlugin):
    """Linear attention with the features of its first paper."""

    name = "linear"
    summary = "linear attention with elu(x) + 1 features; O(n d^2) time, O(n d) memory"
    source = "Katharopoulos et al., ICML 2020, https://arxiv.org/abs/2006.16236; implemented here"
    capabilities = Capabilities(cross_attention=True, compile=True)

    def unsupported(self, spec: Spec) -> list[str]:
        """The reason why the device is missing, if it is."""
        return device_reasons(spec)

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        return f"torch elementwise features, matmul, matmul, division on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Linear attention with as many features as the head is wide."""
        return cost.features(spec, spec.head_dim) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        del spec
        return LinearAttention()

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Equation 4 of the paper: the similarity of each pair, normalised over the keys."""
        del spec
        phi_q, phi_k = elu(q[:, :, rows]) + 1, elu(k) + 1
        if key_padding_mask is not None:
            phi_k = phi_k.masked_fill(~key_padding_mask[:, None, :, None], 0)
        phi_k = phi_k / math.sqrt(k.shape[2] * k.shape[3])  # without it the sums over all keys overflow float16
        # The denominator is summed over the features last, and in reverse order. If numerator and denominator were
        # summed in the same order, their rounding errors would cancel with one or two keys, and the verifier would
        # underestimate the error that rounding explains.
        total = phi_q.flip(-1) @ phi_k.sum(-2).flip(-1).unsqueeze(-1)
        return phi_q @ phi_k.mT @ v / total
