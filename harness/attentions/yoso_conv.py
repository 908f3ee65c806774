"""Sampled YOSO plus the depthwise convolution of the values that its paper adds for long sequences."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.core import registry
from harness.core.attention_shape import batch_and_heads
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import ModelSpec, OperationSpec, Scalar, Spec
from yoso.models.convolution import convolve, make_convolution


class YosoWithConvolution(nn.Module):
    """The sum of an attention's output and a convolution of the values; see ``AttentionPlugin`` for the call."""

    def __init__(self, attention: nn.Module, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.attention = attention
        self.convolution = convolution

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        out: Tensor = self.attention(q, k, v, key_padding_mask)
        return out + convolve(self.convolution, v, key_padding_mask)


class YosoConvolutionPlugin(AttentionPlugin):
    """The registered attention ``yoso`` plus a convolution, which has trainable weights."""

    name = "yoso_conv"
    summary = "sampled YOSO plus a learned depthwise convolution of the values; O(n m d) time, O(n) memory"
    source = "Zeng et al., ICML 2021, https://arxiv.org/abs/2111.09714, and conv_window in the authors' code"
    capabilities = Capabilities(
        compile=True, why={"cross_attention": "the convolution is over values around the query's position"}
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The knobs of ``yoso``, and ``conv_window``: odd width in tokens (33 in the authors' long-sequence models)."""
        return dict(registry.get("yoso").default_knobs(spec)) | {"conv_window": 33}

    def unsupported(self, spec: Spec) -> list[str]:
        """The reasons of ``yoso``, an even window, or a model that already has its own convolution."""
        window = int(self.knobs(spec)["conv_window"])
        reasons = registry.get("yoso").unsupported(_without_window(spec))
        if isinstance(spec, ModelSpec) and spec.conv_window is not None:
            reasons.append(
                f"the model already has its own convolution of {spec.conv_window} tokens; use attention 'yoso' in it, "
                "or leave out the model's conv_window"
            )
        if window < 1 or window % 2 == 0:
            reasons.append(f"conv_window must be odd and at least 1, got {window}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The kernel of ``yoso`` and torch's convolution."""
        return f"{registry.get('yoso').kernel(_without_window(spec))}, torch conv2d"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The cost of ``yoso``, plus one multiply-add per value and tap; backward adds as many for grad_v."""
        if not isinstance(spec, OperationSpec):
            return None
        yoso_cost = dict(registry.get("yoso").cost(_without_window(spec)) or {})
        numbers = float(spec.batch * spec.heads) * spec.seq_len * spec.head_dim
        passes = 2 if spec.mode == "forward_backward" else 1
        taps = 2 * numbers * int(self.knobs(spec)["conv_window"]) * passes
        return yoso_cost | {"vector float32": yoso_cost.get("vector float32", 0.0) + taps}

    def build(self, spec: Spec) -> nn.Module:
        """The module, with initial weights drawn from the spec's seed."""
        weight = self._initial_weight(spec)
        convolution = make_convolution(weight.shape[0], weight.shape[2])
        convolution.weight = nn.Parameter(weight)
        return YosoWithConvolution(registry.get("yoso").build(_without_window(spec)), convolution).to(spec.device)

    def _initial_weight(self, spec: Spec) -> Tensor:
        """``[H, 1, window, 1]`` in the spec's dtype on the CPU, uniform as torch initialises a convolution."""
        window = int(self.knobs(spec)["conv_window"])
        generator = torch.Generator("cpu").manual_seed(spec.seed)
        weight = torch.rand(batch_and_heads(spec)[1], 1, window, 1, generator=generator, device="cpu")
        return ((2 * weight - 1) / math.sqrt(window)).to(torch_dtype(spec.dtype))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The definition of ``yoso``, plus a dense matrix of convolution weights between any two positions."""
        out = registry.get("yoso").oracle(_without_window(spec), q, k, v, key_padding_mask, rows)
        taps = self._initial_weight(spec)[:, 0, :, 0].to(v)
        tap_index = torch.arange(v.shape[2], device=v.device) - rows.to(v.device)[:, None] + taps.shape[1] // 2
        inside = (tap_index >= 0) & (tap_index < taps.shape[1])
        matrix = taps[:, tap_index.clamp(0, taps.shape[1] - 1)] * inside  # [H, R, N]
        if key_padding_mask is not None:
            v = v.masked_fill(~key_padding_mask[:, None, :, None], 0)
        return out + matrix @ v


def _without_window(spec: Spec) -> Spec:
    """The spec for ``yoso``, which has all of these knobs except ``conv_window``."""
    return spec.model_copy(update={"knobs": {name: spec.knobs[name] for name in spec.knobs if name != "conv_window"}})
