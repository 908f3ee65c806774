"""The knobs of a plugin, checked before anything is measured with them, because they are stored with the results."""

import math

from harness.core.plugin import AttentionPlugin, ContractError
from harness.core.record_text import clean_text
from harness.core.spec import AnySpec, Scalar

MAX_INTEGER = 2**63
"""Limit of an integer's magnitude: readers of JSON refuse integers of thousands of digits."""


def plain_knobs(plugin: AttentionPlugin, spec: AnySpec) -> dict[str, Scalar]:
    """The plugin's knobs for this case, each a plain value that can be stored.

    Raises:
        ContractError: a knob is not a finite number, a bool or text.
        ValueError: the case has a knob that the plugin does not know.
    """
    return {clean_text(name): _plain_scalar(name, value) for name, value in dict(plugin.knobs(spec)).items()}


def _plain_scalar(name: str, value: object) -> Scalar:
    match value:
        case bool():
            return value
        case str():
            return clean_text(value)
        case int() if abs(value) < MAX_INTEGER:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
    received = str(value) if isinstance(value, float) else f"a value of type {type(value).__name__}"
    if isinstance(value, int):
        received = "an integer of more than 63 bits"
    raise ContractError(f"knob {name!r} must be a finite number, a bool or text, got {received}")
