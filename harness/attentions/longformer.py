"""Longformer's attention: a sliding window, and global tokens that see and are seen by all."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec


class SlidingWindow(nn.Module):
    """Sliding window and global tokens in chunks of half a window.

    A chunk of ``c = window / 2`` queries has all its keys in the chunks before, at and after its own: scores are
    ``[B, H, N / c, c, 3c + global]``, a third of which the band masks away; nothing is n x n.
    """

    def __init__(self, window: int, global_tokens: int) -> None:
        super().__init__()
        self.side = window // 2
        self.global_tokens = global_tokens

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        batch, _, n, dim = q.shape
        some = min(self.global_tokens, n)
        q = q * dim**-0.5
        real = key_padding_mask
        if real is None:
            real = torch.ones(batch, n, dtype=torch.bool, device=q.device)
        out = self._window(q, k, v, real, some)
        if some:
            top = _masked(q[:, :, :some] @ k.transpose(-1, -2), real[:, None, None]).softmax(-1) @ v
            out = torch.cat([top, out[:, :, some:]], 2)
        return out

    def _window(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor, some: int) -> Tensor:
        """Every row over its window and the global keys, with one softmax over both."""
        n, side = q.shape[2], self.side
        chunks = -(-n // side)
        queries = pad(q, (0, 0, 0, chunks * side - n)).unflatten(2, (chunks, side))
        keys, values = (_neighbours(x, side, chunks) for x in (k, v))
        # The global keys have columns of their own, and so are none of the window's.
        in_window = real & (torch.arange(n, device=q.device) >= some)
        allowed = _neighbours(in_window[:, None, :, None], side, chunks)[..., 0].unsqueeze(-2)  # [B, 1, chunks, 1, 3c]
        offset = torch.arange(3 * side, device=q.device) - side - torch.arange(side, device=q.device)[:, None]
        scores = _masked(queries @ keys.transpose(-1, -2), allowed & (offset.abs() <= side))
        if some:
            shared = _masked(queries @ k[:, :, None, :some].transpose(-1, -2), real[:, None, None, None, :some])
            weights = torch.cat([shared, scores], -1).softmax(-1)
            out = weights[..., :some] @ v[:, :, None, :some] + weights[..., some:] @ values
        else:
            out = scores.softmax(-1) @ values
        return out.flatten(2, 3)[:, :, :n]


def _masked(scores: Tensor, allowed: Tensor) -> Tensor:
    # Not -inf: a padded query may see padding alone, and its NaN would reach every gradient.
    return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)


def _neighbours(x: Tensor, side: int, chunks: int) -> Tensor:
    """``[B, H, N, D]`` to ``[B, H, chunks, 3 side, D]``: each chunk between its two neighbours, zeros outside."""
    padded = pad(x, (0, 0, side, (chunks + 1) * side - x.shape[2]))
    return padded.unfold(2, 3 * side, side).transpose(-1, -2)


class Longformer(AttentionPlugin):
    """The sparse attention of Longformer on given q, k and v.

    The paper gives global tokens projections of their own, which start as copies of the others; projections belong to
    the layer, so here all tokens share q, k and v.
    """

    name = "longformer"
    summary = "softmax over a sliding window and some global tokens; O(n w d) time, O(n w) memory, no n x n tensor"
    source = "Beltagy et al., 2020, https://arxiv.org/abs/2004.05150; verified against transformers' Longformer"
    capabilities = Capabilities(compile=True)

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``window``: keys around a token, half on each side (paper: 512); ``global_tokens``: the first ones."""
        del spec
        return {"window": 128, "global_tokens": 1}

    def unsupported(self, spec: Spec) -> list[str]:
        """Windows that have no two halves."""
        window, some = int(self.knobs(spec)["window"]), int(self.knobs(spec)["global_tokens"])
        reasons = device_reasons(spec)
        if window < 2 or window % 2:
            reasons.append(f"window must be even and at least 2, not {window}")
        if some < 0:
            reasons.append(f"global_tokens must not be negative, not {some}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The operations in order."""
        return f"torch matmul, softmax, matmul over half-window chunks and both neighbours, band mask, on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Softmax attention's products, for the share of pairs that the definition has."""
        if not isinstance(spec, OperationSpec):
            return None
        knobs, n = self.knobs(spec), spec.seq_len
        side, some = int(knobs["window"]) // 2, min(int(knobs["global_tokens"]), n)
        pairs = n * n - (n - some) ** 2 + _band(n - some, side)
        dense, products = cost.softmax(spec), f"matmul {spec.dtype}"
        return dense | {products: dense[products] * pairs / n**2}

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights."""
        knobs = self.knobs(spec)
        return SlidingWindow(int(knobs["window"]), int(knobs["global_tokens"]))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Dense softmax over the pairs that the paper's figure 2d has."""
        knobs = self.knobs(spec)
        i, j = rows.to(q.device)[:, None], torch.arange(q.shape[2], device=q.device)
        some = int(knobs["global_tokens"])
        allowed = ((i - j).abs() <= int(knobs["window"]) // 2) | (i < some) | (j < some)
        if key_padding_mask is not None:
            allowed = allowed & key_padding_mask[:, None, None]
        scores = q[:, :, rows] @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v


def _band(n: int, side: int) -> int:
    """Pairs of n tokens that are at most ``side`` apart."""
    side = min(side, max(n - 1, 0))
    return n * (2 * side + 1) - side * (side + 1)
