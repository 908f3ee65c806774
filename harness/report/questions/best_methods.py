"""Which method wins at each setting? The fastest exact softmax attention, and the fastest method within each allowed
error of softmax attention. The cards, the chart, the index and the summary in words all name these winners.

Only an error against softmax attention counts; in training it is the worst of output and gradients. A reader who allows
an error of 10% asks how much of softmax attention may be given up for speed. A method that computes another function
exactly has an error of rounding against its own definition, and one that estimates another function, as YOSO does
YOSO-E, has an error against that one: neither says how far the result is from softmax attention, so neither wins,
however small it is. Nor does an error of the output alone where a pass has gradients, or none at all. What is faster
than the winner and does not count is named beside it, each with its reason.

Times that other processes disturbed, and single ones, win nothing while there are others. Methods are tied where none
of the others is clearly faster; of tied methods the reference is named first, then exact ones, because they are as fast
and have no error, and then the fastest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from harness.report.model.amounts import Amount, Sentence, SentencePart, compose, join
from harness.report.model.facets import WORDS
from harness.report.model.page_data import (
    BestMethods,
    BestWithin,
    ErrorAtSetting,
    MethodRow,
    OperationData,
    Setting,
    Tie,
    Winner,
)
from harness.report.questions.reference_times import is_clear, tie_reason
from harness.report.questions.setting_errors import NOT_MEASURED

ALLOWED_ERRORS = (None, 0.5, 0.1, 0.01)
"""The allowed errors of the bar, as fractions of 1; None allows any that was measured."""
ALLOWED_ERROR = 0.1
"""The allowed error with which the page opens, and that of the index."""
ALLOWED_WORDS = f"{ALLOWED_ERROR:.0%}"
RULE = (
    "Only exact softmax and methods with a measured error against softmax can win within an error; one compared only "
    "with its own definition, or with another attention, cannot."
)
"""The rule in one sentence, for every place that names winners."""
_SOFTMAX = "softmax"
_OWN_DEFINITION = "its own definition"
_NAMED = 3
"""So many methods a list names."""


def best_methods(rows: Sequence[MethodRow], reference: str | None, tie: Tie | None, inputs: str) -> BestMethods:
    """The winners among the rows of one setting, with the errors on one kind of inputs."""
    contest = _Contest(rows, reference, tie, inputs)
    exact = contest.winner([row for row in rows if row.exact_softmax])
    return BestMethods(exact, tuple(contest.within(allowed, exact) for allowed in ALLOWED_ERRORS))


class _Contest:
    """The rows of one setting, and what decides between two of them."""

    def __init__(self, rows: Sequence[MethodRow], reference: str | None, tie: Tie | None, inputs: str) -> None:
        self._rows = rows
        self._reference = reference
        self._tie = tie
        self._inputs = inputs
        self._softmax = {_SOFTMAX, *(row.attention for row in rows if row.exact_softmax)}

    @cached_property
    def _names_of_kernel(self) -> Mapping[str, Sequence[MethodRow]]:
        """The rows of one kernel by the series of each: exact attentions may be one kernel under several names."""
        comparable = [row for row in self._rows if row.is_comparable]
        exact = [row for row in comparable if row.exact_softmax]
        twins = {
            row.series: [other for other in exact if other is not row and is_same_kernel(row, other)] for row in exact
        }
        return {row.series: [row, *twins.get(row.series, [])] for row in comparable}

    def is_faster(self, row: MethodRow, other: MethodRow) -> bool:
        """Whether a row is clearly faster than another, under all names of the kernels of both."""
        if row.time.value >= other.time.value or not (row.is_comparable and other.is_comparable):
            return False
        return all(
            one.time.value < two.time.value and is_clear(one.time, two.time, self._tie)
            for one, two in product(self._names_of_kernel[row.series], self._names_of_kernel[other.series])
        )

    def winner(self, candidates: Sequence[MethodRow]) -> Winner | None:
        """The fastest of the candidates and those tied with it; without a verdict where no time can be compared."""
        comparable = [row for row in candidates if row.is_comparable]
        if not comparable:
            shortest = min(candidates, key=_order, default=None)
            return None if shortest is None else Winner(shortest, False, (), None, None)
        fastest = [row for row in comparable if not any(self.is_faster(other, row) for other in comparable)]
        best = min(fastest, key=lambda row: (row.series != self._reference, not row.exact_softmax, *_order(row)))
        tied = tuple(sorted((row for row in fastest if row is not best), key=_order))
        return Winner(best, True, tied, self._same_kernel_words(best, tied), self._tied_words(best, tied))

    def within(self, allowed: float | None, exact: Winner | None) -> BestWithin:
        """The winner within an allowed error, beside the fastest exact attention."""
        methods = self._one_an_attention(allowed)
        within = [row for row in methods if self._is_within(row, allowed)]
        counted = [row for row in within if self._counts(row)]
        faster = [row for row in within if exact and exact.verdict and self.is_faster(row, exact.row)]
        winner = self.winner(counted)
        approximation = self.winner([row for row in counted if not row.exact_softmax])
        first = winner or exact
        not_counted = self._not_counted(methods, allowed, first)
        compared = sum(self._counts(row) and not row.exact_softmax for row in self._one_an_attention(None))
        remarks = []
        if winner is None or winner.row.exact_softmax:
            remarks.append(self._approximation_words(allowed, approximation, exact, compared))
        if not_counted and first is not None:
            remarks.append(self._not_counted_words(not_counted, first.row))
        return BestWithin(
            allowed=allowed,
            methods=tuple(methods),
            winner=winner,
            approximation=approximation,
            compared=Amount(compared, "count"),
            faster=tuple(row for row in faster if self._counts(row)),
            not_counted=not_counted,
            remarks=tuple(remarks),
        )

    def _not_counted(
        self, methods: Sequence[MethodRow], allowed: float | None, first: Winner | None
    ) -> tuple[MethodRow, ...]:
        """What is clearly faster than the winner, or than the fastest exact attention where nothing wins, and has no
        error that counts. One with an error above the allowed one is left out, whatever that is against."""
        if first is None or not first.verdict:
            return ()
        unknown = [row for row in methods if row.errors.get(self._inputs) is None or self._is_within(row, allowed)]
        return tuple(row for row in unknown if not self._counts(row) and self.is_faster(row, first.row))

    def _one_an_attention(self, allowed: float | None) -> list[MethodRow]:
        """One row for each attention, the fastest first. Of several knobs it is the fastest whose error was measured
        and is allowed; where none is, what the attention does by default."""
        by_attention: dict[str, list[MethodRow]] = {}
        for row in self._rows:
            by_attention.setdefault(row.attention, []).append(row)
        chosen = []
        for rows in by_attention.values():
            within = [row for row in rows if self._is_within(row, allowed)]
            usual = [row for row in rows if row.is_default] or rows
            chosen.append(min([row for row in within if row.is_comparable] or within or usual, key=_order))
        return sorted(chosen, key=_order)

    def _is_within(self, row: MethodRow, allowed: float | None) -> bool:
        error = row.errors.get(self._inputs)
        return error is not None and (allowed is None or error.worst.value <= allowed)

    def _counts(self, row: MethodRow) -> bool:
        error = row.errors.get(self._inputs)
        if error is None or error.reference not in self._softmax:
            return False
        return row.exact_softmax or not error.without_gradients

    def _same_kernel_words(self, best: MethodRow, tied: Sequence[MethodRow]) -> Sentence | None:
        named = [self._named(row) for row in tied if is_same_kernel(row, best)]
        return compose("Same kernel: {}.", _few(named)) if named else None

    def _tied_words(self, best: MethodRow, tied: Sequence[MethodRow]) -> Sentence | None:
        others = [row for row in tied if not is_same_kernel(row, best)]
        reasons = [self._why_tied(row, best) for row in others]
        if len({reason.words for reason in reasons}) == 1:
            return compose("Tied with {}: {}.", _few([self._named(row) for row in others]), reasons[0])
        named = [self._named(row, reason) for row, reason in zip(others, reasons, strict=True)]
        return compose("Tied with {}.", _few(named)) if named else None

    def _why_tied(self, row: MethodRow, best: MethodRow) -> Sentence:
        reason = tie_reason(row.time, best.time, self._tie)
        return reason or Sentence("not clearly different from the kernel under its other name")

    def _approximation_words(
        self, allowed: float | None, approximation: Winner | None, exact: Winner | None, compared: int
    ) -> Sentence:
        """The best that an approximation does where none wins."""
        limit = f" within {allowed:.0%}" if allowed is not None else ""
        if approximation is not None:
            named = self._named(approximation.row)
            if exact is None or not (exact.verdict and approximation.verdict):
                return compose("The approximation with the shortest time{} is {}, without a verdict.", limit, named)
            order = self.order_words(approximation.row, exact.row)
            word = "than" if order.amounts else "from"
            template = "The fastest approximation{} is {}: {} {} {}."
            found = compose(template, limit, named, order, word, exact.row.attention)
            return join([found, approximation.tied_words], " ") if approximation.tied_words else found
        if not compared:
            return Sentence("No approximation timed here has a measured error against softmax.")
        template = "Approximations with an error against softmax: {}, none{}."
        return compose(template, Amount(compared, "count"), limit)

    def order_words(self, row: MethodRow, other: MethodRow) -> Sentence:
        """How a time compares with another: "2.00 times faster", "no clear difference"."""
        own, others = row.time.value, other.time.value
        if self.is_faster(row, other):
            return compose("{} times faster", Amount(others / own, "number"))
        if self.is_faster(other, row):
            return compose("{} times slower", Amount(own / others, "number"))
        return Sentence("no clear difference")

    def _not_counted_words(self, rows: Sequence[MethodRow], winner: MethodRow) -> Sentence:
        """Names of the first of the faster methods, and why they do not count; those with one reason share a
        bracket."""
        own: list[MethodRow] = []
        unmeasured: list[MethodRow] = []
        others: list[MethodRow] = []
        for row in rows[:_NAMED]:
            error = row.errors.get(self._inputs)
            alike = unmeasured if error is None else own if _is_exact_by_definition(error) else others
            alike.append(row)
        parts = []
        if own:
            largest = max((row.errors[self._inputs] for row in own), key=lambda error: error.worst.value)
            word = "their" if len(own) > 1 else "its"
            names = ", ".join(row.attention for row in own)
            parts.append(compose("{} (exact by {} own definition, error up to {})", names, word, _size(largest)))
        parts += [self._named_without_time(row) for row in others]
        if unmeasured:
            parts.append(Sentence(f"{', '.join(row.attention for row in unmeasured)} (error not measured)"))
        more = len(rows) - _NAMED
        listed = join(parts, "; ")
        listed = compose("{} and {} more", listed, Amount(more, "count")) if more > 0 else listed
        return compose("Faster than {}, but not counted: {}.", winner.attention, listed)

    def _named(self, row: MethodRow, end: Sentence | None = None) -> Sentence:
        """A method with its knob, its time and its error."""
        return _bracketed(row, row.time.without_interval, self._error_words(row), end)

    def _named_without_time(self, row: MethodRow) -> Sentence:
        return _bracketed(row, self._error_words(row))

    def _error_words(self, row: MethodRow) -> Sentence:
        error = row.errors.get(self._inputs)
        if error is None:
            return Sentence("error not measured")
        alone = " of the output alone" if error.without_gradients else ""
        against = "" if error.reference in self._softmax and not alone else f" against {error.reference}"
        return compose("error {}{}{}", _size(error), alone, against)


def order_words(setting: Setting, row: MethodRow, other: MethodRow) -> Sentence:
    """How a time compares with another of the same setting: "2.00 times faster", "no clear difference"."""
    return _Contest(setting.rows, setting.reference, setting.tie, "").order_words(row, other)


def is_same_kernel(row: MethodRow, other: MethodRow) -> bool:
    """Whether two exact attentions are one kernel under two names."""
    is_known = row.kernel is not None and row.kernel == other.kernel
    return is_known and row.exact_softmax and other.exact_softmax


def _bracketed(row: MethodRow, *parts: SentencePart | None) -> Sentence:
    """A method, and in brackets its knob and some parts of which any may be empty."""
    knob = [row.knob_sentence] if row.knob else []
    return compose("{} ({})", row.attention, join([*knob, *(part for part in parts if part)]))


def _is_exact_by_definition(error: ErrorAtSetting) -> bool:
    return error.rounding and error.reference == _OWN_DEFINITION


def _few(named: Sequence[Sentence], separator: str = "; ") -> Sentence:
    """The first of a list, and how many others it has."""
    others = len(named) - _NAMED
    listed = join(named[:_NAMED], separator)
    return compose("{} and {} more", listed, Amount(others, "count")) if others > 0 else listed


def _order(row: MethodRow) -> tuple[float, str]:
    return row.time.value, row.series


def _size(error: ErrorAtSetting) -> Amount:
    return error.worst.without_interval


@dataclass(frozen=True)
class TimedMethod:
    """A winner with the error at that very setting; ``error`` is None where none was measured."""

    winner: Winner
    error: ErrorAtSetting | None

    @property
    def row(self) -> MethodRow:
        """What was timed."""
        return self.winner.row

    @property
    def name(self) -> Sentence:
        """The attention with its cost knob in words."""
        return join([self.row.attention, self.row.knob_sentence] if self.row.knob else [self.row.attention])

    @property
    def error_words(self) -> Sentence:
        """The error in the few words of a cell."""
        return Sentence("error not measured") if self.error is None else compose("error {}", _size(self.error))

    @property
    def tied_words(self) -> str:
        """The names of what is tied with it, in the few words of a cell; empty where nothing is."""
        names = [row.attention for row in self.winner.tied]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"tied: {', '.join(names[:_NAMED])}{more}" if names else ""

    @property
    def in_brackets(self) -> Sentence:
        """Name, and in brackets knob, time, error and ties."""
        return _bracketed(self.row, self.row.time.without_interval, self.error_words, self.tied_words)

    @property
    def words(self) -> Sentence:
        """Name, time and error, as part of a sentence."""
        end = Sentence(NOT_MEASURED) if self.error is None else compose("with an error of {}", _size(self.error))
        tied = f" ({self.tied_words})" if self.winner.tied else ""
        return compose("{}{}, {} {}", self.name, tied, self.row.time, end)


@dataclass(frozen=True)
class BestAtLength:
    """The winners at one setting with the allowed error of the index. Times without a verdict win nothing there."""

    setting: Setting
    inputs: str

    @property
    def exact(self) -> TimedMethod | None:
        """The fastest exact softmax attention."""
        return self._timed(self.setting.best[self.inputs].exact)

    @property
    def within(self) -> TimedMethod | None:
        """The fastest approximation within ``ALLOWED_ERROR`` of softmax attention."""
        return self._timed(self._best_within.approximation)

    @property
    def is_faster(self) -> bool:
        """Whether an approximation wins, and not an exact attention."""
        winner = self._best_within.winner
        return self.exact is not None and winner is not None and winner.verdict and not winner.row.exact_softmax

    @property
    def ratio(self) -> Sentence:
        """The approximation's time relative to the exact attention's, in words; empty where one of them is missing."""
        if self.exact is None or self.within is None:
            return Sentence("")
        return order_words(self.setting, self.within.row, self.exact.row)

    @property
    def without_winner(self) -> Sentence:
        """Why no approximation is within the allowed error, in the few words of a cell."""
        if not self._best_within.compared.value:
            return Sentence("no other has an error against softmax")
        return compose("none of {} within {}", self._best_within.compared, ALLOWED_WORDS)

    @property
    def sentence(self) -> Sentence:
        """Both winners, each with its speed and its error."""
        place = compose("At {} tokens ({})", Amount(self.setting.length, "tokens"), self.setting.pass_)
        exact = (
            Sentence("no exact attention has a time that can be compared")
            if self.exact is None
            else compose("the fastest exact attention is {}", self.exact.words)
        )
        return compose("{} {}; {}.", place, exact, self._within_words())

    def _within_words(self) -> Sentence:
        if self.within is not None:
            ratio = compose(": {}", self.ratio) if self.exact is not None else ""
            words = "the fastest approximation within an error of {} is {}{}"
            return compose(words, ALLOWED_WORDS, self.within.words, ratio)
        if not self._best_within.compared.value:
            return Sentence("no other method that was timed there has a measured error against softmax")
        return compose(
            "of the approximations with a measured error against softmax, {}, none is within {}",
            self._best_within.compared, ALLOWED_WORDS,
        )  # fmt: skip

    @property
    def _best_within(self) -> BestWithin:
        return self.setting.best[self.inputs].at(ALLOWED_ERROR)

    def _timed(self, winner: Winner | None) -> TimedMethod | None:
        if winner is None or not winner.verdict:
            return None
        return TimedMethod(winner, winner.row.errors.get(self.inputs))


def within_sentences(settings: Sequence[Setting], kinds: Sequence[str]) -> list[Sentence]:
    """The fastest method within each allowed error, in the settings of one line of lengths: one sentence for each kind
    of inputs, because an approximation that is good on one kind may be useless on another; and the rule.

    The length is the longest at which an approximation and another method have both a time and an error.
    """
    found = []
    for inputs in kinds:
        usable = [setting for setting in settings if _has_contest(setting.best[inputs])]
        if usable:
            found.append(_within_sentence(max(usable, key=lambda setting: setting.length), inputs))
    return [*found, Sentence(RULE)] if found else []


def _has_contest(best: BestMethods) -> bool:
    winner = best.at(None).winner
    exact = best.exact is not None and best.exact.verdict
    return winner is not None and winner.verdict and best.at(None).compared.value + exact > 1


def _within_sentence(setting: Setting, inputs: str) -> Sentence:
    limits: dict[str, list[SentencePart]] = {}
    winners: dict[str, SentencePart] = {"": "none of those measured"}
    for allowed in reversed(ALLOWED_ERRORS):
        winner = setting.best[inputs].at(allowed).winner
        series = winner.row.series if winner is not None and winner.verdict else ""
        if winner is not None and series:
            winners[series] = TimedMethod(winner, winner.row.errors.get(inputs)).in_brackets
        limit: SentencePart = "any error" if allowed is None else Amount(allowed, "fraction", text=f"{allowed:.0%}")
        limits.setdefault(series, []).append(limit)
    parts = [compose("within {}, {}", _listed(own), winners[series]) for series, own in limits.items()]
    return compose(
        "Fastest with a known error against softmax at {} tokens ({}) by error budget (relative error of {}) on inputs "
        "that are {}: {}.",
        Amount(setting.length, "tokens"), setting.pass_,
        "the output" if setting.pass_ == WORDS["forward"] else "the worst of output and gradients",
        inputs, join(parts, "; "),
    )  # fmt: skip


def _listed(parts: Sequence[SentencePart]) -> Sentence:
    """Parts as a list in a sentence: "1%, 10% and 50%"."""
    *others, last = parts
    return join([join(others), last], " and ") if others else join([last])


def best_by_length(operation: OperationData) -> dict[int, BestAtLength]:
    """The winners by length at the first facets of the bar, in the training pass where it was timed at the length.

    Errors are those on the first kind of inputs. A length without any winner is left out.
    """
    settings: dict[int, Setting] = {}
    for pass_ in operation.passes:  # training first
        for setting in operation.settings:
            if setting.facets == operation.start.facets and setting.pass_ == pass_ and setting.rows:
                settings.setdefault(setting.length, setting)
    found = {length: BestAtLength(settings[length], operation.start.inputs) for length in sorted(settings)}
    return {length: best for length, best in found.items() if best.exact or best.within}
