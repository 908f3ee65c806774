"""BigBird's block-sparse attention: global blocks, a window of blocks, and random blocks."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.core.attention_shape import batch_and_heads
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec


@dataclass(frozen=True)
class Layout:
    """Which blocks there are: ``block`` tokens each, ``blocks`` of them, the last one perhaps short.

    Of these ``top`` at the beginning and ``bottom`` at the end are global, ``window`` (odd) are a block's neighbours
    with itself, and ``random`` are drawn.
    """

    block: int
    blocks: int
    window: int
    top: int
    bottom: int
    random: int


def random_blocks(heads: int, layout: Layout, seed: int) -> Tensor:
    """The random key blocks of every query block, none of them global or in its window; ``seed`` alone decides.

    Returns:
        int64 ``[H, M, r]`` on the CPU, other blocks for each head; -1 where there are fewer than r to choose from.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks, side = layout.blocks, layout.window // 2
    chosen = torch.full((heads, blocks, layout.random), -1, device="cpu")
    for row in range(blocks):
        draw = torch.rand(heads, blocks, generator=generator, device="cpu")
        draw[:, : layout.top] = -1.0
        draw[:, blocks - layout.bottom :] = -1.0
        draw[:, max(row - side, 0) : row + side + 1] = -1.0
        value, block = draw.topk(min(layout.random, blocks), -1)
        chosen[:, row, : value.shape[1]] = block.where(value >= 0, -1)
    return chosen


class BlockSparse(nn.Module):
    """BigBird over given random blocks.

    Each query block gathers the key blocks that it sees into one row of ``K = global + window + random`` blocks, so
    scores are ``[B, H, M, b, K b]``; the global query blocks at both ends take all keys.
    """

    seen: Tensor

    def __init__(self, layout: Layout, chosen: Tensor) -> None:
        super().__init__()
        self.layout = layout
        side, row = layout.window // 2, torch.arange(layout.blocks)[:, None]
        near = row + torch.arange(-side, side + 1)
        # What is both global and in the window is taken once, as global.
        near = near.where((near >= layout.top) & (near < layout.blocks - layout.bottom), -1)
        ends = torch.cat([row[: layout.top, 0], row[layout.blocks - layout.bottom :, 0]]).expand(layout.blocks, -1)
        seen = torch.cat([ends, near], 1).expand(len(chosen), -1, -1)
        self.register_buffer("seen", torch.cat([seen, chosen], -1), persistent=False)  # [H, M, K], -1 for none

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``.

        Raises:
            ValueError: other heads or another number of blocks than the random blocks were drawn for.
        """
        batch, heads, n, dim = q.shape
        size, blocks, top, bottom = self.layout.block, self.layout.blocks, self.layout.top, self.layout.bottom
        if (heads, -(-n // size)) != (len(self.seen), blocks):
            raise ValueError(
                f"bigbird was built for {len(self.seen)} heads and {blocks} blocks of {size} tokens, "
                f"got {heads} heads and {n} tokens"
            )
        real = key_padding_mask
        if real is None:
            real = torch.ones(batch, n, dtype=torch.bool, device=q.device)
        q = q * dim**-0.5
        if top + bottom == blocks:
            return _attend(q, k, v, real[:, None, None])
        first, last = top * size, (blocks - bottom) * size
        parts = [self._sparse(q, k, v, real)[:, :, : n - first]]
        if top:
            parts.insert(0, _attend(q[:, :, :first], k, v, real[:, None, None]))
        if bottom:
            parts.append(_attend(q[:, :, last:], k, v, real[:, None, None]))
        return torch.cat(parts, 2)

    def _sparse(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
        """The query blocks between the global ones, ``[B, H, (M - global) b, D]``."""
        batch, heads, n, _ = q.shape
        blocks, size = self.layout.blocks, self.layout.block
        middle = slice(self.layout.top, blocks - self.layout.bottom)
        seen = self.seen[:, middle]
        q, k, v = (pad(x, (0, 0, 0, blocks * size - n)).unflatten(2, (blocks, size)) for x in (q, k, v))
        real = pad(real, (0, blocks * size - n)).unflatten(1, (blocks, size))
        # Rows of whole blocks: index_select's gradient is one sum of rows, and advanced indexing's a sort.
        rows = torch.arange(batch * heads, device=q.device).view(batch, heads, 1, 1) * blocks + seen.clamp(min=0)
        keys, values = (
            x.reshape(batch * heads * blocks, -1)
            .index_select(0, rows.flatten())
            .view(batch, heads, seen.shape[1], -1, x.shape[-1])
            for x in (k, v)
        )
        allowed = real[:, seen.clamp(min=0)] & (seen >= 0)[..., None]  # [B, H, M, K, b]
        return _attend(q[:, :, middle], keys, values, allowed.flatten(-2).unsqueeze(-2)).flatten(2, 3)


def _attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    # Not -inf: a padded query may see padding alone, and its NaN would reach every gradient.
    scores = (q @ k.transpose(-1, -2)).masked_fill(~allowed, torch.finfo(q.dtype).min)
    return scores.softmax(-1) @ v


class BigBird(AttentionPlugin):
    """BigBird of the internal kind (ITC): the global tokens are the sequence's own.

    As in transformers, blocks are counted over the padded length: what the padding holds changes nothing, but another
    number of blocks has other random blocks and another last one.
    """

    name = "bigbird"
    summary = "softmax over global, window and random blocks; O(n b d) time, O(n b) memory, no n x n tensor"
    source = "Zaheer et al., 2020, https://arxiv.org/abs/2007.14062; verified against transformers' BigBird"
    capabilities = Capabilities(
        deterministic="cpu",
        compile=True,
        why={"deterministic": "on CUDA the gradient of gathered blocks adds with atomics"},
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``block`` tokens; blocks of the ``window`` (odd), ``global_blocks`` (half at each end), ``random_blocks``."""
        del spec
        return {"block": 64, "window": 3, "global_blocks": 2, "random_blocks": 3}

    def unsupported(self, spec: Spec) -> list[str]:
        """Knobs that make no layout."""
        knobs = {name: int(value) for name, value in self.knobs(spec).items()}
        reasons = device_reasons(spec)
        if knobs["block"] < 1:
            reasons.append(f"block must be at least 1, not {knobs['block']}")
        if knobs["window"] < 1 or knobs["window"] % 2 == 0:
            reasons.append(f"window must be odd, not {knobs['window']}")
        reasons += [
            f"{name} must not be negative, not {knobs[name]}"
            for name in ("global_blocks", "random_blocks")
            if knobs[name] < 0
        ]
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The operations in order."""
        return f"torch index_select of key blocks, matmul, softmax, matmul on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Softmax attention's products, for the share of pairs that the definition has."""
        if not isinstance(spec, OperationSpec):
            return None
        layout = self._layout(spec, spec.seq_len)
        everywhere = layout.top + layout.bottom
        each = min(everywhere + layout.window + layout.random, layout.blocks)
        share = (everywhere + (layout.blocks - everywhere) * each / layout.blocks) / layout.blocks
        dense, products = cost.softmax(spec), f"matmul {spec.dtype}"
        return dense | {products: dense[products] * share}

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights, and its random blocks come from ``spec.seed``."""
        layout = self._layout(spec, spec.seq_len)
        chosen = random_blocks(batch_and_heads(spec)[1], layout, spec.seed)
        return BlockSparse(layout, chosen).to(spec.device)

    def _layout(self, spec: Spec, n: int) -> Layout:
        knobs = {name: int(value) for name, value in self.knobs(spec).items()}
        blocks = -(-n // knobs["block"])
        top = min((knobs["global_blocks"] + 1) // 2, blocks)
        bottom = min(knobs["global_blocks"] // 2, blocks - top)
        return Layout(knobs["block"], blocks, knobs["window"], top, bottom, knobs["random_blocks"])

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Dense softmax over the pairs of the paper's adjacency matrix (section 2), from the blocks of its ends."""
        layout = self._layout(spec, q.shape[2])
        chosen = random_blocks(q.shape[1], layout, spec.seed).to(q.device)
        i = (rows.to(q.device) // layout.block)[:, None]
        j = torch.arange(q.shape[2], device=q.device) // layout.block
        allowed = (i - j).abs() <= layout.window // 2
        for block in (i, j):
            allowed = allowed | (block < layout.top) | (block >= layout.blocks - layout.bottom)
        allowed = allowed | (chosen[:, i, :] == j[:, None]).any(-1)  # [H, R, N]
        if key_padding_mask is not None:
            allowed = allowed & key_padding_mask[:, None, None]
        scores = q[:, :, rows] @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v
