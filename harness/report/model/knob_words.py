"""Knobs in plain English: "32 hashes", "window of 64", "norm floor 0.1"."""

from collections.abc import Mapping

from harness.core.spec import Scalar

_BUDGETS = ("num_hash", "num_features", "num_landmarks")
"""Knobs that trade cost for accuracy; records of timed cases do not say which of their knobs does."""
_ORDER = (*_BUDGETS, "projected_length", "block", "rounds", "window")
"""Knobs that decide the cost of a call. Of several, the first is named: BigBird's window is counted in blocks."""
_COUNTED = {
    "num_hash": ("hash", "hashes"),
    "num_features": ("feature", "features"),
    "num_landmarks": ("landmark", "landmarks"),
    "projected_length": ("projected key", "projected keys"),
    "rounds": ("round", "rounds"),
    "buckets": ("bucket", "buckets"),
    "iterations": ("iteration", "iterations"),
    "global_tokens": ("global token", "global tokens"),
    "global_blocks": ("global block", "global blocks"),
    "random_blocks": ("random block", "random blocks"),
    "shared_keys": ("shared key", "shared keys"),
    "hash_code_len": ("bit a hash", "bits a hash"),
}
"""What a knob counts: one of it, and several."""
_PHRASES = {
    "window": "window of {}",
    "block": "blocks of {}",
    "chunk": "chunks of {}",
    "conv_window": "convolution of {}",
    "conv_kernel": "convolution of {}",
    "estimator": "{} estimator",
    "normalization": "{} normalization",
    "hash_family": "{} hash family",
    "sharing": "{} sharing",
}
_VALUES: dict[tuple[str, Scalar], str] = {
    ("conv_kernel", 0): "no convolution",
    ("estimator", "collisions"): "collision estimator",
    ("sharing", "none"): "no sharing",
    ("orthogonal", True): "orthogonal features",
    ("orthogonal", False): "independent features",
    ("redraw", True): "features redrawn in each call",
    ("redraw", False): "features drawn once",
    ("lsh_backward", True): "gradients from collisions",
    ("lsh_backward", False): "gradients over all pairs",
    ("rescore_rest", True): "rest replaced by the mean",
    ("rescore_rest", False): "rest left out",
}
"""Values with words of their own."""


def budget_knob(knobs: Mapping[str, Scalar], measured: str | None) -> str | None:
    """The name of the knob that trades cost for accuracy; ``measured`` is the one that records of errors name."""
    names = [name for name in (measured, *_BUDGETS) if name is not None]
    return next((name for name in names if isinstance(knobs.get(name), int | float)), None)


def cost_knob(knobs: Mapping[str, Scalar], budget: str | None) -> str | None:
    """The name of the knob that decides the cost of a call; None where there is none."""
    return budget or next((name for name in _ORDER if name in knobs), None)


def knob_words(name: str, knobs: Mapping[str, Scalar]) -> str:
    """One of the knobs with its value: "32 hashes". The words of a knob that only another package has are made from its
    name."""
    value = knobs[name]
    if (name, value) in _VALUES:
        return _VALUES[name, value]
    words = _value_words(value)
    if name in _COUNTED:
        return f"{words} {_COUNTED[name][value != 1]}"
    if name in _PHRASES:
        return _PHRASES[name].format(words) + (" blocks" if name == "window" and "block" in knobs else "")
    noun = name.replace("_", " ").strip()
    if noun.startswith("num ") and isinstance(value, int):
        return f"{words} {noun.removeprefix('num ')}"
    return f"{noun} {words}"


def _value_words(value: Scalar) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
