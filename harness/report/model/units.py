"""Numbers as people read them: three significant digits with a unit, and the exact value beside the words."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.statistics.intervals import LEVEL, Estimate

Words = Callable[[float], str]
Unit = Literal["s", "B", "tokens", "count", "fraction", "points", "number", "B/s", "op/s"]
ABSENT = "\N{EN DASH}"
"""What a cell shows where there is nothing to show."""
LEVEL_WORDS = f"{LEVEL:.0%}"

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def number(value: float) -> str:
    """Three significant digits, without an exponent where that stays short."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}".replace("inf", "∞")
    rounded = float(f"{value:.3g}")
    if 1e-3 <= abs(rounded) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
        return f"{rounded:,.{digits}f}"
    return f"{rounded:.2e}"


def seconds(value: float) -> str:
    """A duration."""
    size, unit = next((pair for pair in _TIMES if value >= pair[0] * 0.9995), _TIMES[-1])
    return f"{number(value / size)} {unit}"


def bytes_(value: float) -> str:
    """A size in memory, in binary units."""
    size, unit = next((pair for pair in _BYTES if value >= pair[0] * 0.9995), (1, "B"))
    return f"{number(value / size)} {unit}" if size > 1 else f"{value:.0f} B"


def length(value: float) -> str:
    """A sequence length in tokens: whole, or to three digits where it was interpolated."""
    return f"{float(f'{value:.3g}'):,.0f}" if value != int(value) else f"{int(value):,}"


def percent(value: float) -> str:
    """A fraction of 1 as a percentage."""
    return f"{number(100 * value)}%"


def points(value: float) -> str:
    """A difference of two scores, a hundred points to a whole one, with its sign."""
    return ("+" if value > 0 else "") + number(value)


def count(value: float) -> str:
    """How many."""
    return f"{int(value):,}"


def byte_rate(value: float) -> str:
    """Bytes a second, in decimal units as data sheets have them."""
    return f"{number(value / 1e9)} GB/s"


def operation_rate(value: float) -> str:
    """Floating-point operations a second."""
    return f"{number(value / 1e12)} TFLOP/s"


WORDS: dict[Unit, Words] = {
    "s": seconds,
    "B": bytes_,
    "tokens": length,
    "count": count,
    "fraction": percent,
    "points": points,
    "number": number,
    "B/s": byte_rate,
    "op/s": operation_rate,
}


@dataclass(frozen=True)
class Amount:
    """A number of the report: ``str`` gives its words, the fields what they are the words of.

    Attributes:
        value: in ``unit``'s base: seconds, bytes, tokens, fractions of 1, points of a score. Finite.
        low, high: the interval, None where there is none; a bound outside what was measured is None too, and ``text``
            says so.
        text: the words, where the unit's own would not do.
    """

    value: float
    unit: Unit
    low: float | None = None
    high: float | None = None
    text: str | None = None

    def __str__(self) -> str:
        if self.text is not None:
            return self.text
        words = WORDS[self.unit]
        if self.low is None or self.high is None:
            return words(self.value)
        return f"{words(self.value)} [{words(self.low)}, {words(self.high)}]"

    def plain(self) -> dict[str, float | str]:
        """As JSON holds it: the numbers, without their words."""
        bounds = {"low": self.low, "high": self.high}
        return {
            "value": self.value,
            "unit": self.unit,
            **{name: bound for name, bound in bounds.items() if bound is not None},
        }


def estimate(found: Estimate, unit: Unit) -> Amount:
    """An estimate with its interval."""
    return Amount(found.value, unit, found.low, found.high)
