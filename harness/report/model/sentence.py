"""Sentences that keep the amounts they were made from, so that no number is only words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.report.model.units import Amount


@dataclass(frozen=True)
class Sentence:
    """Words, or a part of them, and the amounts in them."""

    words: str
    amounts: tuple[Amount, ...] = ()

    def __str__(self) -> str:
        return self.words

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"words": self.words, "amounts": [amount.plain() for amount in self.amounts]}


Part = str | Amount | Sentence


def say(template: str, *parts: Part) -> Sentence:
    """``template`` with each ``{}`` replaced by the words of a part."""
    return Sentence(template.format(*parts), tuple(_amounts(parts)))


def join(parts: Iterable[Part], separator: str = ", ") -> Sentence:
    """The parts, one after another."""
    found = list(parts)
    return Sentence(separator.join(map(str, found)), tuple(_amounts(found)))


def _amounts(parts: Iterable[Part]) -> Iterable[Amount]:
    for part in parts:
        if isinstance(part, Amount):
            yield part
        elif isinstance(part, Sentence):
            yield from part.amounts
