"""Attentions that are wrong in one way each, and one that is right, for the tests of what must catch them."""

import torch
from torch import nn

from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.plugin import AttentionPlugin


def right(q, k, v, mask):
    rows = torch.arange(q.shape[2])
    return softmax_attention(q, k, v, mask, rows)


def raises(q, k, v, mask):
    raise ValueError("no such luck")


def nan(q, k, v, mask):
    return right(q, k, v, mask) * float("nan")


def nan_at_one_token(q, k, v, mask):
    out = right(q, k, v, mask)
    poison = torch.zeros_like(out)
    poison[:, :, 77] = float("nan")
    return out + poison


def wrong_shape(q, k, v, mask):
    return right(q, k, v, mask)[:, :, :-1]


def wrong_dtype(q, k, v, mask):
    return right(q, k, v, mask).double()


def not_a_tensor(q, k, v, mask):
    return (right(q, k, v, mask), None)


def zeros(q, k, v, mask):
    return right(q, k, v, mask) * 0


def ignores_the_mask(q, k, v, mask):
    return right(q, k, v, None)


def soft_mask(q, k, v, mask):
    """As transformers' YOSO: the mask hardly moves the scores."""
    bias = None if mask is None else (~mask).to(q.dtype)[:, None, None, :] * -1e-4
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def drops_tail_keys(q, k, v, mask):
    kept = k.shape[2] // 8 * 8 - 8
    return right(q, k[:, :, :kept], v[:, :, :kept], None if mask is None else mask[:, :kept])


def drops_tail_queries(q, k, v, mask):
    out = right(q, k, v, mask)
    kept = torch.ones_like(out)
    kept[:, :, -1] = 0
    return out * kept


def transposed_heads(q, k, v, mask):
    return right(q, k, v, mask).flip(1)


def head_major(q, k, v, mask):
    """A kernel that takes [B, H, N, D] for [B, N, H, D]."""
    b, h, n, d = q.shape
    return right(q, k, v, mask).transpose(1, 2).reshape(b, h, n, d)


def unscaled(q, k, v, mask):
    return right(q * q.shape[-1] ** 0.5, k, v, mask)


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.001


def scaled_gradient(q, k, v, mask):
    return right(q, _ScaledGradient.apply(k), v, mask)


def gradient_without_tail(q, k, v, mask):
    v = torch.cat([v[:, :, :-1], v[:, :, -1:].detach()], 2)
    return right(q, k, v, mask)


def no_gradient(q, k, v, mask):
    return right(q.detach(), k, v, mask)


def other_values_each_call(q, k, v, mask):
    return right(q, k, v, mask) + 1e-3 * torch.randn(1, generator=_FREE)


_FREE = torch.Generator().manual_seed(1)


class _Cached(nn.Module):
    """Keeps its first output for tensors of one shape."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def forward(self, q, k, v, mask):
        key = (q.shape, q.requires_grad)
        if key not in self.kept:
            self.kept[key] = right(q, k, v, mask).detach()
        return self.kept[key] + (right(q, k, v, mask) - right(q, k, v, mask).detach())


class _CachedByAddress(_Cached):
    """Keeps its output for as long as the query lies at the same address: fools a test that allocates anew."""

    def forward(self, q, k, v, mask):
        if self.kept.get("address") != q.data_ptr():
            self.kept = {"address": q.data_ptr(), "out": right(q, k, v, mask).detach()}
        return self.kept["out"] + (right(q, k, v, mask) - right(q, k, v, mask).detach())


class _Counting(nn.Module):
    """Drifts from call to call."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, q, k, v, mask):
        self.calls += 1
        return right(q, k, v, mask) * (1.0 if self.calls == 1 else 1.01)


class _Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, q, k, v, mask):
        return self.function(q, k, v, mask)


class Attention(AttentionPlugin):
    """Softmax attention by its oracle, and what ``make`` builds by its module."""

    summary = "for tests"
    source = "tests"

    def __init__(self, name, make):
        self.name = name
        self.make = make

    def build(self, spec):
        return self.make()

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        return softmax_attention(q, k, v, key_padding_mask, rows)


def of(function):
    """The plugin whose module is ``function``."""
    return Attention(function.__name__, lambda: _Function(function))


RIGHT = of(right)
RAISES = of(raises)
INCORRECT = [
    *map(of, (nan, nan_at_one_token, wrong_shape, wrong_dtype, not_a_tensor, zeros, drops_tail_keys)),
    *map(of, (drops_tail_queries, transposed_heads, head_major, unscaled, other_values_each_call)),
    Attention("cached", _Cached),
    Attention("cached_by_address", _CachedByAddress),
    Attention("counting", _Counting),
]
INCORRECT_PADDED = [of(ignores_the_mask), of(soft_mask)]
INCORRECT_BACKWARD = [of(scaled_gradient), of(gradient_without_tail)]
