"""What the page's scripts read about the attention alone. ``page/scripts/page_data.d.ts`` describes the same data to
the scripts, which select, place and draw it and compute nothing.

Names are in camel case in ``as_json`` only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.report.model.amounts import Amount, Sentence

Order = Literal["reference", "faster", "slower", "tied", "same kernel", "unclear", "no reference"]
"""The place of a method relative to the reference. ``tied``: the intervals overlap, or differ by less than two names of
one kernel do. ``unclear``: a time was disturbed, or sampled only once."""


@dataclass(frozen=True)
class ErrorAtSetting:
    """The worst of the output's error and, in training, of the three gradients'.

    Attributes:
        of: the tensor with the worst error.
        draws: of the attention's random numbers.
        reference: what it is compared with.
        rounding: the method computes its reference exactly, and the error is of rounding only.
        without_gradients: the pass has gradients, and only the error of the output is known.
        measured: the error is that of a record of errors, and not of the verification of the timed case.
        inputs: the kind of inputs.
    """

    worst: Amount
    of: str
    draws: int
    reference: str
    rounding: bool
    without_gradients: bool
    measured: bool
    inputs: Sentence

    def as_json(self) -> dict[str, Any]:
        """The error as the scripts read it."""
        return {
            "worst": self.worst.as_json(),
            "of": self.of,
            "draws": self.draws,
            "reference": self.reference,
            "rounding": self.rounding,
        }


@dataclass(frozen=True)
class Budget:
    """The knob that trades cost for accuracy: its name, "32 hashes", and 32."""

    name: str
    words: str
    value: float

    def as_json(self) -> dict[str, Any]:
        """The knob as the scripts read it."""
        return {"name": self.name, "words": self.words, "value": self.value}


@dataclass(frozen=True)
class Score:
    """The mean score of the models that were trained with an attention."""

    task: str
    mean: Amount

    def as_json(self) -> dict[str, Any]:
        """The score as the scripts read it."""
        return {"task": self.task, "mean": self.mean.as_json()}


@dataclass(frozen=True)
class MethodRow:
    """One method with one choice of its knobs, at one setting.

    Attributes:
        knob: its cost knob in words, with what else tells its series apart; empty where it has none.
        knob_amounts: the numbers in these words.
        is_default: this is what the attention does by default at this setting.
        interval_scope: what the interval of the time is between; None where it has none.
        disturbance: how other processes disturbed the time; None where they did not.
        ratio: time relative to the reference; None without one, or where either time was disturbed.
        comparison: the ratio in words.
        tied_because: why the time is tied with the reference's; None where it is not.
        errors: by kind of inputs; a kind is absent where nothing was measured.
        checks: how many passed, and of how many.
        kernel: None where it is not known.
        command: the command that measures the case again.
    """

    series: str
    attention: str
    knob: str
    knob_amounts: tuple[Amount, ...]
    budget: Budget | None
    is_default: bool
    exact_softmax: bool
    time: Amount
    samples: int
    interval_scope: Sentence | None
    disturbance: str | None
    ratio: Amount | None
    comparison: str
    order: Order
    tied_because: Sentence | None
    memory: Amount | None
    errors: dict[str, ErrorAtSetting]
    score: Score | None
    checks: tuple[int, int]
    kernel: str | None
    knobs: tuple[tuple[str, str], ...]
    case_id: str
    command: str

    @property
    def knob_sentence(self) -> Sentence:
        """The cost knob in words as part of a sentence."""
        return Sentence(self.knob, self.knob_amounts)

    @property
    def is_comparable(self) -> bool:
        """Whether other times can be compared with this one: no other processes disturbed it, and it was taken more
        than once."""
        return self.disturbance is None and self.time.low is not None

    def as_json(self) -> dict[str, Any]:
        """The row as the scripts read it."""
        return {
            "series": self.series,
            "attention": self.attention,
            "knob": self.knob,
            "budget": self.budget and self.budget.as_json(),
            "isDefault": self.is_default,
            "exactSoftmax": self.exact_softmax,
            "time": self.time.as_json(),
            "samples": self.samples,
            "intervalScope": self.interval_scope and self.interval_scope.as_json(),
            "disturbance": self.disturbance,
            "ratio": self.ratio and self.ratio.as_json(),
            "comparison": self.comparison,
            "order": self.order,
            "tiedBecause": self.tied_because and self.tied_because.as_json(),
            "memory": self.memory and self.memory.as_json(),
            "errors": {kind: error.as_json() for kind, error in self.errors.items()},
            "score": self.score and self.score.as_json(),
            "checks": {"passed": self.checks[0], "total": self.checks[1]},
            "kernel": self.kernel or "not known",
            "knobs": [list(pair) for pair in self.knobs],
            "caseId": self.case_id,
            "command": self.command,
        }


@dataclass(frozen=True)
class WithoutResult:
    """The series that gave no result at a setting for one reason; their names are joined with commas."""

    series: str
    attention: str
    status: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """The reason as the scripts read it."""
        return {"series": self.series, "attention": self.attention, "status": self.status, "reason": self.reason}


@dataclass(frozen=True)
class Tie:
    """How far two names of one kernel differ: times that are nearer than this factor are tied."""

    factor: Amount
    explanation: Sentence

    def as_json(self) -> dict[str, Any]:
        """The factor as the scripts read it."""
        return {"factor": self.factor.as_json(), "explanation": self.explanation.as_json()}


@dataclass(frozen=True)
class Winner:
    """The fastest of some methods.

    Attributes:
        verdict: False where no time of theirs can be compared, and this is only the shortest.
        tied: the others that are not clearly slower.
        same_kernel_words: those of them that are its kernel under another name, each with its error; None without any.
        tied_words: the rest of them, each with its error and why it is tied; None without any.
    """

    row: MethodRow
    verdict: bool
    tied: tuple[MethodRow, ...]
    same_kernel_words: Sentence | None
    tied_words: Sentence | None

    def as_json(self, place: Mapping[str, int]) -> dict[str, Any]:
        """The winner as the scripts read it; ``place`` has the index of each series among the rows of the setting."""
        return {
            "row": place[self.row.series],
            "verdict": self.verdict,
            "tied": [place[row.series] for row in self.tied],
            "sameKernelWords": self.same_kernel_words and self.same_kernel_words.as_json(),
            "tiedWords": self.tied_words and self.tied_words.as_json(),
        }


@dataclass(frozen=True)
class BestWithin:
    """The winner within one allowed error.

    Attributes:
        allowed: as a fraction of 1; None allows any error that was measured.
        methods: one row for each attention, the fastest first.
        winner: the fastest method, exact ones included.
        approximation: the fastest that is not exact.
        compared: how many approximations have a measured error against softmax attention.
        faster: the methods within the allowed error that are clearly faster than the fastest exact one.
        not_counted: what is clearly faster than the winner and without a known error against softmax attention, or
            without one of the gradients where the pass has them; an error against something else is within the limit.
        remarks: what the card of the winner says beside it.
    """

    allowed: float | None
    methods: tuple[MethodRow, ...]
    winner: Winner | None
    approximation: Winner | None
    compared: Amount
    faster: tuple[MethodRow, ...]
    not_counted: tuple[MethodRow, ...]
    remarks: tuple[Sentence, ...]

    def as_json(self, place: Mapping[str, int]) -> dict[str, Any]:
        """The winner and the other methods as the scripts read them, each by its index among the rows."""
        return {
            "allowed": self.allowed,
            "methods": [place[row.series] for row in self.methods],
            "winner": self.winner and self.winner.as_json(place),
            "faster": [place[row.series] for row in self.faster],
            "notCounted": [place[row.series] for row in self.not_counted],
            "remarks": [remark.as_json() for remark in self.remarks],
        }


@dataclass(frozen=True)
class BestMethods:
    """The winners at one setting on one kind of inputs: the fastest exact attention, and one for each allowed error."""

    exact: Winner | None
    within: tuple[BestWithin, ...]

    def at(self, allowed: float | None) -> BestWithin:
        """The winner within one of the allowed errors."""
        return next(best for best in self.within if best.allowed == allowed)

    def as_json(self, place: Mapping[str, int]) -> dict[str, Any]:
        """The winners as the scripts read them."""
        return {
            "exact": self.exact and self.exact.as_json(place),
            "within": [best.as_json(place) for best in self.within],
        }


@dataclass(frozen=True)
class Setting:
    """The attention alone at one place of the bar: facets, pass and length.

    Attributes:
        reference: the series that times are compared with; None where none was measured.
        floor: the call without any attention, which is no method; None where it was not timed.
        notices: what a reader must know before trusting a time of this setting.
        rows: the methods, the fastest first.
        best: the winners by kind of inputs; of one kind without a name where no error was measured.
    """

    facets: dict[str, str]
    pass_: str
    length: int
    length_words: str
    reference: str | None
    tie: Tie | None
    floor: MethodRow | None
    notices: tuple[Sentence, ...]
    rows: tuple[MethodRow, ...]
    best: dict[str, BestMethods]
    without_result: tuple[WithoutResult, ...]

    def as_json(self) -> dict[str, Any]:
        """The setting as the scripts read it."""
        place = {row.series: index for index, row in enumerate(self.rows)}
        return {
            "facets": self.facets,
            "pass": self.pass_,
            "length": self.length,
            "lengthWords": self.length_words,
            "reference": self.reference,
            "tie": self.tie and self.tie.as_json(),
            "floor": self.floor and self.floor.as_json(),
            "notices": [notice.as_json() for notice in self.notices],
            "rows": [row.as_json() for row in self.rows],
            "best": {kind: best.as_json(place) for kind, best in self.best.items()},
            "withoutResult": [group.as_json() for group in self.without_result],
        }


@dataclass(frozen=True)
class LinePoint:
    """Time and memory of a series at one length."""

    length: int
    length_words: str
    time: Amount
    memory: Amount | None
    disturbed: bool

    def as_json(self) -> dict[str, Any]:
        """The point as the scripts read it."""
        return {
            "length": self.length,
            "lengthWords": self.length_words,
            "time": self.time.as_json(),
            "memory": self.memory and self.memory.as_json(),
            "disturbed": self.disturbed,
        }


@dataclass(frozen=True)
class SeriesLine:
    """Time and memory of one series over the length. ``crossing`` is the length from which the reference is slower, or
    faster; None where no crossing is certain."""

    facets: dict[str, str]
    pass_: str
    series: str
    attention: str
    points: tuple[LinePoint, ...]
    comparison: str
    crossing: Amount | None

    def as_json(self) -> dict[str, Any]:
        """The line as the scripts read it."""
        return {
            "facets": self.facets,
            "pass": self.pass_,
            "series": self.series,
            "attention": self.attention,
            "points": [point.as_json() for point in self.points],
            "comparison": self.comparison,
            "crossing": self.crossing and self.crossing.as_json(),
        }


@dataclass(frozen=True)
class LengthChoice:
    """A length of the bar; ``has_errors``: an approximation error was measured at it, at a setting that was timed."""

    value: int
    words: str
    has_errors: bool

    def as_json(self) -> dict[str, Any]:
        """The length as the scripts read it."""
        return {"value": self.value, "words": self.words, "hasErrors": self.has_errors}


@dataclass(frozen=True)
class Start:
    """The first place of the bar."""

    facets: dict[str, str]
    pass_: str
    length: int
    inputs: str

    def as_json(self) -> dict[str, Any]:
        """The place as the scripts read it."""
        return {"facets": self.facets, "pass": self.pass_, "length": self.length, "inputs": self.inputs}


@dataclass(frozen=True)
class OperationData:
    """Everything about the attention alone.

    Attributes:
        facets: every facet of the bar with its choices, the first choice first.
        inputs: kinds of inputs on which errors were measured, the default first.
        yours: the attention that the run was asked for or that another package added; None where there is none.
        rule: what counts as the fastest within an allowed error.
    """

    facets: dict[str, list[str]]
    passes: list[str]
    lengths: list[LengthChoice]
    inputs: list[str]
    yours: str | None
    rule: str
    settings: list[Setting]
    lines: list[SeriesLine]
    start: Start

    def as_json(self) -> dict[str, Any]:
        """``OperationData`` of the scripts."""
        return {
            "facets": self.facets,
            "passes": self.passes,
            "lengths": [length.as_json() for length in self.lengths],
            "inputs": self.inputs,
            "yours": self.yours,
            "rule": self.rule,
            "settings": [setting.as_json() for setting in self.settings],
            "lines": [line.as_json() for line in self.lines],
            "start": self.start.as_json(),
        }
