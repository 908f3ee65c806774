"""Knobs in words: "32 hashes", "64 window"."""

from collections.abc import Mapping

from harness.core.spec import Scalar

_BUDGETS = {"num_hash": "hashes", "num_features": "features", "num_landmarks": "landmarks"}
"""Knobs that trade cost for accuracy; records of timed cases do not say which of their knobs does."""
_COSTS = {
    **_BUDGETS,
    "projected_length": "projected",
    "window": "window",
    "block": "block",
    "rounds": "rounds",
}
"""Knobs that decide the cost of a call. Of several, the first is named: BigBird's window is counted in blocks."""
_ORDER = (*_BUDGETS, "projected_length", "block", "rounds", "window")


def budget_knob(knobs: Mapping[str, Scalar], measured: str | None) -> str | None:
    """The name of the knob that trades cost for accuracy; ``measured`` is the one that records of errors name."""
    names = [name for name in (measured, *_BUDGETS) if name is not None]
    return next((name for name in names if isinstance(knobs.get(name), int | float)), None)


def cost_knob(knobs: Mapping[str, Scalar], budget: str | None) -> str:
    """The knob that decides the cost of a call, in words; empty where there is none."""
    name = budget or next((name for name in _ORDER if name in knobs), None)
    return "" if name is None else knob_words(name, knobs[name])


def knob_words(name: str, value: Scalar) -> str:
    """A knob with its value: "32 hashes"."""
    number = f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return f"{number} {_COSTS.get(name, name.replace('_', ' '))}"
