"""From two runs to verdicts and an exit code: 0 pass, 1 regression, 2 inconclusive or nothing was judged."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.core import comparability
from harness.core.record import Record, Run, Status
from harness.core.setting_error import SettingError, SettingErrors
from harness.gate.judge import metric_change
from harness.gate.judge.gated_metrics import METRICS, Metric
from harness.gate.judge.thresholds import Settings
from harness.statistics import disturbed_run
from harness.statistics.disturbed_run import RunDisturbance
from harness.statistics.meta_analysis import EffectEstimate, benjamini_hochberg

Weight = Literal["regression", "inconclusive", "fine"]
ORDER: tuple[Weight, ...] = ("regression", "inconclusive", "fine")
EXIT_CODES: dict[Weight, int] = {"regression": 1, "inconclusive": 2, "fine": 0}
DETECTABLE_FLOORS = 2.0
"""The size of change, in floors, that the gate is built to find. SAME means that so large a change is excluded."""
SAME_LEVEL = 0.95
"""Confidence at which it is excluded: an equivalence test of two one-sided tests at 5% (Schuirmann 1987)."""
SEVERITY: dict[Status, int] = {
    "ok": 0,
    "unsupported": 1,
    "oom": 2,
    "timeout": 2,
    "crashed": 3,
    "diverged": 3,
    "incorrect": 4,
}
"""A case that failed in base is a regression if its status in head is more severe."""
NEW_FAILURES: dict[Status, str] = {
    "unsupported": "NEWLY UNSUPPORTED",
    "incorrect": "NEWLY INCORRECT",
    "oom": "NEWLY FAILING",
    "timeout": "NEWLY FAILING",
    "crashed": "NEWLY FAILING",
    "diverged": "NEWLY FAILING",
}


@dataclass(frozen=True)
class GateFinding:
    """One verdict on one metric of a case, or on the case as a whole.

    ``metric`` is None where the verdict is on the whole case. ``estimate`` and ``floor`` (on the estimate's scale) are
    None where nothing was estimated. ``base_value`` and ``head_value`` are the typical values in the metric's unit, for
    the reader; None where a commit has none. ``tested`` is False if the estimate is only from the first pass of
    ``harness ab``, which has one process per commit: its verdict is SAME or AMBIGUOUS, and a suspected change is
    measured again in fresh processes. A case that is SAME after a few fresh rounds counts as tested, because the
    false-discovery rate is over all cases that were measured again.
    """

    case_id: str
    metric: Metric | None
    verdict: str
    weight: Weight
    reason: str
    estimate: EffectEstimate | None = None
    floor: float | None = None
    tested: bool = True
    base_value: float | None = None
    head_value: float | None = None


Role = Literal["base", "head"]
ErrorsOfCase = tuple[SettingError | None, SettingError | None]


@dataclass(frozen=True)
class Judgement:
    """All findings, regressions first; what differs between the two runs besides the commit; and notes for the reader.

    A note says what else decided the verdicts, for example a threshold that head changes.

    Attributes:
        errors: by case id, the error at the setting of the case in base and in head; None where it was not measured.
        machine: what was measured on; empty where nothing was.
        command: the command line that reproduces this judgement.
        report: a link to the report, its path, or the command line that makes it; empty where there is none.
        disturbances: what disturbed the measurement of base and of head; only of those that were disturbed.
        interleaved: base and head were measured in turns, so that a disturbance had the same effect on both.
    """

    base: str
    head: str
    findings: tuple[GateFinding, ...]
    differences: tuple[str, ...]
    notes: tuple[str, ...] = ()
    errors: Mapping[str, ErrorsOfCase] = field(default_factory=dict)
    machine: str = ""
    command: str = ""
    report: str = ""
    disturbances: Mapping[Role, RunDisturbance] = field(default_factory=dict)
    interleaved: bool = False

    def with_notes(self, notes: Iterable[str]) -> "Judgement":
        """The same judgement with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    @property
    def exit_code(self) -> int:
        """1 if any finding is a regression, else 2 if any is inconclusive, else 0."""
        weights = {finding.weight for finding in self.findings}
        return next((EXIT_CODES[weight] for weight in ORDER if weight in weights), EXIT_CODES["fine"])

    def with_weight(self, weight: Weight) -> list[GateFinding]:
        """The findings of one weight."""
        return [finding for finding in self.findings if finding.weight == weight]


def judge(base: Run, head: Run, settings: Settings, anyway: bool = False) -> Judgement:
    """Compare two runs.

    Args:
        base: the run that head is compared with; several records of one case are rounds.
        head: the run that is judged.
        settings: the thresholds.
        anyway: compare even if the runs differ in machine, software or settings.
    """
    found = _judge(base, head, settings, anyway)
    disturbed = {role: disturbed_run.judge_run(run) for role, run in _by_role(base, head)}
    return replace(
        found,
        machine=" and ".join(dict.fromkeys([_machine(base), _machine(head)])),
        disturbances={role: disturbance for role, disturbance in disturbed.items() if disturbance is not None},
        interleaved=_are_interleaved(base, head),
    )


def _judge(base: Run, head: Run, settings: Settings, anyway: bool) -> Judgement:
    differences = comparability.run_differences(base, head)
    names = (base.commit or "base", head.commit or "head")
    if differences and not anyway:
        reason = "the runs cannot be compared: " + "; ".join(differences)
        return Judgement(*names, (invalid(reason),), tuple(differences))
    interleaved = _are_interleaved(base, head)
    base_records, head_records = _by_case(base.records), _by_case(head.records)
    findings: list[GateFinding] = []
    if not base_records.keys() & head_records.keys():
        reason = (
            f"nothing was judged: base has {_cases(base_records)}, head {_cases(head_records)}, and none is in both; "
            "measure both with the same suites and options"
        )
        return Judgement(*names, (invalid(reason),), tuple(differences))
    for case_id in dict.fromkeys([*base_records, *head_records]):
        findings += _case(case_id, base_records.get(case_id, []), head_records.get(case_id, []), interleaved, settings)
    if not any(_is_judged(finding) for finding in findings):
        both = len(base_records.keys() & head_records.keys())
        reason = (
            f"nothing was judged: no case was measured at both commits ({both:,} in both, which failed or have no "
            "metric that is gated)"
        )
        findings.append(invalid(reason))
    notes = _missing_fields(base.records, head.records)
    decided = decide(findings, settings.false_discovery_rate)
    errors = _errors(base_records, head_records, (SettingErrors(base.records), SettingErrors(head.records)))
    return Judgement(*names, decided, tuple(differences), notes, errors)


def judge_case(base: Record, head: Record, settings: Settings) -> tuple[GateFinding, ...]:
    """The findings of one case that one process per commit measured in turns."""
    return decide(_case(base.case_id, [base], [head], True, settings), settings.false_discovery_rate)


def not_judged(base: str, head: str, reason: str) -> Judgement:
    """The judgement of two runs or commits that cannot be compared at all."""
    return Judgement(base, head, (invalid(reason),), ())


def invalid(reason: str, case_id: str = "", metric: Metric | None = None) -> GateFinding:
    """The finding of data that cannot be compared."""
    return GateFinding(case_id, metric, "INVALID", "inconclusive", reason)


def decide(findings: Iterable[GateFinding], rate: float) -> tuple[GateFinding, ...]:
    """Give every finding with an estimate its verdict, with one false-discovery rate over all of them, and sort.

    Worse: estimate and interval are beyond the floor, and the false-discovery control rejects "worse by the floor at
    most". Better: likewise in the other direction. SAME: the estimate is within the floor, and a change of
    ``DETECTABLE_FLOORS`` floors is excluded. AMBIGUOUS: none of these; it is inconclusive where so large a regression
    is still possible.
    """
    undecided = list(findings)
    # A metric that does not vary is decided without a test, and has no part in the false-discovery control.
    tested = [
        finding
        for finding in undecided
        if finding.estimate is not None and finding.tested and finding.estimate.standard_error > 0
    ]
    worse = benjamini_hochberg([_p_value(finding, worse=True) for finding in tested], rate)
    better = benjamini_hochberg([_p_value(finding, worse=False) for finding in tested], rate)
    rejected = {id(finding): tests for finding, *tests in zip(tested, worse, better, strict=True)}
    decided = []
    for finding in undecided:
        if finding.estimate is not None:
            certain = finding.estimate.standard_error == 0
            finding = _with_verdict(finding, *rejected.get(id(finding), (certain, certain)))
        decided.append(finding)
    return tuple(sorted(decided, key=lambda finding: (ORDER.index(finding.weight), finding.case_id)))


def _p_value(finding: GateFinding, worse: bool) -> float:
    assert finding.estimate is not None
    assert finding.floor is not None
    estimate, floor = finding.estimate, finding.floor
    return estimate.p_value_above(floor) if worse else estimate.p_value_below(-floor)


def _with_verdict(finding: GateFinding, worse: bool, better: bool) -> GateFinding:
    """``worse`` and ``better``: whether the false-discovery control rejected the opposite hypothesis."""
    metric, estimate, floor = finding.metric, finding.estimate, finding.floor
    assert metric is not None
    assert estimate is not None
    assert floor is not None
    verdict, reason = "AMBIGUOUS", finding.reason
    weight: Weight = "fine"
    detectable = DETECTABLE_FLOORS * floor
    if worse and estimate.low > floor:
        verdict, weight = metric.worse, "regression"
    elif better and estimate.high < -floor:
        verdict = metric.better
    elif abs(estimate.value) <= floor and (
        estimate.standard_error == 0
        or (-detectable < estimate.lower_bound(SAME_LEVEL) and estimate.upper_bound(SAME_LEVEL) < detectable)
    ):
        verdict = "SAME"
    elif estimate.value > floor or estimate.upper_bound(SAME_LEVEL) >= detectable:
        weight, reason = "inconclusive", "a regression is possible but not certain: measure more rounds"
    else:
        reason = "better or the same: a regression that matters is excluded"
    return replace(finding, verdict=verdict, weight=weight, reason=reason)


def _case(
    case_id: str, base: Sequence[Record], head: Sequence[Record], interleaved: bool, settings: Settings
) -> list[GateFinding]:
    status = _status(case_id, base, head)
    if status is not None:
        return [status]
    base = [record for record in base if record.status == "ok"]
    if difference := comparability.case_difference(base[0], head[0]):
        return [invalid(difference, case_id)]
    return [finding for name in METRICS for finding in _metric(name, base, head, interleaved, settings)]


def _metric(
    name: str,
    base: Sequence[Record],
    head: Sequence[Record],
    interleaved: bool,
    settings: Settings,
) -> list[GateFinding]:
    """The finding on one metric, its verdict still AMBIGUOUS; none where it is not gated or has no data."""
    case_id = base[0].case_id
    metric = settings.threshold(name, case_id)
    if metric is None:
        return []
    if _has_field(base, metric.field) != _has_field(head, metric.field):
        return []  # a note of the judgement says so
    base = [record for record in base if metric.read(record) is not None]
    head = [record for record in head if metric.read(record) is not None]
    if not base or not head:
        if base and not metric.may_vanish:
            return [GateFinding(case_id, metric, "VANISHED", "regression", f"head has no {name} of this case")]
        return []
    if name == "time" and not interleaved:  # otherwise a disturbance affects both commits and cancels
        usable = [[record for record in records if not _is_disturbed(record)] for records in (base, head)]
        for records, left, which in zip((base, head), usable, ("base", "head"), strict=True):
            if not left:
                reason = f"{which} was disturbed while it was timed: {_disturbance(records[0])}; measure it again"
                return [
                    GateFinding(
                        case_id, metric, "AMBIGUOUS", "inconclusive", reason,
                        base_value=metric_change.typical_value(metric, base, interleaved),
                        head_value=metric_change.typical_value(metric, head, interleaved),
                    )
                ]  # fmt: skip
        base, head = usable
    values = [value for record in (*base, *head) for value in metric.read(record) or []]
    if not all(math.isfinite(value) and (value > 0 or metric.scale == "difference") for value in values):
        return [invalid(f"{name} has a sample that is not a finite number above 0", case_id, metric)]
    floor = math.log1p(metric.floor) if metric.scale == "ratio" else metric.floor
    level = 1 - 2 * settings.false_discovery_rate
    estimate = metric_change.estimate(metric, base, head, interleaved, level)
    if isinstance(estimate, str):
        return [invalid(estimate, case_id, metric)]
    tested = not interleaved or estimate.rounds > 1 or metric.replicate == "draw"
    typical = [metric_change.typical_value(metric, records, interleaved) for records in (base, head)]
    return [GateFinding(case_id, metric, "AMBIGUOUS", "inconclusive", "", estimate, floor, tested, *typical)]


def _errors(
    base: Mapping[str, Sequence[Record]],
    head: Mapping[str, Sequence[Record]],
    errors: tuple[SettingErrors, SettingErrors],
) -> dict[str, ErrorsOfCase]:
    """The error at the setting of every case, in base and in head; cases without any error have no entry."""
    found: dict[str, ErrorsOfCase] = {}
    for case_id in dict.fromkeys([*base, *head]):
        of_case: list[SettingError | None] = []
        for records, measured in zip((base, head), errors, strict=True):
            record = next((record for record in records.get(case_id, []) if record.status == "ok"), None)
            of_case.append(None if record is None else measured.of(record))
        if any(of_case):
            found[case_id] = (of_case[0], of_case[1])
    return found


def _are_interleaved(base: Run, head: Run) -> bool:
    return base.session is not None and base.session == head.session


def _by_role(base: Run, head: Run) -> tuple[tuple[Role, Run], tuple[Role, Run]]:
    return ("base", base), ("head", head)


def _machine(run: Run) -> str:
    """The device that a run measured on, the size of the machine and its version of torch."""
    device, cores = run.machine.get("cuda_device") or run.machine.get("cpu"), run.machine.get("cores")
    parts = [str(device or "machine not named"), f"{cores} cores" if cores else "", f"torch {run.machine.get('torch')}"]
    return ", ".join(part for part in parts if part)


def _is_judged(finding: GateFinding) -> bool:
    """Whether the finding says anything about head that a run in which every case fails would not say, too."""
    return finding.estimate is not None or finding.weight != "fine" or finding.verdict == "NOW RUNS"


def _has_field(records: Iterable[Record], field: str) -> bool:
    """Whether the version of the harness that wrote the records knew the field, even where it is None or empty."""
    return any(field in record.model_fields_set for record in records)


def _missing_fields(base: Sequence[Record], head: Sequence[Record]) -> tuple[str, ...]:
    """A note on each gated field that only one run has, because the other is from another version of the harness."""
    notes = []
    for name in dict.fromkeys(metric.field for metric in METRICS.values()):
        having = [_has_field(records, name) for records in (base, head)]
        if having[0] != having[1]:
            lacking = "head" if having[0] else "base"
            notes.append(f"{name} is not compared: the version of the harness that measured {lacking} lacks it")
    return tuple(notes)


def _cases(records: Mapping[str, object]) -> str:
    return f"{len(records):,} case" + ("" if len(records) == 1 else "s")


def _is_disturbed(record: Record) -> bool:
    return record.timing is not None and bool(record.timing.disturbed)


def _disturbance(record: Record) -> str:
    return (record.timing and record.timing.disturbance) or "its record does not say how"


def _status(case_id: str, base: Sequence[Record], head: Sequence[Record]) -> GateFinding | None:
    """The verdict on a case that was not measured at both commits; None where it was."""

    def finding(verdict: str, weight: Weight, reason: str) -> GateFinding:
        return GateFinding(case_id, None, verdict, weight, reason)

    if not head:
        return finding("VANISHED", "regression", "base has this case and head does not")
    after = _failure(head)
    if not base:
        if after is None or after.status == "unsupported":
            return finding("NEW", "fine", "base does not have this case")
        return finding(NEW_FAILURES[after.status], "regression", f"a new case that fails: {_reason(after)}")
    before = _failure(base)
    if before is None and after is None:
        return None
    if after is None and any(record.status == "ok" for record in base):
        return None  # a failed round of base must not hide what its other rounds show
    if after is None:
        assert before is not None
        return finding("NOW RUNS", "fine", f"base: {_reason(before)}")
    if before is None or SEVERITY[after.status] > SEVERITY[before.status]:
        return finding(NEW_FAILURES[after.status], "regression", _reason(after))
    return finding("STILL " + after.status.upper(), "fine", _reason(after))


def _failure(records: Sequence[Record]) -> Record | None:
    return next((record for record in records if record.status != "ok"), None)


def _reason(record: Record) -> str:
    return f"{record.status}: {'; '.join(record.reasons)}"


def _by_case(records: Iterable[Record]) -> dict[str, list[Record]]:
    by_case: dict[str, list[Record]] = {}
    for record in records:
        by_case.setdefault(record.case_id, []).append(record)
    return by_case
