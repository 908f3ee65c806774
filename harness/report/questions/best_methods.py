"""Which method wins at each length? The fastest exact attention, and the fastest approximation of softmax attention
whose error was measured and is small enough."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.model.amounts import Amount, Sentence, compose
from harness.report.model.page_data import ErrorAtSetting, MethodRow, OperationData, Setting
from harness.report.questions.reference_times import is_clear
from harness.report.questions.setting_errors import NOT_MEASURED

ALLOWED_ERROR = 0.1
"""The largest error that counts as small, as a fraction of 1."""
ALLOWED_WORDS = f"{ALLOWED_ERROR:.0%}"
_SOFTMAX = "softmax"
"""The reference of errors that count: an error against another attention says nothing about the distance to softmax."""


@dataclass(frozen=True)
class TimedMethod:
    """A method with its time and the error at that very setting; ``error`` is None where none was measured."""

    row: MethodRow
    error: ErrorAtSetting | None

    @property
    def name(self) -> str:
        """The attention with its cost knob in words."""
        return f"{self.row.attention}, {self.row.knob}" if self.row.knob else self.row.attention

    @property
    def error_words(self) -> Sentence:
        """The error in the few words of a cell."""
        return Sentence("error not measured") if self.error is None else compose("error {}", _size(self.error))

    @property
    def words(self) -> Sentence:
        """Name, time and error, as part of a sentence."""
        end = Sentence(NOT_MEASURED) if self.error is None else compose("with an error of {}", _size(self.error))
        return compose("{}, {} {}", self.name, self.row.time, end)


@dataclass(frozen=True)
class BestAtLength:
    """The winners at one setting.

    Attributes:
        exact: the fastest exact softmax attention; None where none has an undisturbed time.
        within: the fastest approximation within ``ALLOWED_ERROR`` of softmax attention; None where there is none.
        compared: how many timed approximations have a measured error against softmax attention.
    """

    setting: Setting
    exact: TimedMethod | None
    within: TimedMethod | None
    compared: Amount

    @property
    def is_faster(self) -> bool:
        """Whether the approximation is clearly faster than the exact attention."""
        if self.exact is None or self.within is None:
            return False
        own, other = self.within.row.time, self.exact.row.time
        return own.value < other.value and is_clear(own, other, self.setting.tie)

    @property
    def ratio(self) -> Sentence:
        """The approximation's time relative to the exact attention's, in words; empty where one of them is missing."""
        if self.exact is None or self.within is None:
            return Sentence("")
        own, other = self.within.row.time, self.exact.row.time
        if min(self.exact.row.samples, self.within.row.samples) < 2:
            return Sentence("timed only once: no verdict")
        if not is_clear(own, other, self.setting.tie):
            return Sentence("no clear difference")
        if self.is_faster:
            return compose("{} times faster", Amount(other.value / own.value, "number"))
        return compose("{} times slower", Amount(own.value / other.value, "number"))

    @property
    def without_winner(self) -> Sentence:
        """Why no approximation is within the allowed error, in the few words of a cell."""
        if not self.compared.value:
            return Sentence("no other has an error against softmax")
        return compose("none of {} within {}", self.compared, ALLOWED_WORDS)

    @property
    def sentence(self) -> Sentence:
        """Both winners, each with its speed and its error."""
        place = compose("At {} tokens ({})", Amount(self.setting.length, "tokens"), self.setting.pass_)
        exact = (
            Sentence("no exact attention has an undisturbed time")
            if self.exact is None
            else compose("the fastest exact attention is {}", self.exact.words)
        )
        return compose("{} {}; {}.", place, exact, self._within_words())

    def _within_words(self) -> Sentence:
        if self.within is not None:
            ratio = compose(": {}", self.ratio) if self.exact is not None else ""
            words = "the fastest approximation within an error of {} is {}{}"
            return compose(words, ALLOWED_WORDS, self.within.words, ratio)
        if not self.compared.value:
            return Sentence("no other method that was timed there has a measured error against softmax")
        return compose(
            "of the approximations with a measured error against softmax, {}, none is within {}",
            self.compared, ALLOWED_WORDS,
        )  # fmt: skip


def best_by_length(operation: OperationData) -> dict[int, BestAtLength]:
    """The winners by length at the first facets of the bar, in the training pass where it was timed at the length.

    Errors are those on the first kind of inputs. A length without any winner is left out.
    """
    settings: dict[int, Setting] = {}
    for pass_ in operation.passes:  # training first
        for setting in operation.settings:
            if setting.facets == operation.start.facets and setting.pass_ == pass_ and setting.rows:
                settings.setdefault(setting.length, setting)
    found = {length: _best(settings[length], operation.start.inputs) for length in sorted(settings)}
    return {length: best for length, best in found.items() if best.exact or best.within}


def _best(setting: Setting, inputs: str) -> BestAtLength:
    methods = [TimedMethod(row, row.errors.get(inputs)) for row in setting.rows if row.disturbance is None]
    approximations = [
        (method, method.error) for method in methods if method.error is not None and _counts(method.row, method.error)
    ]
    return BestAtLength(
        setting=setting,
        exact=_fastest_exact(methods),
        within=next((method for method, error in approximations if error.worst.value <= ALLOWED_ERROR), None),
        compared=Amount(len(approximations), "count"),
    )


def _fastest_exact(methods: Sequence[TimedMethod]) -> TimedMethod | None:
    """Of methods in order of time; the reference where the fastest is the same kernel or not clearly faster."""
    exact = [method for method in methods if method.row.exact_softmax]
    if exact and exact[0].row.order in ("same kernel", "tied"):
        return next((method for method in exact if method.row.order == "reference"), exact[0])
    return exact[0] if exact else None


def _counts(row: MethodRow, error: ErrorAtSetting) -> bool:
    return not row.exact_softmax and error.measured and error.reference == _SOFTMAX


def _size(error: ErrorAtSetting) -> Amount:
    return error.worst.without_interval
