"""Times, sizes, shares and relative errors in words, for the terminal, the gate and the report."""

import math

ROUNDING = 1e-4
"""A relative error below this is rounding: any harmless change in the order of additions changes it."""
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"), (1e-9, "ns"))
_SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_ALMOST = 0.9995
"""From this share of a unit on, three digits round up to the whole unit: 0.9996 s is 1.00 s, and not 1000 ms."""


def number_words(value: float) -> str:
    """Three significant digits, with an exponent only where plain digits would be long."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}".replace("inf", "\N{INFINITY}")
    rounded = float(f"{value:.3g}")
    if 1e-3 <= abs(rounded) < 1e6:
        return f"{rounded:,.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"
    return f"{rounded:.2e}"


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which a duration has one to three digits, as its size in seconds and its name."""
    return next((pair for pair in _TIMES if seconds >= pair[0] * _ALMOST), _TIMES[-1])


def size_unit(size: float) -> tuple[int, str]:
    """The binary unit of a size in memory, as its size in bytes and its name."""
    return next((pair for pair in _SIZES if size >= pair[0] * _ALMOST), (1, "B"))


def seconds_words(seconds: float) -> str:
    """A duration in the unit in which it has one to three digits: ``1.77 s``, ``12.3 ms``."""
    unit, name = time_unit(seconds)
    return f"{number_words(seconds / unit)} {name}"


def bytes_words(size: float) -> str:
    """A size in memory, in binary units."""
    unit, name = size_unit(size)
    return f"{number_words(size / unit)} {name}" if unit > 1 else f"{size:.0f} B"


def share_words(share: float) -> str:
    """A share of 1, as a percentage."""
    return f"{number_words(100 * share)}%"


def change_words(change: float) -> str:
    """A relative change with its sign; one that rounds to zero has none."""
    words = f"{change:+.1%}"
    return "0.0%" if words in ("+0.0%", "-0.0%") else words


def error_words(error: float) -> str:
    """A relative error as a percentage, or ``rounding`` where it is no more than that."""
    return "rounding" if error < ROUNDING else share_words(error)


def remaining_words(seconds: float) -> str:
    """A duration that is only estimated, in whole seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
