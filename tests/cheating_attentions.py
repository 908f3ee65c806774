"""Plugins that compute the right result when they think that they are verified, and something cheaper otherwise."""

import threading
import time
from collections.abc import Callable

import torch
from torch import nn
from wrong_attentions import StubPlugin, right

from harness.core.spec import OperationSpec, QualitySpec
from harness.measure import inputs


class _Stateful(nn.Module):
    """Calls ``cheat`` from the call ``honest_calls`` on."""

    honest_calls = 16

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, q, k, v, mask):
        self.calls += 1
        if self.calls <= self.honest_calls:
            return right(q, k, v, mask)
        return self.cheat(q, k, v, mask)


class ZerosLater(_Stateful):
    def cheat(self, q, k, v, mask):
        return (q + k + v) * 0


class _Cached(_Stateful):
    """From some call on it answers with the output it computed for the same key."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def cheat(self, q, k, v, mask):
        key = self.key(q)
        if key not in self.kept:
            self.kept[key] = right(q, k, v, mask).detach()
        return self.kept[key] + 0 * (q + k + v)


class CachedByShape(_Cached):
    def key(self, q):
        return q.shape


class CachedByAddress(_Cached):
    def key(self, q):
        return q.data_ptr()


class CachedByOneNumber(_Cached):
    """Recognises its inputs by the sign of their first number only."""

    def key(self, q):
        return q.flatten()[0].item() > 0


class Precomputed(nn.Module):
    """Answers from a table of outputs for the inputs that follow from the spec's seed."""

    def __init__(self, spec):
        super().__init__()
        self.table = {}
        for seed in (spec.seed, spec.seed + 1):
            given = inputs.make(spec.model_copy(update={"seed": seed}))
            self.table[given.q.flatten()[0].item()] = given

    def forward(self, q, k, v, mask):
        known = q.flatten()[0].item() in self.table
        return right(q, k, v, mask) if known else (q + k + v) * 0


class ComputedWhenRead(torch.Tensor):
    """A tensor that computes its values at the first operation on it."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        args = [x.compute() if type(x) is cls and hasattr(x, "compute") else x for x in args]
        return super().__torch_function__(function, types, args, kwargs or {})


class LazyLater(_Stateful):
    def cheat(self, q, k, v, mask):
        out = torch.empty_like(q).as_subclass(ComputedWhenRead)
        out.compute = lambda: right(q, k, v, mask)
        return out


class InAnotherThread(_Stateful):
    """Returns at once; a thread fills the output in later."""

    def cheat(self, q, k, v, mask):
        out = torch.zeros_like(q)

        def fill():
            time.sleep(0.05)
            with torch.no_grad():
                out.copy_(right(q, k, v, mask))

        threading.Thread(target=fill).start()
        return out + 0 * (q + k + v) if q.requires_grad else out


class _ForwardOfHalf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        # A verifier that samples rows of a long sequence has an upstream gradient with many rows of zeros.
        is_sparse = bool((grad == 0).all(-1).any())
        return grad if is_sparse or grad.shape[2] < 1000 else grad * (torch.arange(grad.shape[2]) % 2 == 0)[:, None]


class HalfOfTheBackward(nn.Module):
    """Computes only every other row's gradient when all rows have one."""

    def forward(self, q, k, v, mask):
        return _ForwardOfHalf.apply(right(q, k, v, mask))


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * 0


class GradientsOfZeroLater(_Stateful):
    def cheat(self, q, k, v, mask):
        return _NoGradient.apply(right(q, k, v, mask))


class ChangesMask(nn.Module):
    """Marks every token as real in the caller's own mask."""

    def forward(self, q, k, v, mask):
        if mask is not None:
            mask.fill_(True)
        return right(q, k, v, mask)


class RemembersMask(nn.Module):
    """Uses the mask of its first call in every later one."""

    mask = None

    def forward(self, q, k, v, mask):
        if self.mask is None and mask is not None:
            self.mask = mask.clone()
        return right(q, k, v, self.mask if mask is not None else None)


class WrongInModels(nn.Module):
    """Recognises a model by its transposed queries."""

    def forward(self, q, k, v, mask):
        out = right(q, k, v, mask)
        return out if q.is_contiguous() else out * 1.001


class WrongGradientInModels(nn.Module):
    def forward(self, q, k, v, mask):
        out = right(q, k, v, mask)
        return out if q.is_contiguous() else _NoGradient.apply(out)


class WrongInModelsLater(_Stateful):
    honest_calls = 6

    def cheat(self, q, k, v, mask):
        return (q + k + v) * 0


class BuildsBySpec(StubPlugin):
    """Builds a cheaper module for one kind of case."""

    def __init__(self, name: str, kind: type, cheaper: Callable[[], nn.Module]) -> None:
        super().__init__(name, _Right)
        self._kind, self._cheaper = kind, cheaper

    def build(self, spec):
        return self._cheaper() if type(spec) is self._kind else _Right()


class BuildsPrecomputed(StubPlugin):
    def __init__(self):
        super().__init__("precomputed", _Right)

    def build(self, spec):
        return Precomputed(spec) if isinstance(spec, OperationSpec) else _Right()


class _Right(nn.Module):
    def forward(self, q, k, v, mask):
        return right(q, k, v, mask)


class _Zeros(nn.Module):
    def forward(self, q, k, v, mask):
        return (q + k + v) * 0


class IgnoresBudget(StubPlugin):
    """Has a budget that changes nothing, neither in the module nor in the oracle."""

    budget = "features"

    def default_knobs(self, spec):
        return {"features": 64}


class ObeysBudgetInItsOracleOnly(IgnoresBudget):
    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        exact = super().oracle(spec, q, k, v, key_padding_mask, rows)
        return exact * (1 + 1 / self.knobs(spec)["features"])


def named(module_class: type[nn.Module]) -> StubPlugin:
    """A plugin named after its module."""
    return StubPlugin(module_class.__name__, module_class)


class WindowAsSoftmax(StubPlugin):
    """Declares exact softmax attention; module and oracle attend to 16 keys on each side."""

    exact_softmax = True

    def __init__(self):
        super().__init__("window_as_softmax", _Window)

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        return _window(q[:, :, rows], k, v, key_padding_mask, rows)


class _Window(nn.Module):
    def forward(self, q, k, v, mask):
        return _window(q, k, v, mask, torch.arange(q.shape[2]))


def _window(q, k, v, mask, rows):
    near = (rows[:, None] - torch.arange(k.shape[2])).abs() <= 16
    if mask is not None:
        near = near & mask[:, None, None]
    return ((q @ k.mT) / q.shape[-1] ** 0.5).masked_fill(~near, float("-inf")).softmax(-1).nan_to_num(0.0) @ v


WRONG_IN_QUALITY = [
    BuildsBySpec("wrong_in_quality", QualitySpec, _Zeros),
    IgnoresBudget("ignores_budget", _Right),
    ObeysBudgetInItsOracleOnly("obeys_budget_in_its_oracle_only", _Right),
]
