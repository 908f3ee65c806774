"""FlashAttention 2 from the package flash-attn, where it is installed."""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.attention_shape import head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Spec

MAX_HEAD_DIM = 256
"""The largest head size of flash-attn's kernels."""


class FlashAttention(nn.Module):
    """``flash_attn_func`` without padding; with padding ``flash_attn_varlen_func`` on the real keys alone."""

    def __init__(self, package: ModuleType) -> None:
        super().__init__()
        self.package = package

    @dtype_of_autocast
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; the package's layout is ``[B, N, H, D]``."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if key_padding_mask is None:
            return self.package.flash_attn_func(q, k, v).transpose(1, 2)
        batch, n = q.shape[:2]
        lengths = key_padding_mask.sum(-1, dtype=torch.int32)
        out = self.package.flash_attn_varlen_func(
            q.flatten(0, 1),
            k[key_padding_mask],
            v[key_padding_mask],
            cu_seqlens_q=torch.arange(batch + 1, dtype=torch.int32, device=q.device) * n,
            cu_seqlens_k=nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0)),
            max_seqlen_q=n,
            max_seqlen_k=int(lengths.max()),
        )
        return out.unflatten(0, (batch, n)).transpose(1, 2)


class FlashAttnPlugin(AttentionPlugin):
    """FlashAttention 2 as its authors package it."""

    name = "flash_attn"
    summary = "exact softmax attention by FlashAttention 2 (package flash-attn); O(n^2 d) time, O(n) memory"
    source = "flash-attn, https://github.com/Dao-AILab/flash-attention; Dao, 2023, https://arxiv.org/abs/2307.08691"
    exact_softmax = True
    capabilities = Capabilities(
        devices=("cuda",),
        dtypes=("bfloat16", "float16"),
        cross_attention=True,
        gqa=True,
        head_dims="8 to 256",
        deterministic=False,
        why={
            "devices": "flash-attn has CUDA kernels only",
            "dtypes": "flash-attn has no float32 kernels",
            "head_dims": "flash-attn's kernels take multiples of 8 up to 256",
            "deterministic": "the backward pass sums the gradient of q with atomic additions unless deterministic=True",
            "compile": "padded keys are removed, and their number is known only at run time",
        },
    )

    def unsupported(self, spec: Spec) -> list[str]:
        """Every reason: no package, no CUDA device, or a dtype or head size that its kernels do not have."""
        reasons = device_reasons(spec)
        try:
            import_module("flash_attn")
        except ImportError as error:
            reasons.append(f"flash-attn does not import ({error}); with CUDA and nvcc: pip install flash-attn")
        if torch.device(spec.device).type != "cuda":
            reasons.append(f"flash-attn runs on CUDA, not on {torch.device(spec.device).type}")
        if spec.dtype == "float32":
            reasons.append("flash-attn takes float16 and bfloat16, got float32")
        dim = head_dim(spec)
        if dim > MAX_HEAD_DIM or dim % 8:
            reasons.append(f"flash-attn takes head sizes that are multiples of 8 up to {MAX_HEAD_DIM}, got {dim}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The package and its version."""
        return f"flash-attn {getattr(import_module('flash_attn'), '__version__', '')} on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Two matrix products in the forward pass, five in the backward pass."""
        return cost.softmax(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        del spec
        return FlashAttention(import_module("flash_attn"))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax attention as it is defined."""
        del spec
        return softmax_attention(q, k, v, key_padding_mask, rows)
