"""The error of an attention at the setting of a timed case, in the words of the gate and the terminal."""

from collections.abc import Iterable
from dataclasses import dataclass

from harness.core.matched_errors import INPUTS_WORDS, MatchedErrors
from harness.core.quantities import ROUNDING, error_words, share_words
from harness.core.record import Record

NOT_MEASURED = "error not measured"


@dataclass(frozen=True)
class SettingError:
    """The median over the draws of the relative error, of the tensor for which it is largest.

    Attributes:
        value: the error, as a share.
        tensor: "output", or in a training step perhaps "grad_q", "grad_k" or "grad_v".
        inputs: on which kind of inputs it was measured.
        own_definition: it was compared with nothing but its own definition, and does not compute softmax attention.
        is_rounding: it is too small to be called an approximation's, or its attention approximates nothing.
        is_measured: a case measured it; otherwise the verification of the timed case did.
    """

    value: float
    tensor: str
    inputs: str
    own_definition: bool
    is_rounding: bool
    is_measured: bool

    @property
    def cell(self) -> str:
        """The error in a table's cell, without the tensor that it is of."""
        words = error_words(self.value)
        visible = " (rounding)" if self.is_rounding and self.value >= ROUNDING else ""
        return words + visible + ("*" if self.own_definition else "")

    def __str__(self) -> str:
        return self.cell + ("" if self.tensor == "output" or self.is_rounding else f" ({_gradient_words(self.tensor)})")


def error_phrase(error: SettingError | None) -> str:
    """The error as a part of a sentence about a speed; also where there is none, so that no speed is without it."""
    if error is None:
        return NOT_MEASURED
    if error.is_rounding:
        visible = f" ({share_words(error.value)})" if error.value >= ROUNDING else ""
        return f"only rounding error{visible}" + (" relative to its own definition" if error.own_definition else "")
    return f"error {error}"


def explanation(errors: Iterable[SettingError | None]) -> str:
    """One sentence about the errors that a table has: what they are of, and on which inputs; empty without errors."""
    shown = [error for error in errors if error is not None]
    if not shown:
        return ""
    kinds = [kind for kind in INPUTS_WORDS.values() if any(error.inputs == kind for error in shown)]
    parts = [f"error: relative error of the output at the same length, dtype and knobs, on {' or '.join(kinds)} inputs"]
    if any("grad" in str(error) for error in shown):
        parts.append("with a backward pass of the gradient that is named, if that is larger")
    if not all(error.is_measured for error in shown):
        parts.append("of an exact attention whose error no case measured, that of its verification")
    if any(error.own_definition for error in shown):
        parts.append("* relative to its own definition, because it estimates no other attention")
    return "; ".join(parts)


class SettingErrors:
    """Finds the one error that the gate and the terminal show beside a timed case of a run."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._matched = MatchedErrors(records)

    def of(self, record: Record) -> SettingError | None:
        """The error on the first kind of ``INPUTS_WORDS`` on which it was measured, or the rounding error of the case's
        verification; None where neither is known, or where it is known of the output only and the case has a backward
        pass."""
        kinds = list(INPUTS_WORDS)
        measured = sorted(self._matched.of(record).items(), key=lambda item: kinds.index(item[0].name))
        found = [*(error for _, error in measured), self._matched.of_verification(record)]
        error = next((error for error in found if error is not None and not error.without_gradients), None)
        if error is None:
            return None
        return SettingError(
            value=error.value,
            tensor=error.tensor,
            inputs=error.kind_words,
            own_definition=error.compared == "own definition" and not error.is_estimated,
            is_rounding=error.is_rounding or error.value < ROUNDING,
            is_measured=error.inputs is not None,
        )


def _gradient_words(tensor: str) -> str:
    return tensor.replace("_", " of ")
