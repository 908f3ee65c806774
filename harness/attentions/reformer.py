"""Reformer: LSH attention in which queries and keys are one tensor and attend within chunks sorted by hash bucket."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast, float16_in_float32
from harness.core.attention_shape import batch_and_heads, head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec

AMBIGUOUS_GAP = 1e-4
"""If the two largest projections of a unit vector are closer than this, float32 rounding may decide its bucket."""


class LshAttention(nn.Module):
    """LSH attention: tokens are sorted by bucket and cut into chunks; each chunk attends to itself and the one before.

    No tensor is n x n.

    Args:
        chunk: tokens per chunk, c.
        factors: the number of buckets as a product of even factors, from ``_factors``.
        rotations: float32 ``[H, D, R, sum(factors) / 2]``, random directions for R rounds of hashing.
    """

    rotations: Tensor

    def __init__(self, chunk: int, factors: tuple[int, ...], rotations: Tensor) -> None:
        super().__init__()
        self.chunk = chunk
        self.factors = factors
        self.register_buffer("rotations", rotations, persistent=False)  # float32 [H, D, R, sum(factors) / 2]

    @dtype_of_autocast
    @float16_in_float32
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        batch, _, n, _ = q.shape
        real = key_padding_mask
        if real is None:
            real = torch.ones(batch, n, dtype=torch.bool, device=q.device)
        rest = -n % self.chunk
        order = self._order(q, k, pad(real, (0, rest)))
        # The last chunk with real tokens precedes the first one. Without padding it is the last chunk, as in
        # transformers; with padding, the output does not depend on the amount of padding.
        last = ((real.sum(-1) - 1).clamp(min=0) // self.chunk).view(batch, 1, 1, 1, 1, 1)

        queries, values = (self._sorted(pad(x, (0, 0, 0, rest)), order) for x in ((q + k) / 2, v))
        place = order.unflatten(-1, (-1, self.chunk))  # [B, H, R, M, c]
        keys, values, places = (_with_previous_chunk(x, last) for x in (_unit(queries), values, place[..., None]))
        places = places.squeeze(-1).unsqueeze(-2)  # [B, H, R, M, 1, 2c]
        visible = torch.take_along_dim(pad(real, (0, rest))[:, None, None, None, None], places, -1)
        scores = queries @ keys.transpose(-1, -2)
        lowest = torch.finfo(scores.dtype).min
        # A token attends to itself only if it sees no other key: its own score lies between other keys and padding.
        scores = scores.masked_fill(~visible, lowest).masked_fill(place.unsqueeze(-1) == places, lowest / 2)
        wide = torch.promote_types(q.dtype, torch.float32)  # the rounds are weighted by exponentials of large numbers
        log_sums = scores.to(wide).logsumexp(-1).flatten(3)  # [B, H, R, N], for each round
        out = (scores.softmax(-1) @ values).flatten(3, 4)

        back = order.argsort(-1)
        share = log_sums.gather(-1, back).softmax(2).to(out.dtype)
        out = out.gather(3, back.unsqueeze(-1).expand_as(out))
        return (out * share.unsqueeze(-1)).sum(2)[:, :, :n]

    def _order(self, q: Tensor, k: Tensor, real: Tensor) -> Tensor:
        """Positions sorted by bucket, then by position, with padding last: int64 ``[B, H, R, N]``."""
        bucket = _bucket_number(_digits(_shared(q, k), self.rotations, self.factors), self.factors)
        bucket = pad(bucket, (0, real.shape[1] - q.shape[2]))
        return bucket.masked_fill(~real[:, None, None], math.prod(self.factors)).argsort(dim=-1, stable=True)

    def _sorted(self, x: Tensor, order: Tensor) -> Tensor:
        """Reorder ``[B, H, N, D]`` into M chunks per round, ``[B, H, R, M, c, D]``."""
        index = order.unsqueeze(-1).expand(*order.shape, x.shape[-1])
        return x.unsqueeze(2).expand(index.shape).gather(3, index).unflatten(3, (-1, self.chunk))


def _shared(q: Tensor, k: Tensor) -> Tensor:
    """The mean of queries and keys that is hashed: float32 for any input dtype, without gradient."""
    return (q.detach().float() + k.detach().float()) / 2


def _unit(x: Tensor) -> Tensor:
    """Rows scaled to length 1 by the formula of transformers: the keys of the paper."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt() / math.sqrt(x.shape[-1])).to(x.dtype)


def _with_previous_chunk(x: Tensor, last: Tensor) -> Tensor:
    """Join each chunk with the one before: ``[B, H, R, M, c, D]`` to ``[B, H, R, M, 2c, D]``.

    The chunk before the first one is chunk ``last`` of the previous round.
    """
    before = torch.take_along_dim(x, last, 3).roll(1, 2)
    return torch.cat([torch.cat([before, x[:, :, :, :-1]], 3), x], 4)


def _digits(x: Tensor, rotations: Tensor, factors: tuple[int, ...]) -> list[Tensor]:
    """Digits of the bucket number, argmax over ``[x R, -x R]``: int64 ``[B, H, R, N]`` for each factor."""
    return [torch.cat([part, -part], -1).argmax(-1) for part in _projections(x, rotations, factors)]


def _projections(x: Tensor, rotations: Tensor, factors: tuple[int, ...]) -> tuple[Tensor, ...]:
    return torch.einsum("bhnd,hdrf->bhrnf", x, rotations).split([factor // 2 for factor in factors], -1)


def _bucket_number(digits: list[Tensor], factors: tuple[int, ...]) -> Tensor:
    """Combine the digits into one bucket number, int64 ``[B, H, R, N]``."""
    return sum((digit * math.prod(factors[:i]) for i, digit in enumerate(digits)), torch.zeros_like(digits[0]))


class ReformerPlugin(AttentionPlugin):
    """Reformer's LSH attention, in which queries and keys are the same tensor by definition.

    The shared tensor is the mean of q and k: q itself in a model that shares the projection, and the mean projection
    in a model that does not. Keys are its rows scaled to length 1. As in transformers, a chunk attends to all of itself
    and of the chunk before, even across buckets, and a key that is seen in two rounds counts twice.
    """

    name = "reformer"
    summary = "LSH attention with Q = K = (q + k)/2, r rounds, chunks of c tokens; O(n c r d) time, O(n c r) memory"
    source = "Kitaev et al., 2020, https://arxiv.org/abs/2001.04451; verified against transformers' LSHSelfAttention"
    capabilities = Capabilities(
        compile=True,
        why={"cross_attention": "queries and keys are the same tensor", "gqa": "queries and keys are the same tensor"},
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The sizes of the hash and of the chunks.

        - ``rounds``: rounds of hashing (r).
        - ``chunk``: tokens per chunk (c).
        - ``buckets``: hash buckets; by default 2 n / chunk, rounded down to a power of two.
        """
        chunk = int(spec.knobs.get("chunk", 64))
        buckets = 2 ** ((2 * (spec.seq_len // max(chunk, 1))).bit_length() - 1) if spec.seq_len >= chunk else 2
        return {"rounds": 2, "chunk": chunk, "buckets": buckets}

    def unsupported(self, spec: Spec) -> list[str]:
        """Sizes below 1, numbers of buckets that the hash cannot have, or a missing device."""
        rounds, chunk, buckets = self._sizes(spec)
        reasons = device_reasons(spec)
        if rounds < 1 or chunk < 1:
            reasons.append(f"rounds and chunk must be at least 1, got {rounds} and {chunk}")
        if buckets < 2 or buckets % 2:
            reasons.append(f"buckets must be even and at least 2, got {buckets}")
        elif buckets > 2 * chunk and buckets & (buckets - 1):
            reasons.append(f"buckets must be a power of two if more than 2 * chunk, got {buckets}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        return f"torch einsum, argmax, sort, gather, matmul, softmax, matmul on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The projections of the hash, and the matrix products of softmax attention for the pairs that are compared."""
        if not isinstance(spec, OperationSpec):
            return None
        rounds, chunk, buckets = self._sizes(spec)
        n, dense, products = spec.seq_len, cost.softmax(spec), f"matmul {spec.dtype}"
        total = dense | {products: dense[products] * rounds * 2 * min(chunk, n) / n}
        columns = rounds * sum(_factors(buckets, chunk)) / 2
        hashing = 2 * spec.batch * spec.heads * n * spec.head_dim * columns
        return total | {"matmul float32": total.get("matmul float32", 0.0) + hashing}

    def build(self, spec: Spec) -> nn.Module:
        """The module. It has no weights; its rotations are drawn from ``spec.seed``."""
        _, chunk, buckets = self._sizes(spec)
        rotations = self._rotations(spec, batch_and_heads(spec)[1], head_dim(spec))
        return LshAttention(chunk, _factors(buckets, chunk), rotations).to(spec.device)

    def _sizes(self, spec: Spec) -> tuple[int, int, int]:
        knobs = self.knobs(spec)
        return int(knobs["rounds"]), int(knobs["chunk"]), int(knobs["buckets"])

    def _rotations(self, spec: Spec, heads: int, dim: int) -> Tensor:
        rounds, chunk, buckets = self._sizes(spec)
        shape = (heads, dim, rounds, sum(_factors(buckets, chunk)) // 2)
        return torch.randn(shape, generator=torch.Generator().manual_seed(spec.seed), device="cpu")

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax over all pairs, each counted as often as the rounds bring it together.

        Buckets are computed in float64. Where float32 rounding may decide the bucket, the module's own hash is used.
        """
        _, chunk, buckets = self._sizes(spec)
        factors, rotations = _factors(buckets, chunk), self._rotations(spec, q.shape[1], q.shape[3])
        bucket = _bucket_number(_exact_digits(spec, _shared(q, k), rotations, factors), factors)
        real = torch.ones(q.shape[0], q.shape[2], dtype=torch.bool, device=q.device)
        real = real if key_padding_mask is None else key_padding_mask
        rank = bucket.masked_fill(~real[:, None, None], buckets).argsort(dim=-1, stable=True).argsort(-1)
        chunk_of = rank // chunk  # the chunk of each token: [B, H, R, N]
        last = ((real.sum(-1) - 1).clamp(min=0) // chunk)[:, None, None]
        times = q.new_zeros(*q.shape[:2], len(rows), q.shape[2])
        for round_index in range(chunk_of.shape[2]):
            own = chunk_of[:, :, round_index, rows, None]
            times += own == chunk_of[:, :, round_index, None]
            times += (own > 0) & (own - 1 == chunk_of[:, :, round_index, None])
            times += (own == 0) & (last[..., None] == chunk_of[:, :, round_index - 1, None])
        is_self = torch.arange(q.shape[2], device=q.device) == rows[:, None]
        times = times.masked_fill(is_self | ~real[:, None, None], 0.0)
        times = times.where(times.sum(-1, keepdim=True) > 0, is_self.to(q.dtype))
        shared = (q + k) / 2
        return (shared[:, :, rows] @ _unit(shared).transpose(-1, -2) + times.log()).softmax(-1) @ v


def _factors(buckets: int, chunk: int) -> tuple[int, ...]:
    """Factors of the number of buckets: two for more than 2 * chunk buckets, which then need fewer projections."""
    if buckets <= 2 * chunk:
        return (buckets,)
    bits = buckets.bit_length() - 1
    return (2 ** (bits // 2), 2 ** (bits - bits // 2))


def _exact_digits(spec: Spec, x: Tensor, rotations: Tensor, factors: tuple[int, ...]) -> list[Tensor]:
    """Digits computed in float64, or in float32 as in the module where the two largest projections are too close."""
    float32_digits = _digits(x.to(spec.device), rotations.to(spec.device), factors)
    projections = _projections(x.double(), rotations.double().to(x.device), factors)
    digits = []
    for float32_digit, part in zip(float32_digits, projections, strict=True):
        best = torch.cat([part, -part], -1).topk(2, -1)
        ambiguous = best.values[..., 0] - best.values[..., 1] < AMBIGUOUS_GAP * x.norm(dim=-1).unsqueeze(2)
        digits.append(float32_digit.to(x.device).where(ambiguous, best.indices[..., 0]))
    return digits
