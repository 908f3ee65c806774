"""YOSO-E as implemented in transformers, the rival of ``yoso_e``: an n x n matrix, and padding is not masked."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons, quadratic_reasons
from harness.attentions.shared.precision import dtype_of_autocast
from harness.core.attention_shape import has_padding
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec
from yoso.ops import hashing, reference


class TransformersYosoExpectationModule(nn.Module):
    """transformers' ``YosoCumulation``, with the normalisations that its layer applies before and after."""

    def __init__(self, hash_code_len: int) -> None:
        super().__init__()
        from transformers.models.yoso.modeling_yoso import YosoCumulation  # takes seconds to import

        self.cumulation = YosoCumulation.apply
        self.hash_code_len = hash_code_len

    @dtype_of_autocast
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """See ``harness.core.plugin.AttentionPlugin``; the mask is ignored."""
        del key_padding_mask
        heads = [x.flatten(0, 1) for x in (normalize(q, dim=-1), normalize(k, dim=-1), v)]
        mask = torch.ones(heads[0].shape[:2], dtype=torch.int32, device=q.device)
        out = self.cumulation(mask, mask, *heads, {"hash_code_len": self.hash_code_len})
        return normalize(out, dim=-1).unflatten(0, q.shape[:2])


class TransformersYosoExpectationPlugin(AttentionPlugin):
    """YOSO-E from transformers."""

    name = "transformers_yoso_e"
    summary = "YOSO-E as in transformers, which does not mask padding; O(n^2 d) time, n x n memory"
    source = "transformers, models/yoso/modeling_yoso.py, https://github.com/huggingface/transformers"
    capabilities = Capabilities(
        padding_mask=False,
        padding_width=False,
        scales="float32 bfloat16",
        why={
            "padding_mask": "transformers' YOSO does not mask padding",
            "padding_width": "transformers' YOSO does not mask padding",
            "scales": "its n x n gradients have the dtype of its inputs; in float16 they overflow beyond 65504",
        },
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``hash_code_len``: bits of the hash code (tau, 1 to 16); by default log2 of the length."""
        return {"hash_code_len": hashing.default_hash_code_len(spec.seq_len)}

    def unsupported(self, spec: Spec) -> list[str]:
        """A missing device, padding, or n x n tensors that do not fit in memory."""
        missing = device_reasons(spec)
        padding = ["transformers' YOSO does not mask padding"] if has_padding(spec) else []
        too_large = [] if missing else quadratic_reasons(spec, forward_copies=4, backward_copies=6)
        return [*missing, *padding, *too_large]

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The matrix products of softmax attention, and the collision probability of each pair."""
        return cost.yoso_expectation(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        return TransformersYosoExpectationModule(int(self.knobs(spec)["hash_code_len"]))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The definition of YOSO-E, over all pairs."""
        tau = int(self.knobs(spec)["hash_code_len"])
        return reference.yoso_e(q[:, :, rows], k, v, None, key_padding_mask, hash_code_len=tau)
