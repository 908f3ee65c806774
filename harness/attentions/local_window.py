"""Softmax attention in a sliding window: each token sees the keys up to a fixed distance, computed in blocks."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec


class LocalWindow(nn.Module):
    """Window attention in blocks of ``window`` queries; see ``AttentionPlugin`` for the call.

    All keys of a block of queries lie in that block and in the blocks before and after it. Each block is therefore a
    small softmax attention of ``window`` queries to ``3 window`` keys with a band mask, which masks out a third of the
    computed pairs for any n.

    Args:
        window: keys on each side of a query.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    @dtype_of_autocast
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; intermediate keys, values and masks have ``3 N`` rows."""
        batch, heads, n, _ = q.shape
        window = min(self.window, n)
        blocks = -(-n // window)
        missing = blocks * window - n
        queries = pad(q, (0, 0, 0, missing)).unflatten(2, (blocks, window))
        keys, values = (_neighbours(pad(x, (0, 0, window, window + missing)), window) for x in (k, v))
        # Blocks are merged with the batch dimension instead of the heads, so that all heads share one mask.
        queries, keys, values = (x.transpose(1, 2).flatten(0, 1) for x in (queries, keys, values))
        mask = self._mask(n, window, missing, key_padding_mask, q.device).expand(batch, -1, -1, -1)
        out = scaled_dot_product_attention(queries, keys, values, attn_mask=mask.flatten(0, 1)[:, None])
        out = out.unflatten(0, (batch, blocks)).transpose(1, 2)
        return out.reshape(batch, heads, n + missing, -1)[:, :, :n]

    def _mask(self, n: int, window: int, missing: int, key_padding_mask: Tensor | None, device: torch.device) -> Tensor:
        """Which of the ``3 window`` keys each query sees: bool ``[B or 1, blocks, window, 3 window]``."""
        if key_padding_mask is None:
            key_padding_mask = torch.ones(1, n, dtype=torch.bool, device=device)
        real = _neighbours(pad(key_padding_mask, (window, window + missing))[:, None, :, None], window)[:, 0, :, :, 0]
        distances = torch.arange(3 * window, device=device) - window - torch.arange(window, device=device)[:, None]
        # A padded query sees itself: a row without any key would give NaN outputs and gradients.
        return ((distances.abs() <= window) & real[:, :, None, :]) | (distances == 0)


def _neighbours(padded: Tensor, window: int) -> Tensor:
    """Each block joined with the blocks before and after it: ``[B, H, blocks, 3 window, D]``."""
    x = padded.unflatten(2, (-1, window))
    return torch.cat([x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]], 3)


class LocalWindowPlugin(AttentionPlugin):
    """Sliding-window attention without global tokens."""

    name = "local_window"
    summary = "softmax attention to the keys at most w positions away; O(n w d) time, O(n w) memory"
    source = (
        "the sliding window of Beltagy et al., 2020, section 3.1, https://arxiv.org/abs/2004.05150; implemented here"
    )
    capabilities = Capabilities(
        deterministic="cpu",
        compile=True,
        why={
            "cross_attention": "the window is a range of positions in the query's own sequence",
            "deterministic": "torch's fused CUDA backward pass sums with atomic additions",
        },
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``window`` (w): keys on each side of a query; Longformer calls w = 64 a window of 128."""
        del spec
        return {"window": 64}

    def unsupported(self, spec: Spec) -> list[str]:
        """A missing device, or a window below 1."""
        window = int(self.knobs(spec)["window"])
        narrow = [f"window must be at least 1, got {window}"] if window < 1 else []
        return [*device_reasons(spec), *narrow]

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        return f"torch sdpa over blocks of w queries and 3 w keys with a band mask on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Over the pairs in the window: two products forward and five backward, one of which recomputes the scores."""
        if not isinstance(spec, OperationSpec):
            return None
        products = 7 if spec.mode == "forward_backward" else 2
        window = min(int(self.knobs(spec)["window"]), spec.seq_len - 1)
        pairs = float(spec.batch * spec.heads) * (spec.seq_len * (2 * window + 1) - window * (window + 1))
        return {f"matmul {spec.dtype}": 2 * pairs * spec.head_dim * products, "copy": cost.softmax(spec)["copy"]}

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        return LocalWindow(int(self.knobs(spec)["window"]))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax over all keys, with minus infinity for keys outside the window and padded keys."""
        rows = rows.to(q.device)
        hidden = (rows[:, None] - torch.arange(k.shape[2], device=q.device)).abs() > int(self.knobs(spec)["window"])
        if key_padding_mask is not None:
            hidden = hidden | ~key_padding_mask[:, None, None, :]
        scores = q[:, :, rows] @ k.mT / math.sqrt(q.shape[-1])
        return scores.masked_fill(hidden, -math.inf).softmax(-1) @ v
