"""How large is the error at a setting that was timed? The worst of output and gradients, by kind of inputs."""

from collections.abc import Mapping, Sequence

import numpy as np

from harness.core.record import Record
from harness.core.spec import OperationSpec, QualitySpec
from harness.report.model.amounts import Amount, Sentence, compose, join
from harness.report.model.page_data import ErrorAtSetting
from harness.report.model.records_table import ReportRow
from harness.report.questions.approximation_error import reference_of, with_quality
from harness.statistics.intervals import Estimate, bootstrap_median

AS_TIMED = "random"
"""The kind of inputs of timed calls and of their verification."""
_KINDS = {"matched": "sharp", "clustered": "smooth", "normal": AS_TIMED, "recorded": "recorded"}
_PREFERRED = ("sharp", "smooth", "recorded", AS_TIMED)
"""Which kind is shown first, of those on which equally many methods were measured."""
_TENSORS = {
    "output": "output",
    "grad_q": "gradient of q",
    "grad_k": "gradient of k",
    "grad_v": "gradient of v",
}
NOT_MEASURED = "and its error was not measured"
_SAME_ERROR = {"redraw"}
"""Knobs that do not change how the error is distributed. Performer's features are drawn once or in each call; the error
of one call is that of one draw either way. A record with the same value is preferred."""
_OWN_DEFINITION = "its own definition"
_ROUNDING = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.01}
"""A larger error of a method that computes its reference exactly is not called rounding, by dtype."""
_TINY = 1e-5
_Place = tuple[int, str, int, str, str]


class SettingErrors:
    """The errors at timed settings, by kind of inputs.

    The errors of random draws are measured in cases of their own (``suites/test_quality.py``), matched by run,
    attention, length, dtype, device and knobs. Batch and number of heads are no part of the match, because every head
    is computed independently, but the size of a head is. Recorded inputs have the head size of the model that they were
    recorded from, which is therefore in the name of their kind.

    A method that computes its reference exactly, softmax attention or a definition of its own, has no approximation
    error. Where no error was measured, its error is that of the verification of the timed case, on every kind.
    """

    def __init__(self, rows: Sequence[ReportRow]) -> None:
        self._records: dict[_Place, list[tuple[str, Record]]] = {}
        self._own_definition: set[tuple[int, str]] = set()
        self._amounts: dict[tuple[int, str], Amount] = {}
        self._rng = np.random.default_rng(0)
        for row, quality in with_quality(rows):
            if not isinstance(row.record.spec, QualitySpec) or not quality.errors.get("output"):
                continue
            self._records.setdefault(_place(row), []).append((str(inputs_words(row.record.spec)), row.record))
            if reference_of(quality) == row.record.spec.attention:
                self._own_definition.add((row.run, row.record.spec.attention))
        self.inputs = self._inputs_of_timed(rows)

    def _inputs_of_timed(self, rows: Sequence[ReportRow]) -> list[str]:
        """The kinds of inputs, that on which most timed cases have an error first."""
        counts: dict[str, int] = {}
        for row in rows:
            if isinstance(row.record.spec, OperationSpec) and row.time is not None:
                for kind in self._measured(row):
                    counts[kind] = counts.get(kind, 0) + 1
        return sorted(counts, key=lambda kind: (-counts[kind], *preference(kind)))

    def of(self, row: ReportRow) -> dict[str, ErrorAtSetting]:
        """The errors of a timed case by kind of inputs; a kind is absent where nothing is known."""
        record = row.record
        errors = {kind: self._from_quality(row, measured) for kind, measured in self._measured(row).items()}
        if self._is_exact(row):
            rounding = _from_checks(record, self._reference_words(row))
            for kind in self.inputs or [AS_TIMED]:
                if rounding is not None and kind not in errors:
                    errors[kind] = rounding
        return errors

    def _measured(self, row: ReportRow) -> Mapping[str, Record]:
        """The records of errors at the knobs of the case, one for each kind of inputs."""
        found: dict[str, Record] = {}
        similar: dict[str, Record] = {}
        knobs, head_dim = row.record.knobs, getattr(row.record.spec, "head_dim", None)
        for kind, record in self._records.get(_place(row), []):
            spec = record.spec
            same_size = isinstance(spec, QualitySpec) and (spec.inputs == "recorded" or spec.head_dim == head_dim)
            others = {name for name, value in record.knobs.items() if name in knobs and knobs[name] != value}
            if same_size and others <= _SAME_ERROR:
                (similar if others else found).setdefault(kind, record)
        return similar | found

    def _is_exact(self, row: ReportRow) -> bool:
        return row.exact or (row.run, row.record.spec.attention) in self._own_definition

    def _reference_words(self, row: ReportRow) -> str:
        return "softmax" if row.exact else _OWN_DEFINITION

    def _from_quality(self, row: ReportRow, measured: Record) -> ErrorAtSetting:
        quality = measured.quality
        assert quality is not None
        tensors = _tensors_of(row.record)
        worst = max(
            (tensor for tensor in tensors if quality.errors.get(tensor)),
            key=lambda tensor: float(np.median(quality.errors[tensor])),
        )
        is_output_only = len(tensors) > 1 and not any(quality.errors.get(tensor) for tensor in tensors[1:])
        draws = quality.errors[worst]
        amount = self._amount(id(measured), worst, draws)
        exact = self._is_exact(row)
        return ErrorAtSetting(
            worst=amount,
            of=_TENSORS[worst] + (", no gradient was measured" if is_output_only else ""),
            draws=len(draws),
            reference=self._reference_words(row) if exact else reference_of(quality),
            rounding=exact and amount.value <= _ROUNDING[row.record.spec.dtype],
            measured=True,
            inputs=_inputs_of(measured),
        )

    def _amount(self, record: int, tensor: str, draws: Sequence[float]) -> Amount:
        """The median error over the draws; a case that was timed forward and backward has it twice."""
        if (record, tensor) not in self._amounts:
            error = bootstrap_median(draws, self._rng)
            self._amounts[record, tensor] = _error_amount(error)
        return self._amounts[record, tensor]


def inputs_words(spec: QualitySpec) -> Sentence:
    """The kind of inputs in few words: "sharp", "recorded (rxnmapper, heads of 32)"."""
    name = _KINDS[spec.inputs]
    if spec.inputs == "recorded":
        file = f", file {spec.recording_sha256[:8]}" if spec.recording_sha256 else ""
        return compose("{} ({}, heads of {})", name, f"{spec.recording}{file}", Amount(spec.head_dim, "count"))
    has_similarity = spec.inputs in ("matched", "clustered")
    if not has_similarity or spec.similarity == QualitySpec.model_fields["similarity"].default:
        return Sentence(name)
    return compose("{} (cosine {})", name, Amount(spec.similarity, "number", text=f"{spec.similarity:g}"))


def error_words(errors: Mapping[str, ErrorAtSetting]) -> Sentence:
    """The errors of one method at one setting, as the end of a sentence about its speed."""
    parts: list[Sentence] = []
    rounding = [error for error in errors.values() if error.rounding]
    if rounding:
        worst = max(rounding, key=lambda error: error.worst.value)
        size = worst.worst.without_interval
        parts.append(compose("an error of rounding only ({} against {})", size, worst.reference))
    parts += [
        compose(
            "an error of {} ({}, against {}) on inputs that are {}",
            error.worst.without_interval, error.of, error.reference, error.inputs,
        )
        for error in errors.values()
        if not error.rounding
    ]  # fmt: skip
    return compose("with {}", join(parts, " and ")) if parts else Sentence(NOT_MEASURED)


def error_cell(row: ReportRow, errors: SettingErrors) -> Sentence:
    """The error beside a time in a table: the largest over the kinds of inputs."""
    found = errors.of(row)
    if not found:
        return Sentence("not measured")
    error = max(found.values(), key=lambda error: error.worst.value)
    if error.rounding:
        return compose("rounding ({} against {})", error.worst.without_interval, error.reference)
    size = error.worst.without_interval
    return compose("{} ({}, against {}, {})", size, error.of, error.reference, error.inputs)


def largest_error(rows: Sequence[ReportRow], errors: SettingErrors) -> Sentence:
    """The largest error of a method over the kinds of inputs, at the longest length where one is known: a table's
    cell."""
    for row in sorted((row for row in rows if row.time is not None), key=lambda row: -row.seq_len):
        if errors.of(row):
            return compose("{} at {} tokens", error_cell(row, errors), Amount(row.seq_len, "tokens"))
    return Sentence("not measured")


def longest_error_words(rows: Sequence[ReportRow], errors: SettingErrors) -> Sentence:
    """The error of a method at the longest length where one is known, as the end of a sentence about many lengths."""
    for row in sorted((row for row in rows if row.time is not None), key=lambda row: -row.seq_len):
        if own := errors.of(row):
            return compose("{} at {} tokens", error_words(own), Amount(row.seq_len, "tokens"))
    return Sentence(NOT_MEASURED)


def preference(kind: str) -> tuple[int, str]:
    """The place of a kind of inputs among others."""
    name = kind.split(" (")[0]
    return _PREFERRED.index(name), kind


def _place(row: ReportRow) -> _Place:
    spec = row.record.spec
    return row.run, spec.attention, spec.seq_len, spec.dtype, spec.device


def _tensors_of(record: Record) -> tuple[str, ...]:
    """The tensors of which a timed case has errors: those that its call computes."""
    is_training = isinstance(record.spec, OperationSpec) and record.spec.mode == "forward_backward"
    return tuple(_TENSORS) if is_training else ("output",)


def _from_checks(record: Record, reference: str) -> ErrorAtSetting | None:
    """The worst error of the whole tensors in the verification of the case; None where none was finite."""
    tensors = _tensors_of(record)
    errors = [(check.error, check.what) for check in record.checks if check.what in tensors and check.error is not None]
    if not errors:
        return None
    error, worst = max(errors)
    return ErrorAtSetting(
        worst=_error_amount(Estimate(error, None, None, 1, np.array([error]))),
        of=_TENSORS[worst],
        draws=1,
        reference=reference,
        rounding=error <= _ROUNDING[record.spec.dtype],
        measured=False,
        inputs=Sentence(AS_TIMED),
    )


def _inputs_of(record: Record) -> Sentence:
    assert isinstance(record.spec, QualitySpec)
    return inputs_words(record.spec)


def _error_amount(error: Estimate) -> Amount:
    """An error as a percentage, or as a number with an exponent where a percentage would be unreadable: "1.3e-6"."""
    if not 0 < error.value < _TINY:
        return Amount.of_estimate(error, "fraction")
    interval = None
    if error.low is not None and error.high is not None:
        interval = f"[{_tiny_words(error.low)}, {_tiny_words(error.high)}]"
    return Amount(error.value, "fraction", error.low, error.high, _tiny_words(error.value), interval)


def _tiny_words(error: float) -> str:
    return f"{error:.1e}".replace("e-0", "e-")
