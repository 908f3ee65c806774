"""BigBird: block-sparse softmax attention over global, neighbouring and random blocks of tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast, float16_in_float32
from harness.core.attention_shape import batch_and_heads
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec


@dataclass(frozen=True)
class BlockLayout:
    """How a sequence is cut into blocks, and how many blocks of each kind a query block sees."""

    block: int
    """Tokens per block; the last block of a sequence may have fewer."""
    blocks: int
    """Blocks in the sequence, M."""
    window: int
    """Neighbouring blocks that a query block sees, itself included; odd."""
    top: int
    """Global blocks at the beginning of the sequence."""
    bottom: int
    """Global blocks at the end of the sequence."""
    random: int
    """Random blocks per query block, r."""


def random_blocks(heads: int, layout: BlockLayout, seed: int) -> Tensor:
    """Draw the random key blocks of every query block, excluding global blocks and blocks of its window.

    The result depends on ``seed`` alone, not on torch's default generator.

    Returns:
        int64 ``[H, M, r]`` on the CPU, drawn separately for each head; -1 where fewer than r blocks are available.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks, half_window = layout.blocks, layout.window // 2
    chosen = torch.full((heads, blocks, layout.random), -1, device="cpu")
    for row in range(blocks):
        draw = torch.rand(heads, blocks, generator=generator, device="cpu")
        draw[:, : layout.top] = -1.0
        draw[:, blocks - layout.bottom :] = -1.0
        draw[:, max(row - half_window, 0) : row + half_window + 1] = -1.0
        value, block = draw.topk(min(layout.random, blocks), -1)
        chosen[:, row, : value.shape[1]] = block.where(value >= 0, -1)
    return chosen


class BigBirdAttention(nn.Module):
    """BigBird attention with fixed random blocks.

    Each query block gathers the ``K = global + window + random`` key blocks that it sees, so scores are
    ``[B, H, M, b, K b]``. The global query blocks at both ends attend to all keys.

    Args:
        layout: how the sequence is cut into blocks.
        chosen: int64 ``[H, M, r]``, the random key blocks, from ``random_blocks``.
    """

    key_blocks: Tensor

    def __init__(self, layout: BlockLayout, chosen: Tensor) -> None:
        super().__init__()
        self.layout = layout
        half_window, row = layout.window // 2, torch.arange(layout.blocks)[:, None]
        near = row + torch.arange(-half_window, half_window + 1)
        # A block that is both global and in the window is counted once, as global.
        near = near.where((near >= layout.top) & (near < layout.blocks - layout.bottom), -1)
        ends = torch.cat([row[: layout.top, 0], row[layout.blocks - layout.bottom :, 0]]).expand(layout.blocks, -1)
        fixed = torch.cat([ends, near], 1).expand(len(chosen), -1, -1)
        key_blocks = torch.cat([fixed, chosen], -1)  # [H, M, K], -1: no block
        self.register_buffer("key_blocks", key_blocks, persistent=False)

    @dtype_of_autocast
    @float16_in_float32
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``.

        Raises:
            ValueError: the number of heads or blocks differs from the one that the random blocks were drawn for.
        """
        batch, heads, n, dim = q.shape
        size, blocks, top, bottom = self.layout.block, self.layout.blocks, self.layout.top, self.layout.bottom
        if (heads, -(-n // size)) != (len(self.key_blocks), blocks):
            raise ValueError(
                f"bigbird was built for {len(self.key_blocks)} heads and {blocks} blocks of {size} tokens, "
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
        """Output of the query blocks between the global ones, ``[B, H, (M - global) b, D]``."""
        batch, heads, n, _ = q.shape
        blocks, size = self.layout.blocks, self.layout.block
        middle = slice(self.layout.top, blocks - self.layout.bottom)
        key_blocks = self.key_blocks[:, middle]
        q, k, v = (pad(x, (0, 0, 0, blocks * size - n)).unflatten(2, (blocks, size)) for x in (q, k, v))
        real = pad(real, (0, blocks * size - n)).unflatten(1, (blocks, size))
        # Index whole blocks with index_select: its gradient is one sum of rows, that of advanced indexing needs a sort.
        rows = torch.arange(batch * heads, device=q.device).view(batch, heads, 1, 1) * blocks + key_blocks.clamp(min=0)
        keys, values = (
            x.reshape(batch * heads * blocks, -1)
            .index_select(0, rows.flatten())
            .view(batch, heads, key_blocks.shape[1], -1, x.shape[-1])
            for x in (k, v)
        )
        allowed = real[:, key_blocks.clamp(min=0)] & (key_blocks >= 0)[..., None]  # [B, H, M, K, b]
        return _attend(q[:, :, middle], keys, values, allowed.flatten(-2).unsqueeze(-2)).flatten(2, 3)


def _attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    # Not -inf: a padded query may see only padded keys, and the resulting NaN would spread to every gradient.
    scores = q @ k.transpose(-1, -2)
    return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1) @ v


class BigBirdPlugin(AttentionPlugin):
    """BigBird with internal global tokens (ITC): the global tokens are tokens of the sequence.

    As in transformers, blocks are counted over the padded length. The contents of the padding do not change the output,
    but more padding can add blocks, and then the random blocks and the last global block are different.
    """

    name = "bigbird"
    summary = "softmax attention over global, neighbouring and random blocks of b tokens; O(n b d) time, O(n b) memory"
    source = "Zaheer et al., 2020, https://arxiv.org/abs/2007.14062; verified against transformers' BigBird"
    capabilities = Capabilities(
        deterministic="cpu",
        compile=True,
        padding_width=False,
        why={
            "deterministic": "on CUDA the gradient of the gathered blocks is summed with atomic additions",
            "padding_width": "blocks are counted over the padded length, as in transformers: more padding moves the "
            "last global block, draws other random blocks and, at the front, moves the tokens to other blocks",
        },
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The sizes of the block layout.

        - ``block``: tokens per block (b).
        - ``window``: neighbouring blocks that a query block sees, itself included; odd.
        - ``global_blocks``: blocks that see and are seen by all tokens, half of them at each end of the sequence.
        - ``random_blocks``: random blocks per query block.
        """
        del spec
        return {"block": 64, "window": 3, "global_blocks": 2, "random_blocks": 3}

    def unsupported(self, spec: Spec) -> list[str]:
        """Reasons why the knobs do not describe a block layout, or why the device is missing."""
        knobs = {name: int(value) for name, value in self.knobs(spec).items()}
        reasons = device_reasons(spec)
        if knobs["block"] < 1:
            reasons.append(f"block must be at least 1, got {knobs['block']}")
        if knobs["window"] < 1 or knobs["window"] % 2 == 0:
            reasons.append(f"window must be odd, got {knobs['window']}")
        reasons += [
            f"{name} must not be negative, got {knobs[name]}"
            for name in ("global_blocks", "random_blocks")
            if knobs[name] < 0
        ]
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        return f"torch index_select of key blocks, matmul, softmax, matmul on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The matrix products of softmax attention, scaled by the fraction of pairs that BigBird computes."""
        if not isinstance(spec, OperationSpec):
            return None
        layout = self._layout(spec, spec.seq_len)
        global_blocks = layout.top + layout.bottom
        blocks_per_query = min(global_blocks + layout.window + layout.random, layout.blocks)
        share = (global_blocks + (layout.blocks - global_blocks) * blocks_per_query / layout.blocks) / layout.blocks
        dense, products = cost.softmax(spec), f"matmul {spec.dtype}"
        return dense | {products: dense[products] * share}

    def build(self, spec: Spec) -> nn.Module:
        """The module. It has no weights; its random blocks are drawn from ``spec.seed``."""
        layout = self._layout(spec, spec.seq_len)
        chosen = random_blocks(batch_and_heads(spec)[1], layout, spec.seed)
        return BigBirdAttention(layout, chosen).to(spec.device)

    def _layout(self, spec: Spec, n: int) -> BlockLayout:
        knobs = {name: int(value) for name, value in self.knobs(spec).items()}
        blocks = -(-n // knobs["block"])
        top = min((knobs["global_blocks"] + 1) // 2, blocks)
        bottom = min(knobs["global_blocks"] // 2, blocks - top)
        return BlockLayout(knobs["block"], blocks, knobs["window"], top, bottom, knobs["random_blocks"])

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Dense softmax over the pairs of the paper's adjacency matrix (section 2), built from block indices."""
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
