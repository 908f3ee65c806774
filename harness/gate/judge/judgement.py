"""From two runs to verdicts and an exit code: 0 pass, 1 regression, 2 cannot judge."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.core import comparability
from harness.core.record import Record, Run, Status
from harness.gate.judge import contrast
from harness.gate.judge.gated_metrics import METRICS, Metric
from harness.gate.judge.thresholds import Settings
from harness.statistics.meta_analysis import Effect, discoveries

Weight = Literal["regression", "cannot judge", "fine"]
ORDER: tuple[Weight, ...] = ("regression", "cannot judge", "fine")
EXIT_CODES: dict[Weight, int] = {"regression": 1, "cannot judge": 2, "fine": 0}
PROMISE = 2.0
"""The gate promises to find what is this many floors large; SAME says that so much is excluded,"""
SAME_LEVEL = 0.95
"""at this level, as equivalence tests have it (two one-sided tests at 5%, Schuirmann 1987)."""
SEVERITY: dict[Status, int] = {"ok": 0, "unsupported": 1, "oom": 2, "timeout": 2, "crashed": 3, "incorrect": 4}
"""A case that failed before and fails worse now is a regression too."""
NEWLY: dict[Status, str] = {
    "unsupported": "NEWLY UNSUPPORTED",
    "incorrect": "NEWLY INCORRECT",
    "oom": "NEWLY FAILING",
    "timeout": "NEWLY FAILING",
    "crashed": "NEWLY FAILING",
}


@dataclass(frozen=True)
class Finding:
    """One verdict.

    ``metric`` is None where it is on the case as such; ``effect`` and ``floor`` (on the effect's scale) are None where
    nothing was computed. ``tested`` is False for an effect that was only screened: by one process a side of an ab,
    which takes fresh ones for what that makes look changed. Such an effect is SAME or AMBIGUOUS. One that became SAME
    after a few fresh ones counts as tested: the others' false-discovery rate is over all that were looked at again.
    """

    case_id: str
    metric: Metric | None
    verdict: str
    weight: Weight
    reason: str
    effect: Effect | None = None
    floor: float | None = None
    tested: bool = True


@dataclass(frozen=True)
class Judgement:
    """All findings, the regressions first, and what was not the same about the two runs."""

    base: str
    head: str
    findings: tuple[Finding, ...]
    differences: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 where anything is a regression, else 2 where anything could not be judged, else 0."""
        weights = {one.weight for one in self.findings}
        return next((EXIT_CODES[weight] for weight in ORDER if weight in weights), EXIT_CODES["fine"])

    def with_weight(self, weight: Weight) -> list[Finding]:
        """The findings of one weight."""
        return [one for one in self.findings if one.weight == weight]


def judge(base: Run, head: Run, settings: Settings, anyway: bool = False) -> Judgement:
    """Compare two runs.

    Args:
        base: what head is held against; several records of one case are rounds.
        head: what is judged.
        settings: the thresholds.
        anyway: compare although the runs differ in machine, software or settings.
    """
    found = comparability.run_differences(base, head)
    names = (base.commit or "base", head.commit or "head")
    if found and not anyway:
        return Judgement(*names, (invalid("the runs cannot be compared: " + "; ".join(found)),), tuple(found))
    if not base.records:
        return Judgement(*names, (invalid("base has no case"),), tuple(found))
    interleaved = base.session is not None and base.session == head.session
    sides = (_by_case(base.records), _by_case(head.records))
    findings: list[Finding] = []
    for case_id in dict.fromkeys([*sides[0], *sides[1]]):
        findings += _case(case_id, sides[0].get(case_id, []), sides[1].get(case_id, []), interleaved, settings)
    return Judgement(*names, decide(findings, settings.false_discovery_rate), tuple(found))


def judge_case(base: Record, head: Record, settings: Settings) -> tuple[Finding, ...]:
    """The findings of one case that one process a side has measured in turns."""
    return decide(_case(base.case_id, [base], [head], True, settings), settings.false_discovery_rate)


def invalid(reason: str, case_id: str = "", metric: Metric | None = None) -> Finding:
    """What nobody can judge."""
    return Finding(case_id, metric, "INVALID", "cannot judge", reason)


def decide(findings: Iterable[Finding], rate: float) -> tuple[Finding, ...]:
    """Give every finding that has an effect its verdict, with one false-discovery rate over all of them, and sort.

    Worse: value and interval are beyond the floor and the false-discovery control lets it stand; better likewise.
    SAME: the value is within the floor, and what the gate promises to find, twice the floor, is excluded. AMBIGUOUS:
    none of these; it stands in the way of a pass where so large a regression is still possible.
    """
    found = list(findings)
    # What does not vary is decided without chance, and takes no part in the control of it.
    tested = [one for one in found if one.effect is not None and one.tested and one.effect.standard_error > 0]
    worse = discoveries([_chance(one, worse=True) for one in tested], rate)
    better = discoveries([_chance(one, worse=False) for one in tested], rate)
    stands = {id(one): verdicts for one, *verdicts in zip(tested, worse, better, strict=True)}
    decided = []
    for one in found:
        certain = one.effect is not None and one.effect.standard_error == 0
        decided.append(one if one.effect is None else _verdict(one, *stands.get(id(one), (certain, certain))))
    return tuple(sorted(decided, key=lambda one: (ORDER.index(one.weight), one.case_id)))


def _chance(finding: Finding, worse: bool) -> float:
    assert finding.effect is not None
    assert finding.floor is not None
    return finding.effect.chance_above(finding.floor) if worse else finding.effect.chance_below(-finding.floor)


def _verdict(finding: Finding, worse: bool, better: bool) -> Finding:
    metric, effect, floor = finding.metric, finding.effect, finding.floor
    assert metric is not None
    assert effect is not None
    assert floor is not None
    verdict, reason = "AMBIGUOUS", finding.reason
    weight: Weight = "fine"
    promise = PROMISE * floor
    if worse and effect.low > floor:
        verdict, weight = metric.worse, "regression"
    elif better and effect.high < -floor:
        verdict = metric.better
    elif abs(effect.value) <= floor and (
        effect.standard_error == 0 or (-promise < effect.lower(SAME_LEVEL) and effect.upper(SAME_LEVEL) < promise)
    ):
        verdict = "SAME"
    elif effect.value > floor or effect.upper(SAME_LEVEL) >= promise:
        weight, reason = "cannot judge", "a regression is possible, and not certain: measure more rounds"
    else:
        reason = "better or the same: no regression that matters is possible"
    return replace(finding, verdict=verdict, weight=weight, reason=reason)


def _case(
    case_id: str, base: Sequence[Record], head: Sequence[Record], interleaved: bool, settings: Settings
) -> list[Finding]:
    status = _status(case_id, base, head)
    if status is not None:
        return [status]
    base = [one for one in base if one.status == "ok"]
    if difference := comparability.case_difference(base[0], head[0]):
        return [invalid(difference, case_id)]
    return [one for metric in METRICS.values() for one in _metric(metric, base, head, interleaved, settings)]


def _metric(
    metric: Metric,
    base: Sequence[Record],
    head: Sequence[Record],
    interleaved: bool,
    settings: Settings,
) -> list[Finding]:
    case_id = base[0].case_id
    chosen = settings.threshold(metric.name, case_id)
    if chosen is None:
        return []
    metric = chosen
    has = [[one for one in side if metric.read(one) is not None] for side in (base, head)]
    if not has[0] or not has[1]:
        if has[0] and not metric.may_vanish:
            return [Finding(case_id, metric, "VANISHED", "regression", f"head has no {metric.name} of this case")]
        return []
    values = [value for side in has for one in side for value in metric.read(one) or []]
    if not all(math.isfinite(value) and (value > 0 or metric.scale == "difference") for value in values):
        return [invalid(f"{metric.name} has a sample that is not a finite number above 0", case_id, metric)]
    limit = math.log1p(metric.floor) if metric.scale == "ratio" else metric.floor
    level = 1 - 2 * settings.false_discovery_rate
    effect = contrast.of_records(metric, has[0], has[1], interleaved, level)
    if isinstance(effect, str):
        return [invalid(effect, case_id, metric)]
    tested = not interleaved or effect.rounds > 1 or metric.replicate == "draw"
    return [Finding(case_id, metric, "AMBIGUOUS", "cannot judge", "", effect, limit, tested)]


def _status(case_id: str, base: Sequence[Record], head: Sequence[Record]) -> Finding | None:
    """The verdict on a case that was not measured on both sides."""

    def finding(verdict: str, weight: Weight, reason: str) -> Finding:
        return Finding(case_id, None, verdict, weight, reason)

    if not head:
        return finding("VANISHED", "regression", "base has this case, head has not")
    after = _failure(head)
    if not base:
        if after is None or after.status == "unsupported":
            return finding("NEW", "fine", "base has no such case")
        return finding(NEWLY[after.status], "regression", f"a new case that fails: {_words(after)}")
    before = _failure(base)
    if before is None and after is None:
        return None
    if after is None and any(one.status == "ok" for one in base):
        return None  # a round of base that failed does not hide what the others show
    if after is None:
        assert before is not None
        return finding("NOW RUNS", "fine", f"base: {_words(before)}")
    if before is None or SEVERITY[after.status] > SEVERITY[before.status]:
        return finding(NEWLY[after.status], "regression", _words(after))
    return finding("STILL " + after.status.upper(), "fine", _words(after))


def _failure(records: Sequence[Record]) -> Record | None:
    return next((one for one in records if one.status != "ok"), None)


def _words(record: Record) -> str:
    return f"{record.status}: {'; '.join(record.reasons)}"


def _by_case(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.case_id, []).append(record)
    return found
