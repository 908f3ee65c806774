"""The flash-attn package, FlashAttention 2, where it is installed."""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.attention_shape import head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Spec

MOST_DIM = 256


class FlashAttention(nn.Module):
    """``flash_attn_func``, and ``flash_attn_varlen_func`` on the real keys alone where some are padding."""

    def __init__(self, package: ModuleType) -> None:
        super().__init__()
        self.package = package

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
    """FlashAttention 2 of its authors."""

    name = "flash_attn"
    summary = "softmax attention, the flash-attn package: FlashAttention 2, padding removed"
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
            "devices": "flash-attn has CUDA kernels alone",
            "dtypes": "flash-attn has no float32 kernels",
            "head_dims": "flash-attn's kernels take multiples of 8 up to 256",
            "deterministic": "its backward adds the gradient of q with atomics unless deterministic=True",
            "compile": "padding is removed, and how much is known at run time alone",
        },
    )

    def unsupported(self, spec: Spec) -> list[str]:
        """All that is missing: the package, a CUDA device, a dtype or a head size of its kernels."""
        reasons = device_reasons(spec)
        try:
            import_module("flash_attn")
        except ImportError as error:
            reasons.append(f"flash-attn does not import ({error}); pip install flash-attn, which needs CUDA and nvcc")
        if torch.device(spec.device).type != "cuda":
            reasons.append(f"flash-attn runs on CUDA, not on {torch.device(spec.device).type}")
        if spec.dtype == "float32":
            reasons.append("flash-attn has no float32 kernels, only float16 and bfloat16")
        dim = head_dim(spec)
        if dim > MOST_DIM or dim % 8:
            reasons.append(f"flash-attn takes head sizes that are multiples of 8 up to {MOST_DIM}, not {dim}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The package and its version."""
        return f"flash-attn {getattr(import_module('flash_attn'), '__version__', '')} on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Two matrix products forward, five backward."""
        return cost.softmax(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights."""
        del spec
        return FlashAttention(import_module("flash_attn"))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax attention by its definition."""
        del spec
        return softmax_attention(q, k, v, key_padding_mask, rows)
