"""Numbers with their words, and sentences that keep the numbers they were made from.

An ``Amount`` is written with three significant digits and a unit and keeps its exact value, so that every number on the
page can be traced to a value in the page's JSON.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from harness.core.quantities import bytes_words, number_words, seconds_words, share_words, size_unit, time_unit
from harness.statistics.intervals import LEVEL, Estimate

Formatter = Callable[[float], str]
Unit = Literal["s", "B", "tokens", "count", "fraction", "points", "number", "B/s", "op/s"]
ABSENT = "\N{EN DASH}"
"""The text of a table cell without a value."""
LEVEL_WORDS = f"{LEVEL:.0%}"


def format_interval(value: float, low: float, high: float, unit: "Unit") -> str:
    """The bounds of an interval in the unit in which ``value`` is written: "[195, 198]" after "196 ms"."""
    if unit not in ("s", "B"):
        return f"[{FORMATTERS[unit](low)}, {FORMATTERS[unit](high)}]"
    size, name = time_unit(value) if unit == "s" else size_unit(value)
    if name == "B":
        return f"[{low:.0f}, {high:.0f}]"
    return f"[{number_words(low / size)}, {number_words(high / size)}]"


def format_length(value: float) -> str:
    """A sequence length in tokens: exact where it is whole, three significant digits where it was interpolated."""
    return f"{float(f'{value:.3g}'):,.0f}" if value != int(value) else f"{int(value):,}"


def format_points(value: float) -> str:
    """A difference of two scores in percentage points, with its sign."""
    return ("+" if value > 0 else "") + number_words(value)


def format_count(value: float) -> str:
    """A whole number with thousands separators."""
    return f"{int(value):,}"


def format_byte_rate(value: float) -> str:
    """Bytes per second, in decimal units as data sheets have them."""
    return f"{number_words(value / 1e9)} GB/s"


def format_operation_rate(value: float) -> str:
    """Floating-point operations per second."""
    return f"{number_words(value / 1e12)} TFLOP/s"


FORMATTERS: dict[Unit, Formatter] = {
    "s": seconds_words,
    "B": bytes_words,
    "tokens": format_length,
    "count": format_count,
    "fraction": share_words,
    "points": format_points,
    "number": number_words,
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


def counted(count: int, one: str, many: str) -> Sentence:
    """A number in words that agree with it: "1 case is", "2 cases are"."""
    return compose(one if count == 1 else many, Amount(count, "count"))


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
