"""Plugins whose module is wrong in one way each, and one that is right, for tests that errors are detected."""

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
    """Adds a bias that is too small to hide padding, as transformers' YOSO does."""
    bias = None if mask is None else (~mask).to(q.dtype)[:, None, None, :] * -1e-4
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def uses_the_first_mask_for_all(q, k, v, mask):
    return right(q, k, v, None if mask is None else mask[:1].expand_as(mask))


def fills_the_holes_of_the_mask(q, k, v, mask):
    """Uses every key from the first real one to the last."""
    if mask is not None:
        from_first, to_last = mask.cumsum(1) > 0, mask.flip(1).cumsum(1).flip(1) > 0
        mask = from_first & to_last
    return right(q, k, v, mask)


def right_only_at_head_size_64(q, k, v, mask):
    return right(q, k, v, mask) * (1.0 if q.shape[-1] == 64 else 1.1)


def right_only_up_to_two_sequences(q, k, v, mask):
    out = right(q, k, v, mask)
    return torch.cat([out[:2], 1.1 * out[2:]])


def right_only_at_even_lengths(q, k, v, mask):
    return right(q, k, v, mask) * (1.0 if q.shape[2] % 2 == 0 else 1.1)


def raises_at_odd_lengths(q, k, v, mask):
    return right(q.unflatten(2, (-1, 2)).flatten(2, 3), k, v, mask)


def wrong_in_float16_at_head_size_80(q, k, v, mask):
    return right(q, k, v, mask) * (1.1 if q.dtype == torch.float16 and q.shape[-1] == 80 else 1.0)


def unspecified_at_padding(q, k, v, mask):
    """Right, with numbers at padded rows that mean nothing, as a kernel that skips them leaves behind."""
    out = right(q, k, v, mask)
    return out if mask is None else out.where(mask[:, None, :, None], 1e4)


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
    """Returns [B, N, H, D] memory as if it were [B, H, N, D]."""
    b, h, n, d = q.shape
    return right(q, k, v, mask).transpose(1, 2).reshape(b, h, n, d)


def unscaled(q, k, v, mask):
    return right(q * q.shape[-1] ** 0.5, k, v, mask)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.001


def scaled_gradient(q, k, v, mask):
    return right(q, _ScaleGradient.apply(k), v, mask)


def gradient_without_tail(q, k, v, mask):
    v = torch.cat([v[:, :, :-1], v[:, :, -1:].detach()], 2)
    return right(q, k, v, mask)


def no_gradient(q, k, v, mask):
    return right(q.detach(), k, v, mask)


def different_values_each_call(q, k, v, mask):
    return right(q, k, v, mask) + 1e-3 * torch.randn(1, generator=_UNSEEDED)


_UNSEEDED = torch.Generator().manual_seed(1)
"""A generator that ``torch.manual_seed`` does not reset, so the values differ from call to call."""


class CachedByShape(nn.Module):
    """Returns its first output again for inputs of the same shape."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def forward(self, q, k, v, mask):
        key = (q.shape, q.requires_grad)
        if key not in self.kept:
            self.kept[key] = right(q, k, v, mask).detach()
        return self.kept[key] + (right(q, k, v, mask) - right(q, k, v, mask).detach())


class _CachedByAddress(CachedByShape):
    """Returns its last output again while q is at the same address, which a test with new tensors does not detect."""

    def forward(self, q, k, v, mask):
        if self.kept.get("address") != q.data_ptr():
            self.kept = {"address": q.data_ptr(), "out": right(q, k, v, mask).detach()}
        return self.kept["out"] + (right(q, k, v, mask) - right(q, k, v, mask).detach())


class _CountsCalls(nn.Module):
    """The second and later calls give another output than the first."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, q, k, v, mask):
        self.calls += 1
        return right(q, k, v, mask) * (1.0 if self.calls == 1 else 1.01)


def _errs_at(errs, q, k, v, mask):
    """Twice the right output where the bool tensor ``errs`` is True, which broadcasts to ``[B, H, N, D]``."""
    out = right(q, k, v, mask)
    return torch.where(errs, 2 * out, out)


def _positions(q):
    return torch.arange(q.shape[2])[:, None]


def errs_at_row_411(q, k, v, mask):
    return _errs_at(_positions(q) == 411, q, k, v, mask)


def errs_at_odd_rows(q, k, v, mask):
    return _errs_at(_positions(q) % 2 == 1, q, k, v, mask)


def right_at_64_rows_of_seed_0(q, k, v, mask):
    """Computes only the rows of a sample whose seed it knows, the first and the last among them."""
    n = q.shape[2]
    inner = 1 + torch.randperm(n - 2, generator=torch.Generator().manual_seed(0))[:62]
    errs = torch.ones(n, 1, dtype=torch.bool)
    errs[torch.cat([torch.tensor([0, n - 1]), inner])] = False
    return _errs_at(errs, q, k, v, mask)


def errs_in_head_5(q, k, v, mask):
    """By 4%, in one head of many."""
    out = right(q, k, v, mask)
    scale = torch.ones(q.shape[1])
    scale[5] = 1.04
    return out * scale[:, None, None].to(q.dtype)


def errs_at_the_last_row(q, k, v, mask):
    return _errs_at(_positions(q) == q.shape[2] - 1, q, k, v, mask)


def loses_key_1234(q, k, v, mask):
    """An exact attention that leaves out one key."""
    kept = torch.arange(k.shape[2]) != 1234
    out = right(q.float(), k[:, :, kept].float(), v[:, :, kept].float(), None if mask is None else mask[:, kept])
    return out.to(q.dtype)


class _LosesGradientOfRow77(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        kept = torch.ones_like(grad)
        kept[:, :, 77] = 0
        return grad * kept


def loses_gradient_of_query_77(q, k, v, mask):
    return right(_LosesGradientOfRow77.apply(q), k, v, mask)


def loses_gradient_of_key_77(q, k, v, mask):
    return right(q, k, _LosesGradientOfRow77.apply(v), mask)


def loses_gradient_through_output_77(q, k, v, mask):
    """No gradient comes back through one output row, so that every gradient of a key is wrong by a little."""
    return _LosesGradientOfRow77.apply(right(q, k, v, mask))


class FunctionModule(nn.Module):
    """A module that calls ``function(q, k, v, mask)``."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, q, k, v, mask):
        return self.function(q, k, v, mask)


class StubPlugin(AttentionPlugin):
    """A plugin whose oracle is softmax attention and whose module is ``make_module()``."""

    summary = "for tests"
    source = "tests"

    def __init__(self, name, make_module):
        self.name = name
        self.make_module = make_module

    def build(self, spec):
        return self.make_module()

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        return softmax_attention(q, k, v, key_padding_mask, rows)


def plugin_of(function):
    """A plugin named after ``function`` whose module calls it."""
    return StubPlugin(function.__name__, lambda: FunctionModule(function))


RIGHT = plugin_of(right)
RAISES = plugin_of(raises)
INCORRECT = [
    *map(plugin_of, (nan, nan_at_one_token, wrong_shape, wrong_dtype, not_a_tensor, zeros, drops_tail_keys)),
    *map(plugin_of, (drops_tail_queries, transposed_heads, head_major, unscaled, different_values_each_call)),
    StubPlugin("cached", CachedByShape),
    StubPlugin("cached_by_address", _CachedByAddress),
    StubPlugin("counts_calls", _CountsCalls),
]
"""Wrong in the forward pass."""
INCORRECT_PADDED = [plugin_of(ignores_the_mask), plugin_of(soft_mask)]
"""Wrong only with padding."""
INCORRECT_BACKWARD = [plugin_of(scaled_gradient), plugin_of(gradient_without_tail)]
"""Wrong only in backward."""
