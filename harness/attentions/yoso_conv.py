"""Sampled YOSO with the depthwise convolution of the values that its paper adds for long sequences."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.core import registry
from harness.core.attention_shape import batch_and_heads
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import ModelSpec, OperationSpec, Scalar, Spec
from yoso.models.convolution import ValueConvolution


class YosoWithConvolution(nn.Module):
    """The sum of an attention's output and a convolution of the values; see ``AttentionPlugin`` for the call."""

    def __init__(self, attention: nn.Module, convolution: ValueConvolution) -> None:
        super().__init__()
        self.attention = attention
        self.convolution = convolution

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        out: Tensor = self.attention(q, k, v, key_padding_mask)
        return out + self.convolution(v, key_padding_mask)


class YosoConvolution(AttentionPlugin):
    """The attention ``yoso`` of the registry, and the convolution; parametric."""

    name = "yoso_conv"
    summary = "YOSO sampled by m hashes, plus a depthwise convolution of the values, which has weights; O(n m d) time"
    source = "Zeng et al., ICML 2021, https://arxiv.org/abs/2111.09714, and its code's conv_window"
    capabilities = Capabilities(compile=True, why={"cross_attention": "an output's window is of its own sequence"})

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """Those of ``yoso``, and ``conv_window``, odd: 33 tokens in the authors' models for long sequences."""
        return dict(registry.get("yoso").default_knobs(spec)) | {"conv_window": 33}

    def unsupported(self, spec: Spec) -> list[str]:
        """What ``yoso`` cannot; an even window; a model that has a convolution of its own beside the attention."""
        window = int(self.knobs(spec)["conv_window"])
        reasons = registry.get("yoso").unsupported(_without_window(spec))
        if isinstance(spec, ModelSpec) and spec.conv_window is not None:
            reasons.append(
                f"the model has a convolution of its own, of {spec.conv_window} tokens; take attention 'yoso' in it, "
                "or leave the model's conv_window out"
            )
        if window < 1 or window % 2 == 0:
            reasons.append(f"conv_window must be odd and at least 1, got {window}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The kernel of ``yoso``, and torch's convolution."""
        return f"{registry.get('yoso').kernel(_without_window(spec))}, torch conv2d"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The cost of ``yoso``, and a multiply-add a number and tap; backward gives one to the values."""
        if not isinstance(spec, OperationSpec):
            return None
        least = dict(registry.get("yoso").cost(_without_window(spec)) or {})
        numbers = float(spec.batch * spec.heads) * spec.seq_len * spec.head_dim
        passes = 2 if spec.mode == "forward_backward" else 1
        taps = 2 * numbers * int(self.knobs(spec)["conv_window"]) * passes
        return least | {"vector float32": least.get("vector float32", 0.0) + taps}

    def build(self, spec: Spec) -> nn.Module:
        """The module with initial weights from the spec's seed."""
        weight = self._initial(spec)
        convolution = ValueConvolution(weight.shape[0], weight.shape[2])
        convolution.weight = nn.Parameter(weight)
        return YosoWithConvolution(registry.get("yoso").build(_without_window(spec)), convolution).to(spec.device)

    def _initial(self, spec: Spec) -> Tensor:
        """``[H, 1, window, 1]`` in the spec's dtype on the CPU, uniform as torch initialises a convolution."""
        window = int(self.knobs(spec)["conv_window"])
        generator = torch.Generator("cpu").manual_seed(spec.seed)
        weight = torch.rand(batch_and_heads(spec)[1], 1, window, 1, generator=generator, device="cpu")
        return ((2 * weight - 1) / math.sqrt(window)).to(torch_dtype(spec.dtype))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The definition of ``yoso``, and a dense matrix of the taps between any two positions."""
        out = registry.get("yoso").oracle(_without_window(spec), q, k, v, key_padding_mask, rows)
        taps = self._initial(spec)[:, 0, :, 0].to(v)
        apart = torch.arange(v.shape[2], device=v.device) - rows.to(v.device)[:, None] + taps.shape[1] // 2
        inside = (apart >= 0) & (apart < taps.shape[1])
        matrix = taps[:, apart.clamp(0, taps.shape[1] - 1)] * inside  # [H, R, N]
        if key_padding_mask is not None:
            v = v.masked_fill(~key_padding_mask[:, None, :, None], 0)
        return out + matrix @ v


def _without_window(spec: Spec) -> Spec:
    """The spec for ``yoso``, which has all of its knobs but one."""
    return spec.model_copy(update={"knobs": {name: spec.knobs[name] for name in spec.knobs if name != "conv_window"}})
