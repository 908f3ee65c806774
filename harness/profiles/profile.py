"""A profile as data: which cases it has, how long each one is sampled, and what it leaves out.

A kind of case is described by a sweep, whose lengths and attentions the user may replace, or by ``FixedCases``, a list
that the user may only select from. ``None`` means that the profile has no case of that kind. ``harness.profiles.cases``
turns a profile into specs.
"""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Generic, TypeVar

import harness.profiles
from harness.core.spec import (
    Dtype,
    Effort,
    Family,
    ModelMode,
    ModelSpec,
    OperationSpec,
    QualitySpec,
    Swap,
)

AnyCase = TypeVar("AnyCase", OperationSpec, ModelSpec, QualitySpec)

MODELS_OF_TRANSFORMERS: tuple[tuple[Family, str], ...] = (("bert", "sdpa"), ("transformers_yoso", "yoso_e"))
"""The models that this project's are compared with at equal size: family, and the attention that it runs."""
COMPANIONS = ("softmax", "sdpa", "yoso")
"""What an attention that the user names is compared with: exact attention by its definition, the fastest exact one that
torch has, and YOSO."""


@dataclass(frozen=True)
class OperationSweep:
    """The attention alone: every attention at every length, forward, and forward with backward.

    ``keeps`` decides which cases stay when the user names neither lengths nor attentions; cases that the user asks for
    are always measured. ``paddings`` are fractions of a sequence. At ``budget_lengths`` the approximations whose error
    is measured by budget are timed with each of these budgets, too, so that each error has its time. Attentions that
    the user names are measured at ``compared_lengths``; None: at all.
    """

    lengths: tuple[int, ...]
    compared_lengths: tuple[int, ...] | None = None
    paddings: tuple[float, ...] = (0.0,)
    budget_lengths: tuple[int, ...] = ()
    keeps: Callable[[OperationSpec], bool] = lambda spec: True


@dataclass(frozen=True)
class ModelSize:
    """Layers, hidden size and heads of every model of a profile."""

    layers: int
    hidden_size: int
    heads: int


BASE_SIZE = ModelSize(layers=12, hidden_size=768, heads=12)
"""The size of BERT base and of transformers' YOSO checkpoints."""


@dataclass(frozen=True)
class ModelSweep:
    """Whole models: the encoder alone, the encoder under task heads, and transformers' models at equal size.

    ``encoder_attentions`` gives the attentions of the encoder at a length and mode; None: every attention.
    ``keeps_rival`` decides which cases of ``MODELS_OF_TRANSFORMERS`` stay.
    """

    size: ModelSize
    encoder_lengths: tuple[int, ...]
    head_lengths: tuple[int, ...]
    head_attentions: tuple[str, ...]
    encoder_attentions: Callable[[int, ModelMode], tuple[str, ...]] | None = None
    keeps_rival: Callable[[ModelSpec], bool] = lambda spec: True


@dataclass(frozen=True)
class QualitySweep:
    """The error of approximations by budget, ``draws`` times each; and of every setting of the attention alone that is
    timed, ``timed_draws`` times.

    On recorded inputs a case has ``recorded_layers`` layers of the model at equal distances, and one head of each.
    ``leaves_out`` says in one sentence why a timed setting has no case of its error; None: it has one.
    """

    lengths: tuple[int, ...]
    draws: int
    timed_draws: int = 2
    recorded_layers: int = 12
    leaves_out: Callable[[OperationSpec], str | None] = lambda spec: None


@dataclass(frozen=True)
class Training:
    """A task that is trained from scratch with each of ``attentions``.

    ``swaps`` gives the attentions that a model trained with an attention is also evaluated with.
    """

    task: str
    seq_len: int
    steps: int
    seeds: int
    train_examples: int
    eval_examples: int
    attentions: tuple[str, ...]
    swaps: Callable[[str], tuple[Swap, ...]] = lambda attention: ()


@dataclass(frozen=True)
class FixedCases(Generic[AnyCase]):
    """A list of cases for a device, in the order of their importance; the user's choice selects from it."""

    on: Callable[[str], Sequence[AnyCase]]


@dataclass(frozen=True)
class Profile:
    """One profile. ``device`` is the device type that it needs; None: it runs on any device.

    ``companions`` are measured beside the attentions that the user names.
    """

    name: str
    summary: str
    effort: Effort
    dtypes: tuple[Dtype, ...] = ("float32",)
    device: str | None = None
    companions: tuple[str, ...] = COMPANIONS
    operation: OperationSweep | FixedCases[OperationSpec] | None = None
    model: ModelSweep | FixedCases[ModelSpec] | None = None
    quality: QualitySweep | FixedCases[QualitySpec] | None = None
    task: Training | None = None


HASHES_OF_SWAPS = (4, 8, 16, 32, 64, 128)


def swaps(attention: str) -> tuple[Swap, ...]:
    """The attentions that a model trained with ``attention`` is also evaluated with.

    YOSO-E is replaced by sampled YOSO with a growing number of hashes and by softmax; softmax by its fused form, by
    both YOSO and by linear attention. Models trained with other attentions are not swapped.
    """
    if attention == "yoso_e":
        sampled = [Swap(attention="yoso", knobs={"num_hash": hashes}) for hashes in HASHES_OF_SWAPS]
        return (*sampled, Swap(attention="softmax"))
    if attention == "softmax":
        return tuple(Swap(attention=name) for name in ("sdpa", "yoso_e", "yoso", "linear"))
    return ()


@cache
def _profiles() -> dict[str, Profile]:
    """Every profile by name: of each module in this package that defines ``PROFILE``."""
    modules = [
        import_module(f"{harness.profiles.__name__}.{module.name}")
        for module in pkgutil.iter_modules(harness.profiles.__path__)
    ]
    profiles = [module.PROFILE for module in modules if hasattr(module, "PROFILE")]
    return {profile.name: profile for profile in profiles}


def names() -> tuple[str, ...]:
    """Every profile's name, sorted."""
    return tuple(sorted(_profiles()))


def get(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ValueError: there is none; the message lists those that exist.
    """
    if name not in _profiles():
        raise ValueError(f"unknown profile {name!r}; known: {', '.join(names())}")
    return _profiles()[name]
