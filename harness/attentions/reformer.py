"""Reformer's attention: queries and keys are one tensor, and look at each other where a hash puts them together."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.core.attention_shape import batch_and_heads, head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec

OPEN = 1e-4
"""Projections of a unit vector that are nearer to one another than this are for the float32 hash to decide."""


class LshAttention(nn.Module):
    """Sorted by bucket, cut into chunks; each chunk attends to itself and to the one before. Nothing is n x n."""

    rotations: Tensor

    def __init__(self, chunk: int, factors: tuple[int, ...], rotations: Tensor) -> None:
        super().__init__()
        self.chunk = chunk
        self.factors = factors
        self.register_buffer("rotations", rotations, persistent=False)  # float32 [H, D, R, sum(factors) / 2]

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        batch, _, n, _ = q.shape
        real = key_padding_mask
        if real is None:
            real = torch.ones(batch, n, dtype=torch.bool, device=q.device)
        rest = -n % self.chunk
        order = self._order(q, k, pad(real, (0, rest)))
        # Without padding this is transformers' look at the last chunk, and with it real tokens do not see how much.
        last = ((real.sum(-1) - 1).clamp(min=0) // self.chunk).view(batch, 1, 1, 1, 1, 1)

        queries, values = (self._sorted(pad(x, (0, 0, 0, rest)), order) for x in ((q + k) / 2, v))
        place = order.unflatten(-1, (-1, self.chunk))  # [B, H, R, M, c]
        keys, values, places = (_with_the_one_before(x, last) for x in (_unit(queries), values, place[..., None]))
        places = places.squeeze(-1).unsqueeze(-2)  # [B, H, R, M, 1, 2c]
        seen = torch.take_along_dim(pad(real, (0, rest))[:, None, None, None, None], places, -1)
        scores = (queries @ keys.transpose(-1, -2)).masked_fill(~seen, torch.finfo(q.dtype).min)
        # A token sees itself only where it sees no other: a score between that of others and that of padding.
        scores = scores.masked_fill(place.unsqueeze(-1) == places, -1e3 if q.dtype == torch.float16 else -1e5)
        exact = torch.promote_types(q.dtype, torch.float32)  # the rounds' shares have exponents of large numbers
        mass = scores.to(exact).logsumexp(-1).flatten(3)  # [B, H, R, N], of each round
        out = (scores.softmax(-1) @ values).flatten(3, 4)

        back = order.argsort(-1)
        share = mass.gather(-1, back).softmax(2).to(out.dtype)
        out = out.gather(3, back.unsqueeze(-1).expand_as(out))
        return (out * share.unsqueeze(-1)).sum(2)[:, :, :n]

    def _order(self, q: Tensor, k: Tensor, real: Tensor) -> Tensor:
        """Positions by bucket, then by position, padding last: int64 ``[B, H, R, N]``."""
        bucket = _number(_digits(_shared(q, k), self.rotations, self.factors), self.factors)
        bucket = pad(bucket, (0, real.shape[1] - q.shape[2]))
        return bucket.masked_fill(~real[:, None, None], math.prod(self.factors)).argsort(dim=-1, stable=True)

    def _sorted(self, x: Tensor, order: Tensor) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, R, M, c, D]``."""
        index = order.unsqueeze(-1).expand(*order.shape, x.shape[-1])
        return x.unsqueeze(2).expand(index.shape).gather(3, index).unflatten(3, (-1, self.chunk))


def _shared(q: Tensor, k: Tensor) -> Tensor:
    """What is hashed: float32, whatever the dtype, and without a gradient."""
    return (q.detach().float() + k.detach().float()) / 2


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1, by the formula of transformers: the paper's keys."""
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() / math.sqrt(x.shape[-1])


def _with_the_one_before(x: Tensor, last: Tensor) -> Tensor:
    """``[B, H, R, M, c, D]`` to ``[B, H, R, M, 2c, D]``; before the first chunk is the ``last`` of the round before."""
    before = torch.take_along_dim(x, last, 3).roll(1, 2)
    return torch.cat([torch.cat([before, x[:, :, :, :-1]], 3), x], 4)


def _digits(x: Tensor, rotations: Tensor, factors: tuple[int, ...]) -> list[Tensor]:
    """Argmax over ``[x R, -x R]`` for each factor: ``[B, H, N, D]`` to int64 ``[B, H, R, N]`` each."""
    return [torch.cat([part, -part], -1).argmax(-1) for part in _projections(x, rotations, factors)]


def _projections(x: Tensor, rotations: Tensor, factors: tuple[int, ...]) -> tuple[Tensor, ...]:
    return torch.einsum("bhnd,hdrf->bhrnf", x, rotations).split([factor // 2 for factor in factors], -1)


def _number(digits: list[Tensor], factors: tuple[int, ...]) -> Tensor:
    return sum((digit * math.prod(factors[:i]) for i, digit in enumerate(digits)), torch.zeros_like(digits[0]))


class Reformer(AttentionPlugin):
    """Reformer's LSH attention, with Q = K by definition.

    The shared tensor is the mean of q and k: q itself where a model shares the projection, and the mean projection
    where it does not. Keys are its rows at length 1. As transformers computes it, a chunk sees all of itself and of the
    chunk before, whatever their buckets, and a key that is met in two rounds counts twice.
    """

    name = "reformer"
    summary = "LSH attention with Q = K (the mean of q and k); O(n c r d) time, O(n c r) memory, no n x n tensor"
    source = "Kitaev et al., 2020, https://arxiv.org/abs/2001.04451; verified against transformers' LSHSelfAttention"
    capabilities = Capabilities(
        compile=True,
        why={"cross_attention": "queries and keys are one tensor", "gqa": "queries and keys are one tensor"},
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``rounds`` of hashing, ``chunk`` tokens, ``buckets``: 2 n / chunk, as a power of two."""
        chunk = int(spec.knobs.get("chunk", 64))
        buckets = 2 ** ((2 * (spec.seq_len // max(chunk, 1))).bit_length() - 1) if spec.seq_len >= chunk else 2
        return {"rounds": 2, "chunk": chunk, "buckets": buckets}

    def unsupported(self, spec: Spec) -> list[str]:
        """Numbers of buckets that no rotation gives."""
        rounds, chunk, buckets = self._sizes(spec)
        reasons = device_reasons(spec)
        if rounds < 1 or chunk < 1:
            reasons.append(f"rounds and chunk must be at least 1, not {rounds} and {chunk}")
        if buckets < 2 or buckets % 2:
            reasons.append(f"buckets must be even, not {buckets}")
        elif buckets > 2 * chunk and buckets & (buckets - 1):
            reasons.append(f"more than 2 * chunk buckets must be a power of two, not {buckets}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The operations in order."""
        return f"torch einsum, argmax, sort, gather, matmul, softmax, matmul on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The hash's projections, and softmax attention's products for the pairs that meet."""
        if not isinstance(spec, OperationSpec):
            return None
        rounds, chunk, buckets = self._sizes(spec)
        n, dense, products = spec.seq_len, cost.softmax(spec), f"matmul {spec.dtype}"
        least = dense | {products: dense[products] * rounds * 2 * min(chunk, n) / n}
        columns = rounds * sum(_factors(buckets, chunk)) / 2
        hashing = 2 * spec.batch * spec.heads * n * spec.head_dim * columns
        return least | {"matmul float32": least.get("matmul float32", 0.0) + hashing}

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights, and its rotations come from ``spec.seed``."""
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
        """Softmax over all pairs, each as often as the rounds bring it together.

        Buckets are settled in float64; those that float32 rounding leaves open are taken from the module's hash.
        """
        _, chunk, buckets = self._sizes(spec)
        factors, rotations = _factors(buckets, chunk), self._rotations(spec, q.shape[1], q.shape[3])
        bucket = _number(_settled(spec, _shared(q, k), rotations, factors), factors)
        real = torch.ones(q.shape[0], q.shape[2], dtype=torch.bool, device=q.device)
        real = real if key_padding_mask is None else key_padding_mask
        rank = bucket.masked_fill(~real[:, None, None], buckets).argsort(dim=-1, stable=True).argsort(-1)
        at = rank // chunk  # the chunk of each token: [B, H, R, N]
        last = ((real.sum(-1) - 1).clamp(min=0) // chunk)[:, None, None]
        times = q.new_zeros(*q.shape[:2], len(rows), q.shape[2])
        for a_round in range(at.shape[2]):
            own = at[:, :, a_round, rows, None]
            times += own == at[:, :, a_round, None]
            times += (own > 0) & (own - 1 == at[:, :, a_round, None])
            times += (own == 0) & (last[..., None] == at[:, :, a_round - 1, None])
        itself = torch.arange(q.shape[2], device=q.device) == rows[:, None]
        times = times.masked_fill(itself | ~real[:, None, None], 0.0)
        times = times.where(times.sum(-1, keepdim=True) > 0, itself.to(q.dtype))
        shared = (q + k) / 2
        return (shared[:, :, rows] @ _unit(shared).transpose(-1, -2) + times.log()).softmax(-1) @ v


def _factors(buckets: int, chunk: int) -> tuple[int, ...]:
    """Many buckets are pairs of digits, so that their projections stay few."""
    if buckets <= 2 * chunk:
        return (buckets,)
    bits = buckets.bit_length() - 1
    return (2 ** (bits // 2), 2 ** (bits - bits // 2))


def _settled(spec: Spec, x: Tensor, rotations: Tensor, factors: tuple[int, ...]) -> list[Tensor]:
    found = _digits(x.to(spec.device), rotations.to(spec.device), factors)
    settled = []
    for digit, part in zip(found, _projections(x.double(), rotations.double().to(x.device), factors), strict=True):
        best = torch.cat([part, -part], -1).topk(2, -1)
        near = best.values[..., 0] - best.values[..., 1] < OPEN * x.norm(dim=-1).unsqueeze(2)
        settled.append(digit.to(x.device).where(near, best.indices[..., 0]))
    return settled
