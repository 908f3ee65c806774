"""xformers' memory_efficient_attention, one plugin for each of its operators."""

import logging
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.attention_shape import has_backward, has_padding, head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import OperationSpec, Spec

_OPERATORS = {
    "cutlass": ("cutlass", "CUTLASS kernels"),
    "flash2": ("flash", "FlashAttention 2"),
    "flash3": ("flash3", "FlashAttention 3"),
    "triton_splitk": ("triton_splitk", "Triton kernel that splits the keys, forward only"),
}


def _capabilities(dtypes: tuple[str, ...], head_dims: str, **limits: Any) -> Capabilities:
    """What every operator has, and what xformers' source says of one."""
    why = {
        "devices": "xformers' operators are CUDA kernels",
        "dtypes": f"its kernels are for {' and '.join(dtypes)}",
        "head_dims": f"its kernels take sizes {head_dims}",
        "cross_attention": "padding is packed for as many queries as keys",
        "compile": "padding is removed, and how much is known at run time alone",
        "backward": "xformers has no backward for it",
        "deterministic": "xformers calls its backward not deterministic",
    }
    return Capabilities(devices=("cuda",), dtypes=dtypes, head_dims=head_dims, why=why, **limits)


_HALF = ("bfloat16", "float16")
_CAPABILITIES = {
    "cutlass": _capabilities(("float32", *_HALF), "to 65536"),
    "flash2": _capabilities(_HALF, "to 256", deterministic=False),
    "flash3": _capabilities(_HALF, "32 to 256", deterministic=False),
    "triton_splitk": _capabilities(_HALF, "to 512", backward=False),
}


@cache
def _fmha() -> ModuleType:
    # On a build for another torch, xformers logs a page of advice; the reasons of each operator say it in a line.
    logger = logging.getLogger("xformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from xformers.ops import fmha
    finally:
        logger.setLevel(level)
    return fmha


def _real_tokens(k: Tensor, v: Tensor, key_padding_mask: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Keys and values of the real tokens alone, packed ``[1, total, H, D]``, and the bias that tells them apart."""
    batch, n = key_padding_mask.shape
    bias = _fmha().attn_bias.BlockDiagonalMask.from_seqlens(
        q_seqlen=[n] * batch, kv_seqlen=key_padding_mask.sum(-1).tolist(), device=k.device
    )
    return k[key_padding_mask].unsqueeze(0), v[key_padding_mask].unsqueeze(0), bias


class XformersAttention(nn.Module):
    """memory_efficient_attention with one forward and one backward operator.

    Padding is removed, not masked: a dense bias would cost the n x n memory that the operator saves.
    """

    def __init__(self, forward_op: Any, backward_op: Any) -> None:
        super().__init__()
        self.op = (forward_op, backward_op)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        batch, heads, n, dim = q.shape
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # xformers' layout is [B, N, H, D]
        bias = None
        if key_padding_mask is not None:
            k, v, bias = _real_tokens(k, v, key_padding_mask)
            q = q.reshape(1, batch * n, heads, dim)
        out = _fmha().memory_efficient_attention(q, k, v, attn_bias=bias, op=self.op)
        return out.reshape(batch, n, heads, dim).transpose(1, 2)


class XformersPlugin(AttentionPlugin):
    """One xformers operator."""

    source = "xformers, https://github.com/facebookresearch/xformers"
    exact_softmax = True

    def __init__(self, operator: str) -> None:
        self.name = f"xformers_{operator}"
        self._module, words = _OPERATORS[operator]
        self.summary = f"softmax attention, xformers: {words}"
        self.capabilities = _CAPABILITIES[operator]

    def _operators(self) -> tuple[Any, Any]:
        module = getattr(_fmha(), self._module)
        return module.FwOp, getattr(module, "BwOp", None)

    def unsupported(self, spec: Spec) -> list[str]:
        """xformers' own reasons for a query as in the case."""
        try:
            fmha = _fmha()
        except ImportError as error:
            return [f"xformers does not import ({error}); pip install 'yoso-harness[xformers]'"]
        missing = device_reasons(spec)
        if missing:
            return missing
        forward, backward = self._operators()
        inputs = fmha.Inputs(*_tiny(spec, fmha))
        reasons = [f"{forward.NAME}: {reason}" for reason in forward.not_supported_reasons(inputs)]
        if has_backward(spec):
            if backward is None:
                reasons.append(f"{forward.NAME}: xformers has no backward for it")
            else:
                reasons += [f"{backward.NAME}: {reason}" for reason in backward.not_supported_reasons(inputs)]
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The operator names, as xformers prints them."""
        used = [op.NAME for op in self._operators() if op is not None]
        return f"xformers {used[0]}" if not has_backward(spec) else f"xformers {' and '.join(used)}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Two matrix products forward, five backward."""
        return cost.softmax(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights."""
        del spec
        return XformersAttention(*self._operators())

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax attention by its definition."""
        del spec
        return softmax_attention(q, k, v, key_padding_mask, rows)


def _tiny(spec: Spec, fmha: ModuleType) -> tuple[Tensor, Tensor, Tensor, Any]:
    """Query, key, value and bias as in the case, but short."""
    q = torch.zeros(1, 16, 2, head_dim(spec), device=spec.device, dtype=torch_dtype(spec.dtype))
    q.requires_grad_(has_backward(spec))
    if has_padding(spec):
        bias = fmha.attn_bias.BlockDiagonalMask.from_seqlens([16], [8], device=q.device)
        return q, q[:, :8], q[:, :8], bias
    return q, q, q, None


CUTLASS = XformersPlugin("cutlass")
FLASH2 = XformersPlugin("flash2")
FLASH3 = XformersPlugin("flash3")
TRITON_SPLITK = XformersPlugin("triton_splitk")
