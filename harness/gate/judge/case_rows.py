"""A judgement in words: one sentence, and one row a case, which the terminal and the comment both write.

The four words of a judgement, and of every case in it, are pass, regression, inconclusive and invalid.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.core.escaping import one_line
from harness.core.quantities import bytes_words, change_words, error_words, number_words, seconds_words, share_words
from harness.core.setting_error import NOT_MEASURED
from harness.gate.judge.gated_metrics import SHORT_COMPILE_SECONDS, Metric
from harness.gate.judge.judgement import ErrorsOfCase, GateFinding, Judgement

Kind = Literal["regression", "inconclusive", "invalid", "pass"]
KINDS: tuple[Kind, ...] = ("regression", "inconclusive", "invalid", "pass")
"""The worst first."""
BETTER = {"FASTER", "SMALLER", "BETTER", "FEWER", "NOW RUNS"}
FIRST_METRICS = ("time", "accuracy", "error")
"""What cases are run for: the attention alone and models, trainings, and errors."""
NAMED_CASES = 3
"""Cases that are named where many have the same said of them; the others are counted."""
LARGEST = math.log(1e6)
"""A ratio beyond a million is not printed: only a bound that the data do not determine is so large."""
_COMMIT = re.compile(r"([0-9a-f]{12})[0-9a-f]{28}(\+dirty)?")

_NUMBERS = re.compile(r"(\D*)([0-9]{0,18})")


@dataclass(frozen=True)
class MetricLine:
    """What a row says about one metric of its case, or about the case as a whole (then only the verdict)."""

    metric: str
    values: str
    change: str
    interval: str
    verdict: str
    kind: Kind


@dataclass(frozen=True)
class CaseRow:
    """One case: the worst kind of its findings, a line for each finding that is to be shown, and why.

    ``folded``: base and head do not differ, so that counting the case says enough. ``error`` is that of the attention
    at the setting of the case. ``others`` are further cases of which the same is to be said, see ``grouped``.
    """

    case_id: str
    kind: Kind
    lines: tuple[MetricLine, ...]
    error: str
    reasons: tuple[str, ...]
    folded: bool
    others: tuple[str, ...] = ()

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Every case of the row."""
        return (self.case_id, *self.others)


def kind_of(finding: GateFinding) -> Kind:
    """The word for a finding."""
    if finding.weight == "regression":
        return "regression"
    if finding.weight == "inconclusive":
        return "invalid" if finding.verdict == "INVALID" else "inconclusive"
    return "pass"


def result_of(judgement: Judgement) -> Kind:
    """The word for the judgement: that of its worst finding."""
    kinds = {kind_of(finding) for finding in judgement.findings}
    return next((kind for kind in KINDS if kind in kinds), "pass")


def case_rows(judgement: Judgement) -> list[CaseRow]:
    """The rows of all cases, the worst first; a finding about all cases together has a row without a case."""
    by_case: dict[str, list[GateFinding]] = {}
    for finding in judgement.findings:
        by_case.setdefault(finding.case_id, []).append(finding)
    rows = [_row(case_id, findings, judgement.errors.get(case_id)) for case_id, findings in by_case.items()]
    return sorted(rows, key=lambda row: (KINDS.index(row.kind), in_numerical_order(row.case_id)))


def grouped(rows: Iterable[CaseRow]) -> list[CaseRow]:
    """The same rows, where one row stands for all cases that have the same reasons and verdict, and no value.

    It stands at the place of the first of them. A regression always has a row of its own, and so have up to
    ``NAMED_CASES`` cases that are alike.
    """
    alike: dict[object, list[CaseRow]] = {}
    for row in rows:
        has_values = any(line.values or line.change for line in row.lines)
        alone = has_values or not row.case_id or row.kind == "regression"
        alike.setdefault(row.case_id if alone else (row.lines, row.reasons, row.folded), []).append(row)
    return [
        row
        for same in alike.values()
        for row in (
            [replace(same[0], error="", others=tuple(row.case_id for row in same[1:]))]
            if len(same) > NAMED_CASES
            else same
        )
    ]


def case_counts(judgement: Judgement) -> Counter[Kind]:
    """How many cases there are of each kind; a finding about all cases together is none."""
    return Counter(row.kind for row in case_rows(judgement) if row.case_id)


def sentence(judgement: Judgement) -> str:
    """The judgement in one sentence: what was compared, how many cases, and the result."""
    rows = [row for row in case_rows(judgement) if row.case_id]
    counts = Counter(row.kind for row in rows)
    result, cases = result_of(judgement), f"{len(rows):,} {'case' if len(rows) == 1 else 'cases'}"
    base, head = _commit_name("base", judgement.base), _commit_name("head", judgement.head)
    if result == "invalid" and not counts["invalid"]:
        return f"Invalid: {head} could not be compared with {base}."
    if result == "regression":
        what = f"{counts['regression']:,} of {cases} {_is_or_are(counts['regression'])} worse at {head} than at {base}"
    elif result == "inconclusive":
        what = f"whether {head} is worse than {base} is not certain in {counts['inconclusive']:,} of {cases}"
    elif result == "invalid":
        what = f"{counts['invalid']:,} of {cases} could not be compared between {base} and {head}"
    else:
        what = f"none of {cases} is worse at {head} than at {base}" if rows else f"no case of {head} and {base} differs"
    others = [
        f"{counts[kind]:,} {_is_or_are(counts[kind])} {kind}"
        for kind in ("inconclusive", "invalid")
        if counts[kind] and kind != result
    ]
    if passed := counts["pass"]:
        details = pass_words([row for row in rows if row.kind == "pass"])
        others.append(f"{passed:,} {'passes' if passed == 1 else 'pass'} ({details})")
    return "; ".join([f"{result.capitalize()}: {what}", *others]) + "."


def change(finding: GateFinding, value: float) -> str:
    """The change of the metric itself: ``+10.0%`` for a ratio, ``-0.013`` for a difference; ``any`` if unbounded."""
    assert finding.metric is not None
    signed = value if finding.metric.higher_is_worse else -value
    if finding.metric.scale == "difference":
        return f"{signed:+.3g}" if signed else "0"
    return change_words(math.expm1(signed)) if signed < LARGEST else "any"


def interval(finding: GateFinding, low: float, high: float) -> str:
    """The interval of the change, its smaller end first; empty where it is a single value."""
    ends = [change(finding, end) for end in (low, high)]
    assert finding.metric is not None
    if ends[0] == ends[1]:  # a count, or memory, which does not vary
        return ""
    return f"[{', '.join(ends if finding.metric.higher_is_worse else ends[::-1])}]"


def in_numerical_order(case_id: str) -> list[tuple[str, int]]:
    """A sorting key that puts ``n512`` in front of ``n2048``."""
    return [(text, int(digits or 0)) for text, digits in _NUMBERS.findall(case_id)]


def _row(case_id: str, findings: list[GateFinding], errors: ErrorsOfCase | None) -> CaseRow:
    kind = min((kind_of(finding) for finding in findings), key=KINDS.index)
    changed = [finding for finding in findings if not _is_unchanged(finding)]
    by_metric = {finding.metric.name: finding for finding in findings if finding.metric is not None}
    # What the case was run for is the first line of its row, whatever else has changed.
    first = next((by_metric[name] for name in FIRST_METRICS if name in by_metric), findings[0])
    shown = [first, *(finding for finding in changed if finding is not first)]
    return CaseRow(
        case_id,
        kind,
        tuple(map(_line, shown)),
        _error(errors) if case_id else "",
        tuple(dict.fromkeys(finding.reason for finding in changed or findings if finding.reason)),
        folded=not changed,
    )


def _is_unchanged(finding: GateFinding) -> bool:
    return finding.verdict == "SAME" or finding.verdict.startswith("STILL")


def _line(finding: GateFinding) -> MetricLine:
    estimate, metric = finding.estimate, finding.metric
    values = ""
    if metric is not None and finding.base_value is not None and finding.head_value is not None:
        values = f"{value_words(metric, finding.base_value)} -> {value_words(metric, finding.head_value)}"
    return MetricLine(
        "" if metric is None else metric.name.replace("_", " "),
        values,
        "" if estimate is None else change(finding, estimate.value),
        "" if estimate is None else interval(finding, estimate.low, estimate.high),
        _verdict(finding),
        kind_of(finding),
    )


def _verdict(finding: GateFinding) -> str:
    """The kind, and what exactly it is by its identifier in the JSON where that says more."""
    kind = kind_of(finding)
    if finding.verdict == "AMBIGUOUS":
        return "pass: not worse" if kind == "pass" else kind
    return kind if finding.verdict == "INVALID" else f"{kind}: {finding.verdict}"


def value_words(metric: Metric, value: float) -> str:
    """A value of a metric with its unit."""
    if metric.name == "compile_time" and value <= SHORT_COMPILE_SECONDS:
        return f"up to {seconds_words(value)}"
    if metric.name == "memory":
        return bytes_words(value - 1)  # the metric has one byte more, so that a call without scratch memory has a ratio
    if metric.name == "error":
        return error_words(value)
    if metric.unit == "s":
        return seconds_words(value)
    return share_words(value) if metric.unit.startswith("share") else number_words(value)


def _error(errors: ErrorsOfCase | None) -> str:
    """The error of head; of both commits where they differ."""
    if errors is None:
        return NOT_MEASURED
    words = [NOT_MEASURED if error is None else str(error) for error in errors]
    return words[0] if words[0] == words[1] else f"{words[0]} -> {words[1]}"


def folded_words(rows: Iterable[CaseRow]) -> str:
    """How many cases are folded; empty where none is."""
    folded = [row for row in rows if row.folded]
    if not folded:
        return ""
    return f"{len(folded):,} {'case' if len(folded) == 1 else 'cases'}: {pass_words(folded)}"


def pass_words(rows: Sequence[CaseRow]) -> str:
    """How many of the cases that pass are better, new, the same and so on."""
    counts = Counter(
        "better"
        if any(line.verdict.partition(": ")[2] in BETTER for line in row.lines)
        else "not worse"
        if any(line.verdict == "pass: not worse" for line in row.lines)
        else "new"
        if any(line.verdict == "pass: NEW" for line in row.lines)
        else "failing as before"
        if all("STILL" in line.verdict for line in row.lines)
        else "the same"
        for row in rows
    )
    if len(counts) == 1:
        return f"{'all ' if len(rows) > 1 else ''}{next(iter(counts))}"
    return ", ".join(f"{count:,} {words}" for words, count in counts.most_common())


def _commit_name(role: str, commit: str) -> str:
    """``head (0123456789ab)``: a full id is shortened, and any other name of a commit is not."""
    short = _COMMIT.sub(r"\1\2", one_line(commit))
    return role if short == role else f"{role} ({short})"


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"
