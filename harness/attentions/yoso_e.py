"""YOSO-E: each pair is weighted by its hash collision probability, in quadratic time and linear memory."""

from collections.abc import Mapping

from torch import Tensor, nn

import yoso.attention
from harness.attentions.shared import cost
from harness.core.attention_shape import device_reasons
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec
from yoso.build import jit
from yoso.ops import hashing, reference


class YosoExpectationModule(nn.Module):
    """``yoso.attention.yoso_e`` with a fixed length of the hash code."""

    def __init__(self, hash_code_len: int) -> None:
        super().__init__()
        self.hash_code_len = hash_code_len

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """See ``harness.core.plugin.AttentionPlugin``."""
        return yoso.attention.yoso_e(q, k, v, key_padding_mask, hash_code_len=self.hash_code_len)


class YosoExpectationPlugin(AttentionPlugin):
    """YOSO-E, the expectation that sampled YOSO estimates."""

    name = "yoso_e"
    summary = "YOSO-E: weights (1 - angle/pi)^tau over all pairs; O(n^2 d) time, O(n) memory"
    source = "Zeng et al., ICML 2021, https://arxiv.org/abs/2111.09714"
    capabilities = Capabilities(cross_attention=True, compile=True)

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``hash_code_len``: bits of the hash code (tau, 1 to 16); by default log2 of the length."""
        return {"hash_code_len": hashing.default_hash_code_len(spec.seq_len)}

    def unsupported(self, spec: Spec) -> list[str]:
        """The reason why the device is missing, if it is."""
        return device_reasons(spec)

    def kernel(self, spec: Spec) -> str:
        """Native kernels or plain torch, whichever ``yoso.build`` provides."""
        return jit.describe(spec.device)

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The matrix products of softmax attention, and the collision probability of each pair."""
        return cost.yoso_expectation(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        return YosoExpectationModule(int(self.knobs(spec)["hash_code_len"]))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The definition of YOSO-E, over all pairs."""
        tau = int(self.knobs(spec)["hash_code_len"])
        return reference.yoso_e(q[:, :, rows], k, v, None, key_padding_mask, hash_code_len=tau)
