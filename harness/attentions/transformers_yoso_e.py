"""transformers' own YOSO-E operation, the rival of ``yoso_e``: an n x n matrix, without padding."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons, quadratic_reasons
from harness.core.attention_shape import has_padding
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec
from yoso.ops import hashing, reference


class TransformersYosoModule(nn.Module):
    """``YosoCumulation`` of transformers' modeling_yoso with the normalisations that its layer puts around it."""

    def __init__(self, hash_code_len: int) -> None:
        super().__init__()
        from transformers.models.yoso.modeling_yoso import YosoCumulation  # takes seconds to import

        self.cumulation = YosoCumulation.apply
        self.hash_code_len = hash_code_len

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """See ``harness.core.plugin.AttentionPlugin``; there is no mask."""
        del key_padding_mask
        heads = [x.flatten(0, 1) for x in (normalize(q, dim=-1), normalize(k, dim=-1), v)]
        mask = torch.ones(heads[0].shape[:2], dtype=torch.int32, device=q.device)
        out = self.cumulation(mask, mask, *heads, {"hash_code_len": self.hash_code_len})
        return normalize(out, dim=-1).unflatten(0, q.shape[:2])


class TransformersYosoExpectation(AttentionPlugin):
    """The rival from transformers."""

    name = "transformers_yoso_e"
    summary = "YOSO-E as transformers computes it: n x n memory and time, padding not masked"
    source = "transformers, models/yoso/modeling_yoso.py, https://github.com/huggingface/transformers"
    capabilities = Capabilities(padding_mask=False, why={"padding_mask": "transformers' YOSO does not mask padding"})

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``hash_code_len``: tau."""
        return {"hash_code_len": hashing.default_hash_code_len(spec.seq_len)}

    def unsupported(self, spec: Spec) -> list[str]:
        """Padding, which it ignores; and lengths whose n x n tensors do not fit."""
        padding = ["transformers' YOSO does not mask padding"] if has_padding(spec) else []
        return [*device_reasons(spec), *padding, *quadratic_reasons(spec, forward_copies=4, backward_copies=6)]

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The products of softmax attention, and every pair's probability."""
        return cost.yoso_expectation(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """See the base class."""
        return TransformersYosoModule(int(self.knobs(spec)["hash_code_len"]))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """See the base class."""
        tau = int(self.knobs(spec)["hash_code_len"])
        return reference.yoso_e(q[:, :, rows], k, v, None, key_padding_mask, hash_code_len=tau)
