"""Longformer: softmax attention in a sliding window, with global tokens that see and are seen by all tokens."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast, float16_in_float32
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec


class LongformerAttention(nn.Module):
    """Sliding window and global tokens, computed in chunks of half a window.

    All window keys of a chunk of ``c = window / 2`` queries lie in that chunk and the chunks before and after it.
    Scores are ``[B, H, N / c, c, 3c + global]``, of which the band mask removes a third; no tensor is n x n.

    Args:
        window: keys around a token, half of them on each side.
        global_tokens: how many tokens at the beginning of the sequence are global. Padding before them is not counted.
    """

    def __init__(self, window: int, global_tokens: int) -> None:
        super().__init__()
        self.half_window = window // 2
        self.global_tokens = global_tokens

    @dtype_of_autocast
    @float16_in_float32
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        batch, _, n, dim = q.shape
        num_global = min(self.global_tokens, n)
        q = q * dim**-0.5
        real = key_padding_mask
        if real is None:
            real = torch.ones(batch, n, dtype=torch.bool, device=q.device)
        # The first real tokens, and after them padding, whose output is unspecified.
        first = (~real).int().argsort(dim=-1, stable=True)[:, :num_global]
        out = self._window(q, k, v, real, first)
        if num_global:
            top = _masked(_at(q, first) @ k.transpose(-1, -2), real[:, None, None]).softmax(-1) @ v
            out = out.scatter(2, first[:, None, :, None].expand_as(top), top)
        return out

    def _window(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor, first: Tensor) -> Tensor:
        """Each query attends to its window and to the global keys, at ``first`` ``[B, G]``, with one softmax."""
        n, chunk, num_global = q.shape[2], self.half_window, first.shape[1]
        chunks = -(-n // chunk)
        queries = pad(q, (0, 0, 0, chunks * chunk - n)).unflatten(2, (chunks, chunk))
        keys, values = (_neighbours(x, chunk, chunks) for x in (k, v))
        # Global keys have their own columns, so they are masked out of the window.
        in_window = real.scatter(1, first, False)
        allowed = _neighbours(in_window[:, None, :, None], chunk, chunks)[..., 0].unsqueeze(-2)  # [B, 1, chunks, 1, 3c]
        offset = torch.arange(3 * chunk, device=q.device) - chunk - torch.arange(chunk, device=q.device)[:, None]
        scores = _masked(queries @ keys.transpose(-1, -2), allowed & (offset.abs() <= chunk))
        if num_global:
            global_keys, global_values = (_at(x, first).unsqueeze(2) for x in (k, v))
            global_real = real.gather(1, first)[:, None, None, None]
            global_scores = _masked(queries @ global_keys.transpose(-1, -2), global_real)
            weights = torch.cat([global_scores, scores], -1).softmax(-1)
            out = weights[..., :num_global] @ global_values + weights[..., num_global:] @ values
        else:
            out = scores.softmax(-1) @ values
        return out.flatten(2, 3)[:, :, :n]


def _at(x: Tensor, positions: Tensor) -> Tensor:
    """``[B, H, N, D]`` at positions ``[B, G]``: ``[B, H, G, D]``."""
    return x.gather(2, positions[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))


def _masked(scores: Tensor, allowed: Tensor) -> Tensor:
    # Not -inf: a padded query may see only padded keys, and the resulting NaN would spread to every gradient.
    return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)


def _neighbours(x: Tensor, chunk: int, chunks: int) -> Tensor:
    """``[B, H, N, D]`` to ``[B, H, chunks, 3 chunk, D]``: each chunk with both neighbours, zeros outside."""
    # Not Tensor.unfold: the gradient of its overlapping views is wrong when torch 2.13's inductor compiles it.
    padded = pad(x, (0, 0, chunk, (chunks + 1) * chunk - x.shape[2])).unflatten(2, (chunks + 2, chunk))
    return torch.cat([padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]], 3)


class LongformerPlugin(AttentionPlugin):
    """The sparse attention of Longformer on given q, k and v.

    In the paper, global tokens have separate projections, which are initialised as copies of the others. Projections
    are part of the layer and not of the attention, so here all tokens share q, k and v.
    """

    name = "longformer"
    summary = "softmax attention over a sliding window of w keys and global tokens; O(n w d) time, O(n w) memory"
    source = "Beltagy et al., 2020, https://arxiv.org/abs/2004.05150; verified against transformers' Longformer"
    capabilities = Capabilities(compile=True)

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The size of the window and the number of global tokens.

        - ``window``: keys around a token, half of them on each side (w; 512 in the paper); even.
        - ``global_tokens``: how many tokens at the beginning of the sequence are global.
        """
        del spec
        return {"window": 128, "global_tokens": 1}

    def unsupported(self, spec: Spec) -> list[str]:
        """A window that is odd or below 2, a negative number of global tokens, or a missing device."""
        window, num_global = int(self.knobs(spec)["window"]), int(self.knobs(spec)["global_tokens"])
        reasons = device_reasons(spec)
        if window < 2 or window % 2:
            reasons.append(f"window must be even and at least 2, got {window}")
        if num_global < 0:
            reasons.append(f"global_tokens must not be negative, got {num_global}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        return f"torch matmul, softmax, matmul over half-window chunks and both neighbours, band mask, on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The matrix products of softmax attention, scaled by the fraction of pairs that Longformer computes."""
        if not isinstance(spec, OperationSpec):
            return None
        knobs, n = self.knobs(spec), spec.seq_len
        half_window, num_global = int(knobs["window"]) // 2, min(int(knobs["global_tokens"]), n)
        pairs = n * n - (n - num_global) ** 2 + _band(n - num_global, half_window)
        dense, products = cost.softmax(spec), f"matmul {spec.dtype}"
        return dense | {products: dense[products] * pairs / n**2}

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        knobs = self.knobs(spec)
        return LongformerAttention(int(knobs["window"]), int(knobs["global_tokens"]))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Dense softmax over the pairs shown in figure 2d of the paper."""
        knobs = self.knobs(spec)
        rows, j = rows.to(q.device), torch.arange(q.shape[2], device=q.device)
        real = torch.ones(q.shape[0], q.shape[2], dtype=torch.bool, device=q.device)
        real = real if key_padding_mask is None else key_padding_mask
        is_global = real & (real.cumsum(-1) <= int(knobs["global_tokens"]))
        in_window = (rows[:, None] - j).abs() <= int(knobs["window"]) // 2
        allowed = in_window | is_global[:, None, rows, None] | is_global[:, None, None]
        allowed = allowed & real[:, None, None]
        scores = q[:, :, rows] @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v


def _band(n: int, distance: int) -> int:
    """The number of pairs of n tokens that are at most ``distance`` positions apart."""
    distance = min(distance, max(n - 1, 0))
    return n * (2 * distance + 1) - distance * (distance + 1)
