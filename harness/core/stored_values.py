"""What a value in the file of a run must be, whatever field has it: text that can be stored, numbers that can be used.

Pydantic checks types; this checks what no type says. It reads the parsed JSON before it becomes a ``Run``, so that a
file with an infinite time or a memory of 10^400 bytes is refused with the place of that value, before anything is
computed from it. A record is checked by the same limits before it is written, so that every file can be read.
"""

import math
from typing import Any

from pydantic import ValidationError

from harness.core.record_text import clean_text

FAULT_LENGTH = 120
"""Characters of a place, and of what is wrong there, that a message has."""
SECONDS = (1e-12, 1e12)
"""A measured time, per call or per sample, is never 0."""
DURATION = (0.0, 1e12)
COUNT = (0.0, 2.0**63 - 1)
POSITIVE_COUNT = (1.0, 2.0**63 - 1)
SHARE_OF_ERROR = (0.0, 1e100)
CLOCK = (0.0, 1e12)
"""A frequency in MHz, a power in watts, or a load average."""
LIMITS = {
    "wall_seconds": SECONDS,
    "device_seconds": SECONDS,
    "submit_seconds": DURATION,
    "cpu_seconds": DURATION,
    "train_seconds": DURATION,
    "pretrain_seconds": DURATION,
    "eval_seconds": DURATION,
    "took_seconds": DURATION,
    "compile_seconds": DURATION,
    "elapsed_seconds": SECONDS,
    "own_cpu_seconds": DURATION,
    "foreign_cpu_seconds": DURATION,
    "stolen_cpu_seconds": DURATION,
    "seconds": SECONDS,  # of a ceiling, and the time limit of a training
    "amount": (1e-12, 1e30),
    "calls_per_sample": POSITIVE_COUNT,
    "input_sets": POSITIVE_COUNT,
    "batch": POSITIVE_COUNT,
    "turns": POSITIVE_COUNT,
    "attempts": POSITIVE_COUNT,
    "cores": POSITIVE_COUNT,
    "thermal_throttles": COUNT,
    "load": CLOCK,
    "load_before": CLOCK,
    "core_mhz": CLOCK,
    "sm_mhz": CLOCK,
    "gpu_watts": CLOCK,
    "warmup_calls": COUNT,
    "peak_bytes": COUNT,
    "input_bytes": COUNT,
    "reserved_bytes": COUNT,
    "resident_bytes": COUNT,
    "flushed_bytes": COUNT,
    "parameters": COUNT,
    "kernel_launches": COUNT,
    "operators": COUNT,
    "steps": COUNT,
    "error": SHARE_OF_ERROR,
    "allowed": SHARE_OF_ERROR,
    "errors": SHARE_OF_ERROR,
    "scores": (-1e100, 1e100),
    "squared_bias": (-1e100, 1e100),
    "work": SHARE_OF_ERROR,
}
"""The least and the largest value of a field, or of every number inside it."""
MAPPINGS = {"errors", "squared_bias", "work", "other_scores", "knobs", "machine"}
"""Fields whose own names are not those of this table: an attention may have a knob ``batch``."""
ANY_NUMBER = (-(2.0**64), 2.0**64)
"""Of whole numbers in all other fields."""


def first_fault(content: Any) -> str | None:
    """The first value that no run can have: where it is, what is expected there, and what was found; None if none."""
    pending: list[tuple[Any, tuple[str | int, ...], str]] = [(content, (), "")]
    while pending:  # not recursive: the JSON of a stranger may be nested as deep as its parser allows
        value, place, field = pending.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if _unstorable(key):
                    return _fault((*place, key), "a name that UTF-8 can encode", key)
                pending.append((inner, (*place, key), field if field in MAPPINGS else key))
        elif isinstance(value, list | tuple):
            pending += [(inner, (*place, number), field) for number, inner in enumerate(value)]
        elif isinstance(value, str):
            if _unstorable(value):
                return _fault(place, "text that UTF-8 can encode", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            fault = _number_fault(value, field)
            if fault is not None:
                return _fault(place, fault, value)
    return None


def first_type_fault(error: ValidationError) -> str:
    """The first value of the wrong type, in the words of pydantic: where it is, and what is wrong."""
    first = error.errors(include_url=False)[0]
    where = clean_text(".".join(str(part) for part in first["loc"]))
    return f"{where[:FAULT_LENGTH]}: {clean_text(first['msg'])[:FAULT_LENGTH]}"


def _number_fault(value: float, field: str) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    low, high = LIMITS.get(field, ANY_NUMBER if isinstance(value, int) else (-math.inf, math.inf))
    if not low <= value <= high:
        return f"a number from {low:g} to {high:g}"
    return None


def _unstorable(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _fault(place: tuple[str | int, ...], expected: str, found: object) -> str:
    where = clean_text(".".join(map(str, place)))[:200]
    words = f"a number of {found.bit_length()} bits" if isinstance(found, int) and found.bit_length() > 64 else None
    return f"{where}: expected {expected}, found {words or clean_text(ascii(found))[:80]}"
