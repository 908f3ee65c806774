"""Linformer: keys and values projected along the sequence to a fixed length by learned matrices."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast, float16_in_float32
from harness.core.attention_shape import batch_and_heads
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import OperationSpec, Scalar, Spec

SHARING = ("none", "headwise", "key_value")
FEW_KEYS = 128
"""With fewer projected keys than this, softmax is computed by plain torch operations instead of sdpa.

The fused backward of sdpa recomputes each weight as ``exp(score - logsumexp)``, a difference of two large rounded
numbers. With 16 projected keys its float32 gradients had 2 to 4 times the error of plain softmax (torch 2.13, CPU);
with 256 the error was not larger.
"""


class Linformer(nn.Module):
    """Softmax attention to projected keys and values; see ``AttentionPlugin`` for the call.

    A sequence of L real tokens uses the first L columns of the projections, wherever its padding is. Padded keys and
    values are set to zero before the projection; a linear projection has no sum of weights to renormalise.

    Args:
        key_projection: the paper's E, ``[H or 1, K, max_length]``, which becomes a parameter.
        value_projection: the paper's F, as ``key_projection``; the same tensor makes one shared parameter.
    """

    def __init__(self, key_projection: Tensor, value_projection: Tensor) -> None:
        super().__init__()
        self.key_projection = nn.Parameter(key_projection)
        shared = key_projection is value_projection
        self.value_projection = self.key_projection if shared else nn.Parameter(value_projection)

    @dtype_of_autocast
    @float16_in_float32
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``.

        Raises:
            ValueError: the sequence has more tokens than the projections have columns.
        """
        n, longest = k.shape[2], self.key_projection.shape[2]
        if n > longest:
            raise ValueError(f"this Linformer projects sequences of up to {longest} tokens, got {n}")
        if key_padding_mask is not None:
            k, v = (_real_first(x, key_padding_mask) for x in (k, v))
        keys = self.key_projection[..., :n].to(k.dtype) @ k
        values = self.value_projection[..., :n].to(v.dtype) @ v
        if keys.shape[2] < FEW_KEYS:
            return (q @ keys.mT / math.sqrt(q.shape[3])).softmax(-1) @ values
        return scaled_dot_product_attention(q, keys, values)


def _real_first(x: Tensor, key_padding_mask: Tensor) -> Tensor:
    """``[B, H, N, D]`` with each sequence's real tokens at the front, in order, and zeros after them."""
    order = (~key_padding_mask).int().argsort(dim=-1, stable=True)
    real = key_padding_mask.gather(1, order)
    return x.gather(2, order[:, None, :, None].expand_as(x)) * real[:, None, :, None]


class LinformerPlugin(AttentionPlugin):
    """Linformer, whose projections are trainable weights."""

    name = "linformer"
    summary = "softmax attention to K learned projections of the keys and values; O(n K d) time, O(n K) memory"
    source = "Wang et al., 2020, https://arxiv.org/abs/2006.04768; implemented here"
    capabilities = Capabilities(
        deterministic="cpu",
        compile=True,
        why={"deterministic": "torch's fused CUDA backward pass sums with atomic additions"},
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The number of projected keys, and how the projections are shared.

        - ``projected_length``: projected keys and values per head (K).
        - ``sharing`` (section 4 of the paper): "none": each head has its own key projection E and value projection F;
          "headwise": all heads share one E and one F; "key_value": all heads share one matrix for both.
        """
        return {"projected_length": min(256, spec.seq_len), "sharing": "none"}

    def unsupported(self, spec: Spec) -> list[str]:
        """An unknown sharing, a projected length below 1, or a missing device."""
        knobs = self.knobs(spec)
        reasons = device_reasons(spec)
        if knobs["sharing"] not in SHARING:
            reasons.append(f"sharing must be one of {', '.join(SHARING)}, got {knobs['sharing']!r}")
        if int(knobs["projected_length"]) < 1:
            reasons.append(f"projected_length must be at least 1, got {knobs['projected_length']}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        few = int(self.knobs(spec)["projected_length"]) < FEW_KEYS
        attend = "matmul, softmax, matmul" if few else "torch sdpa"
        return f"torch matmul of keys and of values, {attend} on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Forward: four products of n x K x d. Backward: six, without the gradients of the weights."""
        if not isinstance(spec, OperationSpec):
            return None
        products = 10 if spec.mode == "forward_backward" else 4
        pairs = float(spec.batch * spec.heads) * spec.seq_len * int(self.knobs(spec)["projected_length"])
        return {f"matmul {spec.dtype}": 2 * pairs * spec.head_dim * products, "copy": cost.softmax(spec)["copy"]}

    def build(self, spec: Spec) -> nn.Module:
        """The module, with initial weights drawn from the spec's seed."""
        return Linformer(*self._initial(spec)).to(spec.device)

    def _initial(self, spec: Spec) -> tuple[Tensor, Tensor]:
        """E and F in the spec's dtype on the CPU, normally distributed with variance 1/K (theorem 2 of the paper)."""
        knobs = self.knobs(spec)
        length, sharing = int(knobs["projected_length"]), knobs["sharing"]
        shape = (batch_and_heads(spec)[1] if sharing == "none" else 1, length, spec.seq_len)
        generator = torch.Generator("cpu").manual_seed(spec.seed)
        keys, values = (
            (torch.randn(shape, generator=generator, device="cpu") / math.sqrt(length)).to(torch_dtype(spec.dtype))
            for _ in range(2)
        )
        return keys, keys if sharing == "key_value" else values

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Equation 7 of the paper with the initial weights, one sequence at a time, over its real tokens."""
        outputs = []
        for b in range(q.shape[0]):
            real = slice(None) if key_padding_mask is None else key_padding_mask[b]
            keys, values = k[b, :, real], v[b, :, real]
            key_projection, value_projection = (x.to(q)[..., : keys.shape[1]] for x in self._initial(spec))
            scores = q[b][:, rows] @ (key_projection @ keys).mT / math.sqrt(q.shape[3])
            outputs.append(scores.softmax(-1) @ (value_projection @ values))
        return torch.stack(outputs)
