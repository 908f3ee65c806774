"""The arguments of ``harness.compare``, checked before anything is measured: one clear line for what is wrong."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from torch import nn

from harness.api.given_attention import (
    AttentionFunction,
    Definition,
    GivenAttention,
    GivenFunction,
    plugin_under,
)
from harness.core import registry
from harness.core.plugin import AttentionPlugin
from harness.core.spec import Dtype, OperationMode, QualityInputs
from harness.profiles.selection import is_device

Given = AttentionFunction | nn.Module | AttentionPlugin | type[AttentionPlugin]
"""What a user may give as an attention."""
NAME_LENGTH = 40
"""Most characters of a name."""
AGAIN = "_again"
"""The end of the name under which the reference is timed a second time."""
MOST_SECONDS = 3600.0
MOST_OF_A_SIZE = 2**31 - 1
"""Largest length, batch, number of heads or head size: kernels count them in 32 bits."""
MOST_NUMBERS = 2**60 - 1
"""Most numbers in a tensor: torch counts its bytes in 63 bits, and the definition's numbers have 8 bytes."""
KINDS_OF_INPUTS: tuple[QualityInputs, ...] = ("normal", "matched", "clustered")
"""The kinds of inputs of errors, without recorded ones, which have the head size of their model."""


@dataclass(frozen=True)
class Settings:
    """The sizes and settings of a comparison; every combination of length and pass is a case."""

    lengths: tuple[int, ...]
    batch: int
    heads: int
    head_dim: int
    passes: tuple[OperationMode, ...]
    dtype: Dtype
    device: str
    padding: float
    inputs: QualityInputs
    seconds: float | None

    def __post_init__(self) -> None:
        if not 0 <= self.padding < 1:
            raise ValueError(f"padding must be a fraction of each sequence, from 0 to below 1, got {self.padding!r}")
        numbers = self.batch * self.heads * max(self.lengths) * self.head_dim
        if numbers > MOST_NUMBERS:
            raise ValueError(
                f"batch, heads, lengths and head_dim must give a tensor of at most {MOST_NUMBERS:,} numbers, got "
                f"{numbers:,}; choose smaller ones"
            )
        if self.seconds is not None and not 0 < self.seconds <= MOST_SECONDS:
            raise ValueError(f"seconds must be above 0 and at most {MOST_SECONDS:g}, got {self.seconds!r}")
        if not is_device(self.device):
            raise ValueError(f"device must be 'cpu' or 'cuda', or 'cuda:' and a number, got {self.device!r}")


def settings(
    *,
    lengths: object,
    batch: object,
    heads: object,
    head_dim: object,
    passes: object,
    dtype: object,
    device: object,
    padding: object,
    inputs: object,
    seconds: object,
) -> Settings:
    """The settings from what the user gave.

    Raises:
        ValueError: one of them is not what ``harness.compare`` documents; the message names it.
    """
    return Settings(
        lengths=_lengths(lengths),
        batch=_count("batch", batch),
        heads=_count("heads", heads),
        head_dim=_count("head_dim", head_dim),
        passes=_passes(passes),
        dtype=_choice("dtype", str(dtype).removeprefix("torch."), get_args(Dtype)),
        device=str(device),
        padding=_number("padding", padding),
        inputs=_choice("inputs", inputs, KINDS_OF_INPUTS),
        seconds=None if seconds is None else _number("seconds", seconds),
    )


def rivals(against: object) -> tuple[str, ...]:
    """The registered attentions to compare with.

    Raises:
        ValueError: one is not registered; the message has names that are near.
    """
    if not isinstance(against, str | Iterable):
        raise ValueError(f"against must be a list of names of attentions, got {type(against).__name__} {against!r}")
    names = tuple(dict.fromkeys(_listed(against)))
    for name in names:
        _registered("against", name)
    return names


def attentions(
    given: object,
    *,
    like: object,
    estimates: object,
    settings: Settings,
) -> list[AttentionPlugin]:
    """The plugins of what the user gave, by name, in the user's order.

    Raises:
        ValueError: a name or a value is not what ``harness.compare`` documents; the message names it.
    """
    if not isinstance(given, Mapping):
        raise ValueError(
            f"attentions must be a dictionary from names to functions, got {type(given).__name__}; write "
            '{"mine": my_function}'
        )
    if estimates is not None:
        _registered("estimates", estimates)
    definition = _definition(like)
    if estimates is not None and definition.registered is not None:
        raise ValueError(
            f"estimates={estimates!r} needs like=None or a function, got like={like!r}: an attention that must equal "
            "that one approximates nothing"
        )
    sizes = frozenset((settings.batch, settings.heads, n, settings.head_dim) for n in settings.lengths)
    plugins = []
    for name, value in given.items():
        _check_name(name)
        if isinstance(value, AttentionPlugin) or (isinstance(value, type) and issubclass(value, AttentionPlugin)):
            plugins.append(plugin_under(name, value))
        else:
            function = GivenFunction.of(f"attentions[{name!r}]", value)
            own_estimates = None if estimates is None else str(estimates)
            plugins.append(GivenAttention(name, function, definition, own_estimates, sizes))
    return plugins


def _definition(like: object) -> Definition:
    if like is None:
        return Definition()
    if isinstance(like, str):
        _registered("like", like)
        return Definition(registered=registry.get(like))
    if isinstance(like, AttentionPlugin):
        return Definition(registered=like)
    return Definition(oracle=GivenFunction.of("like", like))


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > NAME_LENGTH or not name.isprintable():
        raise ValueError(f"a name in attentions must be printable text of 1 to {NAME_LENGTH} characters, got {name!r}")
    if name != name.strip() or any(character in name for character in ",/"):
        raise ValueError(f"a name in attentions must have no comma, no slash and no blank at its ends, got {name!r}")
    if name.endswith(AGAIN):
        raise ValueError(
            f"a name in attentions must not end in {AGAIN}, which names the reference where it is timed a second time, "
            f"got {name!r}; choose another name"
        )
    if name in registry.names():
        raise ValueError(
            f"attentions[{name!r}] has the name of a registered attention; choose another name, and add {name!r} to "
            "against to compare with the registered one"
        )


def _registered(argument: str, name: object) -> None:
    known = registry.names()
    if name in known:
        return
    near = get_close_matches(name, known, 3, 0.5) if isinstance(name, str) else []
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
    raise ValueError(f"{argument} must name registered attentions, got {name!r}; {hint}")


def _lengths(lengths: object) -> tuple[int, ...]:
    values = [] if isinstance(lengths, str) or lengths is None else _listed(lengths)
    if not values:
        raise ValueError(f"lengths must be one or more sequence lengths in tokens, got {lengths!r}")
    return tuple(sorted({_count("lengths", value) for value in values}))


def _count(argument: str, value: Any) -> int:
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"{argument} must be a whole number of 1 or more, got {value!r}")
    if count > MOST_OF_A_SIZE:
        raise ValueError(f"{argument} must be at most {MOST_OF_A_SIZE:,}, got {count}")
    return count


def _number(argument: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{argument} must be a finite number, got {value!r}")
    return number


def _listed(value: Any) -> Sequence[Any]:
    """A single name as a list of one."""
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


def _passes(passes: object) -> tuple[OperationMode, ...]:
    known = get_args(OperationMode)
    chosen = tuple(dict.fromkeys(_choice("passes", each, known) for each in _listed(passes)))
    if not chosen:
        raise ValueError(f"passes must be {' or '.join(map(repr, known))} or both in a list, got {passes!r}")
    return chosen


def _choice(argument: str, value: Any, known: Sequence[Any]) -> Any:
    if value not in known:
        raise ValueError(f"{argument} must be {' or '.join(map(repr, known))}, got {value!r}")
    return value
