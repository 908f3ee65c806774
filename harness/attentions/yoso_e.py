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
from yoso.ops.arguments import check_normalization


class YosoExpectationModule(nn.Module):
    """``yoso.attention.yoso_e`` with fixed parameters."""

    def __init__(self, hash_code_len: int, normalization: str, norm_floor: float) -> None:
        super().__init__()
        self.hash_code_len = hash_code_len
        self.normalization = normalization
        self.norm_floor = norm_floor

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """See ``harness.core.plugin.AttentionPlugin``."""
        return yoso.attention.yoso_e(
            q,
            k,
            v,
            key_padding_mask,
            hash_code_len=self.hash_code_len,
            normalization=self.normalization,
            norm_floor=self.norm_floor,
        )


class YosoExpectationPlugin(AttentionPlugin):
    """YOSO-E, the expectation that sampled YOSO estimates."""

    name = "yoso_e"
    summary = "YOSO-E: weights (1 - angle/pi)^tau over all pairs; O(n^2 d) time, O(n) memory"
    source = "Zeng et al., ICML 2021, https://arxiv.org/abs/2111.09714"
    capabilities = Capabilities(cross_attention=True, compile=True)

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The parameters of ``yoso.attention.yoso_e``.

        - ``hash_code_len``: bits of the hash code (tau, 1 to 16); by default log2 of the length.
        - ``normalization``: "l2" scales the weighted sums to length 1, "sum" divides them by the sum of the weights.
        - ``norm_floor``: at least 0; above 0, rows of small weights become short (see ``yoso.ops.normalization``).
        """
        tau = hashing.default_hash_code_len(spec.seq_len)
        return {"hash_code_len": tau, "normalization": "l2", "norm_floor": 0.0}

    def unsupported(self, spec: Spec) -> list[str]:
        """A missing device, or a normalisation that does not exist."""
        knobs, missing = self.knobs(spec), device_reasons(spec)
        try:
            check_normalization(knobs["normalization"], knobs["norm_floor"])
        except ValueError as error:
            return [*missing, str(error)]
        return missing

    def kernel(self, spec: Spec) -> str:
        """Native kernels or plain torch, whichever ``yoso.build`` provides."""
        return jit.describe(spec.device)

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The matrix products of softmax attention, and the collision probability of each pair."""
        return cost.yoso_expectation(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        knobs = self.knobs(spec)
        return YosoExpectationModule(
            int(knobs["hash_code_len"]), str(knobs["normalization"]), float(knobs["norm_floor"])
        )

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The definition of YOSO-E, over all pairs."""
        knobs = self.knobs(spec)
        return reference.yoso_e(
            q[:, :, rows],
            k,
            v,
            None,
            key_padding_mask,
            hash_code_len=int(knobs["hash_code_len"]),
            normalization=str(knobs["normalization"]),
            norm_floor=float(knobs["norm_floor"]),
        )
