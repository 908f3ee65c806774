"""The error of an attention at the setting at which a case timed it, from the cases that measured errors.

A speed without the error beside it says little: an attention that ignores its inputs would be the fastest. Batch and
number of heads are not part of a setting, because every head is computed independently.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from harness.core.quantities import ROUNDING, error_words
from harness.core.record import Record
from harness.core.spec import QualitySpec

_INPUTS = {"recorded": "recorded", "matched": "sharp", "clustered": "smooth", "normal": "random"}
"""Kinds of inputs, the one that says most about a trained model first, with the report's words for them."""
NOT_MEASURED = "error not measured"
_Key = tuple[str, int, str, str, int | None]


@dataclass(frozen=True)
class SettingError:
    """The median over the draws of the relative error, of the tensor for which it is largest.

    Attributes:
        value: the error, as a share.
        tensor: "output", or in a training step perhaps "grad_q", "grad_k" or "grad_v".
        inputs: on which kind of inputs it was measured.
        own_definition: it was compared with nothing but its own definition, and does not compute softmax attention.
    """

    value: float
    tensor: str
    inputs: str
    own_definition: bool

    def __str__(self) -> str:
        gradient = "" if self.tensor == "output" or self.value < ROUNDING else f" ({self.tensor.replace('_', ' of ')})"
        return error_words(self.value) + ("*" if self.own_definition else "") + gradient


def error_phrase(error: SettingError | None) -> str:
    """The error as a part of a sentence about a speed; also where there is none, so that no speed is without it."""
    if error is None:
        return NOT_MEASURED
    if error.value < ROUNDING:
        return "only rounding error" + (" relative to its own definition" if error.own_definition else "")
    return f"error {error}"


def explanation(errors: Iterable[SettingError | None]) -> str:
    """One sentence about the errors that a table has: what they are of, and on which inputs; empty without errors."""
    shown = [error for error in errors if error is not None]
    if not shown:
        return ""
    kinds = [kind for kind in _INPUTS.values() if any(error.inputs == kind for error in shown)]
    parts = [f"error: relative error of the output at the same length, dtype and knobs, on {' or '.join(kinds)} inputs"]
    if any("grad" in str(error) for error in shown):
        parts.append("with a backward pass of the gradient that is named, if that is larger")
    if any(error.own_definition for error in shown):
        parts.append("* relative to its own definition, because it estimates no other attention")
    return "; ".join(parts)


class SettingErrors:
    """Finds the error that belongs to a timed case among the records of a run."""

    def __init__(self, records: Iterable[Record]) -> None:
        measured = [record for record in records if record.status == "ok" and record.quality is not None]
        estimated = {_reference(record) for record in measured if _reference(record) != record.spec.attention}
        self._by_setting: dict[_Key, list[tuple[Record, bool]]] = {}
        for record in measured:
            is_own = _reference(record) == record.spec.attention and not _is_exact_softmax(record)
            own_definition = is_own and _reference(record) not in estimated
            self._by_setting.setdefault(_key(record), []).append((record, own_definition))

    def of(self, record: Record) -> SettingError | None:
        """The error at the length, dtype, head size and knobs of a case; None where it was not measured.

        A forward pass has the error of the output; one with a backward pass the largest of the output's and the
        gradients'.
        """
        found = [pair for pair in self._by_setting.get(_key(record), []) if _has_knobs_of(pair[0], record)]
        if record.quality is not None and record.status == "ok":
            found = [pair for pair in found if pair[0] is record]
        if not found:
            return None
        order = list(_INPUTS)
        measured, own_definition = min(found, key=lambda pair: order.index(_inputs(pair[0])))
        assert measured.quality is not None
        with_gradients = getattr(record.spec, "mode", "forward") != "forward"
        errors = {
            tensor: median(values)
            for tensor, values in measured.quality.errors.items()
            if values and (with_gradients or tensor == "output")
        }
        if not errors or (with_gradients and errors.keys() == {"output"}):
            return None
        tensor = max(errors, key=errors.__getitem__)
        return SettingError(errors[tensor], tensor, _INPUTS[_inputs(measured)], own_definition)


def _is_exact_softmax(record: Record) -> bool:
    """As the plugin declared; for records that are older than the field, by the name, as in the report."""
    if record.exact_softmax is not None:
        return record.exact_softmax
    return record.spec.attention == "softmax" or record.spec.attention.startswith(("sdpa", "xformers_"))


def _key(record: Record) -> _Key:
    spec = record.spec
    return (spec.attention, spec.seq_len, spec.dtype, spec.device, getattr(spec, "head_dim", None))


def _inputs(record: Record) -> str:
    assert isinstance(record.spec, QualitySpec)
    return record.spec.inputs


def _reference(record: Record) -> str:
    """The attention that the errors are against, without the dtype and the inputs that follow it."""
    assert record.quality is not None
    return record.quality.reference.split(",")[0]


def _has_knobs_of(measured: Record, timed: Record) -> bool:
    shared = measured.knobs.keys() & timed.knobs.keys()
    return all(measured.knobs[name] == timed.knobs[name] for name in shared)
