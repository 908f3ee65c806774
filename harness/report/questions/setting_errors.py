"""How large is the error at a setting that was timed? The worst of output and gradients, by kind of inputs."""

from collections.abc import Mapping, Sequence

import numpy as np

from harness.core.matched_errors import AS_TIMED, INPUTS_WORDS, MatchedError
from harness.core.spec import OperationSpec, QualitySpec
from harness.report.model.amounts import Amount, Sentence, compose, join
from harness.report.model.page_data import ErrorAtSetting
from harness.report.model.records_table import ReportRow
from harness.report.questions.approximation_error import TENSOR_WORDS, matched_by_run
from harness.statistics.intervals import Estimate, bootstrap_median

NOT_MEASURED = "and its error was not measured"
SMALL_ERROR = Amount(0.1, "fraction", text="10%")
"""The error that a sentence about many methods calls small."""
_TINY = 1e-5


class SettingErrors:
    """The errors at timed settings, by kind of inputs; ``harness.core.matched_errors`` says which belong to a case.

    The name of recorded inputs has their head size, which may be another than that of the timed case. The rounding
    error of a case's verification stands on every kind on which no case measured one.
    """

    def __init__(self, rows: Sequence[ReportRow]) -> None:
        self._by_run = matched_by_run(rows)
        self._amounts: dict[tuple[int, str], Amount] = {}
        self._rng = np.random.default_rng(0)
        self.inputs = self._inputs_of_timed(rows)

    def _inputs_of_timed(self, rows: Sequence[ReportRow]) -> list[str]:
        """The kinds of inputs, that on which most timed cases have an error first."""
        counts: dict[str, int] = {}
        for row in rows:
            if isinstance(row.record.spec, OperationSpec) and row.time is not None:
                for error in self._by_run[row.run].of(row.record).values():
                    kind = str(_inputs_of(error))
                    counts[kind] = counts.get(kind, 0) + 1
        return sorted(counts, key=lambda kind: (-counts[kind], *preference(kind)))

    def of(self, row: ReportRow) -> dict[str, ErrorAtSetting]:
        """The errors of a timed case by kind of inputs; a kind is absent where nothing is known."""
        matched = self._by_run[row.run]
        errors = {str(_inputs_of(error)): self._in_words(error) for error in matched.of(row.record).values()}
        verified = matched.of_verification(row.record)
        if verified is not None:
            for kind in self.inputs or [AS_TIMED]:
                if kind not in errors:
                    errors[kind] = self._in_words(verified)
        return errors

    def _in_words(self, error: MatchedError) -> ErrorAtSetting:
        own_words = {"softmax": "softmax", "own definition": "its own definition"}
        return ErrorAtSetting(
            worst=self._amount(error),
            of=TENSOR_WORDS[error.tensor] + (", no gradient was measured" if error.without_gradients else ""),
            draws=len(error.draws),
            reference=own_words.get(error.compared, error.reference),
            rounding=error.is_rounding,
            without_gradients=error.without_gradients,
            measured=error.inputs is not None,
            inputs=_inputs_of(error),
        )

    def _amount(self, error: MatchedError) -> Amount:
        """The median error over the draws; a case that was timed forward and backward has it twice."""
        if error.inputs is None:
            return _error_amount(Estimate(error.value, None, None, 1, np.array(error.draws)))
        key = id(error.draws), error.tensor
        if key not in self._amounts:
            self._amounts[key] = _error_amount(bootstrap_median(error.draws, self._rng))
        return self._amounts[key]


def inputs_words(spec: QualitySpec) -> Sentence:
    """The kind of inputs in few words: "sharp", "recorded (rxnmapper, heads of 32)"."""
    name = INPUTS_WORDS[spec.inputs]
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


def has_small_error(rows: Sequence[ReportRow], errors: SettingErrors) -> bool:
    """Whether the error of ``largest_error`` is one against softmax, with the gradients in it, and small."""
    for row in sorted((row for row in rows if row.time is not None), key=lambda row: -row.seq_len):
        if found := errors.of(row):
            error = max(found.values(), key=lambda error: error.worst.value)
            is_complete = row.exact or not error.without_gradients
            return error.reference == "softmax" and is_complete and error.worst.value <= SMALL_ERROR.value
    return False


def longest_error_words(rows: Sequence[ReportRow], errors: SettingErrors) -> Sentence:
    """The error of a method at the longest length where one is known, as the end of a sentence about many lengths."""
    for row in sorted((row for row in rows if row.time is not None), key=lambda row: -row.seq_len):
        if own := errors.of(row):
            return compose("{} at {} tokens", error_words(own), Amount(row.seq_len, "tokens"))
    return Sentence(NOT_MEASURED)


def preference(kind: str) -> tuple[int, str]:
    """The place of a kind of inputs among others."""
    name = kind.split(" (")[0]
    return list(INPUTS_WORDS.values()).index(name), kind


def _inputs_of(error: MatchedError) -> Sentence:
    return Sentence(AS_TIMED) if error.inputs is None else inputs_words(error.inputs)


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
