"""Numbers as people read them: three significant digits with a unit."""

import math
from collections.abc import Callable

from harness.stats import LEVEL

Words = Callable[[float], str]
ABSENT = "\N{EN DASH}"
"""What a cell shows where there is nothing to show."""

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


def interval(low: float | None, high: float | None, words: Words) -> str:
    """``low to high``, or ``ABSENT`` where there is none."""
    return ABSENT if low is None or high is None else f"{words(low)} to {words(high)}"


LEVEL_WORDS = f"{LEVEL:.0%}"
