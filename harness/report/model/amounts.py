"""Numbers with their words, and sentences that keep the numbers they were made from.

An ``Amount`` is written with three significant digits and a unit and keeps its exact value, so that every number on the
page can be traced to a value in the page's JSON.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from harness.statistics.intervals import LEVEL, Estimate

Formatter = Callable[[float], str]
Unit = Literal["s", "B", "tokens", "count", "fraction", "points", "number", "B/s", "op/s"]
ABSENT = "\N{EN DASH}"
"""The text of a table cell without a value."""
LEVEL_WORDS = f"{LEVEL:.0%}"

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def format_number(value: float) -> str:
    """Three significant digits, with an exponent only where plain digits would be long."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}".replace("inf", "∞")
    rounded = float(f"{value:.3g}")
    if 1e-3 <= abs(rounded) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
        return f"{rounded:,.{digits}f}"
    return f"{rounded:.2e}"


def format_seconds(value: float) -> str:
    """A duration in seconds."""
    size, unit = next((pair for pair in _TIMES if value >= pair[0] * 0.9995), _TIMES[-1])
    return f"{format_number(value / size)} {unit}"


def format_bytes(value: float) -> str:
    """A size in memory in bytes, written in binary units."""
    size, unit = next((pair for pair in _BYTES if value >= pair[0] * 0.9995), (1, "B"))
    return f"{format_number(value / size)} {unit}" if size > 1 else f"{value:.0f} B"


def format_interval(value: float, low: float, high: float, unit: "Unit") -> str:
    """The bounds of an interval in the unit in which ``value`` is written: "[195, 198]" after "196 ms"."""
    scales = {"s": _TIMES, "B": _BYTES}.get(unit)
    if scales is None:
        return f"[{FORMATTERS[unit](low)}, {FORMATTERS[unit](high)}]"
    size = next((size for size, _ in scales if value >= size * 0.9995), scales[-1][0] if unit == "s" else 1)
    if size == 1 and unit == "B":
        return f"[{low:.0f}, {high:.0f}]"
    return f"[{format_number(low / size)}, {format_number(high / size)}]"


def format_length(value: float) -> str:
    """A sequence length in tokens: exact where it is whole, three significant digits where it was interpolated."""
    return f"{float(f'{value:.3g}'):,.0f}" if value != int(value) else f"{int(value):,}"


def format_percent(value: float) -> str:
    """A fraction of 1 as a percentage."""
    return f"{format_number(100 * value)}%"


def format_points(value: float) -> str:
    """A difference of two scores in percentage points, with its sign."""
    return ("+" if value > 0 else "") + format_number(value)


def format_count(value: float) -> str:
    """A whole number with thousands separators."""
    return f"{int(value):,}"


def format_byte_rate(value: float) -> str:
    """Bytes per second, in decimal units as data sheets have them."""
    return f"{format_number(value / 1e9)} GB/s"


def format_operation_rate(value: float) -> str:
    """Floating-point operations per second."""
    return f"{format_number(value / 1e12)} TFLOP/s"


FORMATTERS: dict[Unit, Formatter] = {
    "s": format_seconds,
    "B": format_bytes,
    "tokens": format_length,
    "count": format_count,
    "fraction": format_percent,
    "points": format_points,
    "number": format_number,
    "B/s": format_byte_rate,
    "op/s": format_operation_rate,
}


@dataclass(frozen=True)
class Amount:
    """A number of the report. ``str`` gives its words, and the fields keep the exact values.

    Attributes:
        value: in the base of ``unit``: seconds, bytes, tokens, fractions of 1, percentage points of a score. Finite.
        low, high: the interval, None where there is none. A bound outside the measured range is also None, and
            ``text`` states it.
        text: the words of the value, where the default words of the unit do not fit.
        interval_text: the words of the interval, where a bound has no number.
    """

    value: float
    unit: Unit
    low: float | None = None
    high: float | None = None
    text: str | None = None
    interval_text: str | None = None

    @classmethod
    def of_estimate(cls, estimate: Estimate, unit: Unit) -> "Amount":
        """An estimate with its interval."""
        return cls(estimate.value, unit, estimate.low, estimate.high)

    @property
    def words(self) -> str:
        """The value with its unit, without the interval."""
        return self.text if self.text is not None else FORMATTERS[self.unit](self.value)

    @property
    def interval(self) -> str:
        """The interval in the unit of the value; empty where there is none."""
        if self.interval_text is not None:
            return self.interval_text
        if self.low is None or self.high is None:
            return ""
        return format_interval(self.value, self.low, self.high, self.unit)

    @property
    def without_interval(self) -> "Amount":
        """The same amount without its interval, for sentences that would be too long with it."""
        return Amount(self.value, self.unit, text=self.text)

    def __str__(self) -> str:
        if self.interval_text is not None:
            return f"{self.words} {self.interval_text}"
        if self.text is not None or self.low is None or self.high is None:
            return self.words
        words = FORMATTERS[self.unit]
        return f"{self.words} [{words(self.low)}, {words(self.high)}]"

    def as_json(self) -> dict[str, float | str]:
        """The exact values, and their words for the page's scripts, which word no number themselves."""
        bounds = {"low": self.low, "high": self.high}
        return {
            "value": self.value,
            "unit": self.unit,
            **{name: bound for name, bound in bounds.items() if bound is not None},
            "words": self.words,
            "interval": self.interval,
        }


@dataclass(frozen=True)
class Sentence:
    """A sentence, or a part of one, with the amounts in it."""

    words: str
    amounts: tuple[Amount, ...] = ()

    def __str__(self) -> str:
        return self.words

    def as_json(self) -> dict[str, Any]:
        """The words and the exact values of the amounts."""
        return {"words": self.words, "amounts": [amount.as_json() for amount in self.amounts]}


SentencePart = str | Amount | Sentence


def compose(template: str, *parts: SentencePart) -> Sentence:
    """A sentence from ``template``, with each ``{}`` replaced by the words of a part."""
    return Sentence(template.format(*parts), tuple(_amounts(parts)))


def join(parts: Iterable[SentencePart], separator: str = ", ") -> Sentence:
    """The parts, one after another."""
    joined = list(parts)
    return Sentence(separator.join(map(str, joined)), tuple(_amounts(joined)))


def _amounts(parts: Iterable[SentencePart]) -> Iterable[Amount]:
    for part in parts:
        if isinstance(part, Amount):
            yield part
        elif isinstance(part, Sentence):
            yield from part.amounts
