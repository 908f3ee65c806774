"""Which error belongs to a timed case, among the errors that the cases of a run measured.

A speed without the error beside it says little: an attention that ignores its inputs would be the fastest. The report,
the gate and the terminal all match by these rules, and each has words of its own for the errors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

from harness.core.record import Quality, Record
from harness.core.spec import OperationSpec, QualityInputs, QualitySpec

INPUTS_WORDS: dict[QualityInputs, str] = {
    "matched": "sharp",
    "clustered": "smooth",
    "recorded": "recorded",
    "normal": "random",
}
"""The kinds of inputs in one word each; the kind that is shown first, where one must be chosen, first."""
AS_TIMED = INPUTS_WORDS["normal"]
"""The kind of inputs of timed calls and of their verification."""
TENSORS = ("output", "grad_q", "grad_k", "grad_v")
"""The tensors that have errors, as records name them."""
_SAME_ERROR = {"redraw"}
"""Knobs that do not change how the error is distributed. Performer's features are drawn once or in each call; the error
of one call is that of one draw either way. A record with the same value is preferred."""
_ROUNDING = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.01}
"""A larger error of a method that computes its reference exactly is not called rounding, by dtype."""
_Place = tuple[str, int, str, str]


class InputsKind(NamedTuple):
    """All that tells apart the inputs of two errors: the kind, with its similarity or with what was recorded."""

    name: QualityInputs
    similarity: float | None
    recording: str | None
    recording_sha256: str | None
    head_dim: int | None

    @classmethod
    def of(cls, spec: QualitySpec) -> "InputsKind":
        """The kind of a case. A recording has the head size of the model that it is of; other inputs have any."""
        return cls(
            spec.inputs,
            spec.similarity if spec.inputs in ("matched", "clustered") else None,
            spec.recording,
            spec.recording_sha256,
            spec.head_dim if spec.inputs == "recorded" else None,
        )


@dataclass(frozen=True)
class MatchedError:
    """The error at the setting of a timed case, of the tensor for which it is largest.

    Attributes:
        tensor: one of ``TENSORS``; always "output" where the case has no backward pass.
        draws: one error per draw of the attention's random numbers, as shares.
        reference: the attention that it is compared with.
        compared: with softmax attention, or with its own definition, which the attention computes exactly; or with
            another attention, which it estimates.
        is_estimated: another attention of the run estimates this one, so it stands among approximations.
        without_gradients: the case has a backward pass, but only the error of the output is known.
        dtype: that of the case.
        inputs: of the case that measured it; None: it is from the verification of the timed case.
    """

    tensor: str
    draws: Sequence[float]
    reference: str
    compared: Literal["softmax", "own definition", "other attention"]
    is_estimated: bool
    without_gradients: bool
    dtype: str
    inputs: QualitySpec | None

    @property
    def value(self) -> float:
        """The median over the draws."""
        return median(self.draws)

    @property
    def is_rounding(self) -> bool:
        """Whether the attention computes its reference exactly, and the error is of rounding only."""
        return self.compared != "other attention" and self.value <= _ROUNDING[self.dtype]

    @property
    def kind_words(self) -> str:
        """The kind of inputs in one word."""
        return AS_TIMED if self.inputs is None else INPUTS_WORDS[self.inputs.inputs]


class MatchedErrors:
    """The errors that belong to the timed cases of one run.

    The errors of random draws are measured in cases of their own (``suites/test_quality.py``), matched by attention,
    length, dtype, device and knobs. Batch and number of heads are no part of the match, because every head is computed
    independently, but the size of a head is, except for recorded inputs: these have that of the recorded model.

    A method that computes its reference exactly, softmax attention or a definition of its own, has no approximation
    error. Where no case measured its error, the error is that of the verification of the timed case.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._measured: dict[_Place, list[tuple[QualitySpec, Record]]] = {}
        self._own_definition: set[str] = set()
        self._estimated: set[str] = set()
        for record in records:
            spec, quality = record.spec, record.quality
            if record.status != "ok" or quality is None or not isinstance(spec, QualitySpec):
                continue
            is_own = reference_of(quality) == spec.attention
            (self._own_definition if is_own else self._estimated).add(reference_of(quality))
            if quality.errors.get("output"):
                self._measured.setdefault(_place(record), []).append((spec, record))

    def records_for(self, record: Record) -> dict[InputsKind, Record]:
        """The records that measured the error at the setting of an operation, one for each kind of inputs; of a case
        that measures errors, itself."""
        spec = record.spec
        same: dict[InputsKind, Record] = {}
        similar: dict[InputsKind, Record] = {}
        if not isinstance(spec, OperationSpec | QualitySpec):
            return same
        for of_error, measured in self._measured.get(_place(record), []):
            if isinstance(spec, QualitySpec):
                if measured is record:
                    same[InputsKind.of(of_error)] = measured
            elif of_error.inputs == "recorded" or of_error.head_dim == spec.head_dim:
                shared = measured.knobs.keys() & record.knobs.keys()
                differing = {name for name in shared if measured.knobs[name] != record.knobs[name]}
                if differing <= _SAME_ERROR:
                    (similar if differing else same).setdefault(InputsKind.of(of_error), measured)
        return similar | same

    def of(self, record: Record) -> dict[InputsKind, MatchedError]:
        """The errors that cases measured at the setting of a timed case, by kind of inputs."""
        found = {}
        for kind, measured in self.records_for(record).items():
            assert measured.quality is not None
            assert isinstance(measured.spec, QualitySpec)
            errors = {tensor: measured.quality.errors.get(tensor, []) for tensor in _tensors_of(record)}
            found[kind] = self._error(record, errors, reference_of(measured.quality), measured.spec)
        return found

    def of_verification(self, record: Record) -> MatchedError | None:
        """The worst error of the whole tensors in the verification of a case, of a method that computes its reference
        exactly; None for another method, and where no error is known."""
        if self._compared(record) == "other attention":
            return None
        errors = {}
        for tensor in _tensors_of(record):
            checked = [check.error for check in record.checks if check.what == tensor and check.error is not None]
            errors[tensor] = [max(checked)] if checked else []
        return self._error(record, errors, record.spec.attention, None) if any(errors.values()) else None

    def has_no_approximation_error(self, record: Record) -> bool:
        """Whether the attention is compared with its own definition, which no other attention of the run estimates.

        Rounding would rank it, and even no attention at all, above everything that estimates something.
        """
        return self._compared(record) == "own definition" and record.spec.attention not in self._estimated

    def _error(
        self, record: Record, errors: dict[str, list[float]], reference: str, inputs: QualitySpec | None
    ) -> MatchedError:
        tensors = [tensor for tensor, draws in errors.items() if draws]
        worst = max(tensors, key=lambda tensor: median(errors[tensor]))
        return MatchedError(
            tensor=worst,
            draws=errors[worst],
            reference=reference,
            compared=self._compared(record),
            is_estimated=record.spec.attention in self._estimated,
            without_gradients=len(errors) > 1 and tensors == ["output"],
            dtype=record.spec.dtype,
            inputs=inputs,
        )

    def _compared(self, record: Record) -> Literal["softmax", "own definition", "other attention"]:
        if record.is_exact_softmax:
            return "softmax"
        return "own definition" if record.spec.attention in self._own_definition else "other attention"


def reference_of(quality: Quality) -> str:
    """The attention that the errors are against, without the dtype and the inputs that follow it."""
    return quality.reference.split(",")[0]


def _place(record: Record) -> _Place:
    spec = record.spec
    return spec.attention, spec.seq_len, spec.dtype, spec.device


def _tensors_of(record: Record) -> tuple[str, ...]:
    """The tensors that the call of a case computes and that errors are of."""
    has_backward = isinstance(record.spec, OperationSpec | QualitySpec) and record.spec.mode == "forward_backward"
    return TENSORS if has_backward else TENSORS[:1]
