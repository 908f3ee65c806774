"""xformers' memory_efficient_attention, one plugin per operator."""

import logging
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.attention_shape import has_backward, has_padding, head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import OperationSpec, Spec

_OPERATORS = {
    "cutlass": ("cutlass", "CUTLASS kernels"),
    "flash2": ("flash", "FlashAttention 2"),
    "flash3": ("flash3", "FlashAttention 3"),
    "triton_splitk": ("triton_splitk", "Triton kernel that splits the keys, forward pass only"),
}


def _capabilities(dtypes: tuple[str, ...], head_dims: str, **limits: Any) -> Capabilities:
    """Capabilities of one operator: what all have in common, and its limits as written in xformers' source."""
    why = {
        "devices": "xformers' operators are CUDA kernels",
        "dtypes": f"the operator's kernels take only {', '.join(dtypes)}",
        "head_dims": f"the operator's kernels take head sizes {head_dims}",
        "cross_attention": "the plugin packs padded inputs for equal numbers of queries and keys",
        "compile": "padded keys are removed, and their number is known only at run time",
        "backward": "xformers has no backward operator for it",
        "deterministic": "xformers marks its backward operator as not deterministic",
    }
    return Capabilities(devices=("cuda",), dtypes=dtypes, head_dims=head_dims, why=why, **limits)


_HALF = ("bfloat16", "float16")
_CAPABILITIES = {
    "cutlass": _capabilities(("float32", *_HALF), "up to 65536"),
    "flash2": _capabilities(_HALF, "up to 256", deterministic=False),
    "flash3": _capabilities(_HALF, "32 to 256", deterministic=False),
    "triton_splitk": _capabilities(_HALF, "up to 512", backward=False),
}


@cache
def _fmha() -> ModuleType:
    # A build for another torch version logs a long warning on import; each operator's reasons say it in one line.
    logger = logging.getLogger("xformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from xformers.ops import fmha
    finally:
        logger.setLevel(level)
    return fmha


def _real_tokens(k: Tensor, v: Tensor, key_padding_mask: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Keys and values of the real tokens, packed ``[1, total, H, D]``, and the bias that separates the sequences."""
    batch, n = key_padding_mask.shape
    bias = _fmha().attn_bias.BlockDiagonalMask.from_seqlens(
        q_seqlen=[n] * batch, kv_seqlen=key_padding_mask.sum(-1).tolist(), device=k.device
    )
    return k[key_padding_mask].unsqueeze(0), v[key_padding_mask].unsqueeze(0), bias


class XformersAttention(nn.Module):
    """memory_efficient_attention with one forward and one backward operator.

    Padded keys are removed instead of masked, because a dense bias would need the n x n memory that the operator saves.
    """

    def __init__(self, forward_op: Any, backward_op: Any) -> None:
        super().__init__()
        self.op = (forward_op, backward_op)

    @dtype_of_autocast
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
        self._module, kernels = _OPERATORS[operator]
        self.summary = f"exact softmax attention by xformers: {kernels}; O(n^2 d) time, O(n) memory"
        self.capabilities = _CAPABILITIES[operator]

    def _operators(self) -> tuple[Any, Any]:
        module = getattr(_fmha(), self._module)
        return module.FwOp, getattr(module, "BwOp", None)

    def unsupported(self, spec: Spec) -> list[str]:
        """xformers' own reasons, for short inputs of the same dtype and head size as the case."""
        try:
            fmha = _fmha()
        except ImportError as error:
            return [f"xformers does not import ({error}); install it with: pip install 'yoso-harness[xformers]'"]
        missing = device_reasons(spec)
        if missing:
            return missing
        forward, backward = self._operators()
        inputs = fmha.Inputs(*_short_inputs(spec, fmha))
        reasons = [f"{forward.NAME}: {reason}" for reason in forward.not_supported_reasons(inputs)]
        if has_backward(spec):
            if backward is None:
                reasons.append(f"{forward.NAME}: xformers has no backward operator for it")
            else:
                reasons += [f"{backward.NAME}: {reason}" for reason in backward.not_supported_reasons(inputs)]
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The names of the operators, as xformers prints them."""
        used = [op.NAME for op in self._operators() if op is not None]
        return f"xformers {used[0]}" if not has_backward(spec) else f"xformers {' and '.join(used)}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Two matrix products in the forward pass, five in the backward pass."""
        return cost.softmax(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        del spec
        return XformersAttention(*self._operators())

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax attention as it is defined."""
        del spec
        return softmax_attention(q, k, v, key_padding_mask, rows)


def _short_inputs(spec: Spec, fmha: ModuleType) -> tuple[Tensor, Tensor, Tensor, Any]:
    """Query, key, value and bias as in the case, but of length 16."""
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
