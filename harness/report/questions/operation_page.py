"""The attention alone, as the page's scripts read it: each setting with the times, errors and memory of its methods."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points

from harness.core.matched_errors import AS_TIMED
from harness.core.record import Record
from harness.core.registry import ATTENTIONS
from harness.core.spec import Scalar
from harness.report.model.amounts import Amount, Sentence, compose, counted, format_length, join
from harness.report.model.case_command import attentions_asked_for, case_command
from harness.report.model.facets import WORDS, Facets
from harness.report.model.knob_words import budget_knob, cost_knob, knob_words
from harness.report.model.page_data import (
    Budget,
    LengthChoice,
    MethodRow,
    OperationData,
    Score,
    SeriesLine,
    Setting,
    Start,
    Tie,
    WithoutResult,
)
from harness.report.model.page_parts import Evidence
from harness.report.model.records_table import (
    STATUS_WORDS,
    ReportRow,
    by_facets,
    interval_scope,
    sequence_lengths,
    undisturbed_first,
)
from harness.report.questions.best_methods import RULE, best_methods
from harness.report.questions.reference_times import (
    NO_ATTENTION,
    kernel_tie,
    reference_row,
    reference_twins,
    relative_time,
)
from harness.report.questions.setting_errors import SettingErrors, preference
from harness.report.questions.time_lines import series_lines
from harness.report.questions.trained_scores import mean_score, trained_models
from harness.statistics.disturbed_run import Cause, judge_run

_TRAINING, _FORWARD = WORDS["forward_backward"], WORDS["forward"]
_PASSES = (_TRAINING, _FORWARD)
"""Training first, because it has the error of the gradients as well."""
_NAMED = 3
"""So many names a notice lists."""
_SHIPPED_IN = "harness.attentions."
"""The package whose attentions come with the harness."""


def operation_data(evidence: Evidence) -> OperationData | None:
    """The data of the attention alone; None where no run has such a case."""
    groups = by_facets(evidence.rows, "operation")
    if not groups:
        return None
    builder = _Builder(evidence)
    settings: list[Setting] = []
    lines: list[SeriesLine] = []
    for facets, rows in groups.items():
        tie = kernel_tie(rows, dict(facets)["Pass"])
        settings += builder.settings(facets, rows, tie)
        lines += series_lines(facets, rows, tie)
    kinds = _kinds(builder.errors, settings)
    start = _start(settings, kinds)
    with_errors = {setting.length for setting in settings for row in setting.rows if _is_approximation(row)}
    present = {setting.pass_ for setting in settings}
    return OperationData(
        facets=_choices(groups),
        passes=[pass_ for pass_ in _PASSES if pass_ in present],
        lengths=[
            LengthChoice(length, format_length(length), length in with_errors)
            for length in sorted({setting.length for setting in settings})
        ],
        inputs=sorted(kinds, key=lambda kind: kind != start.inputs),
        yours=_yours(evidence),
        rule=RULE,
        settings=[_with_winners(setting, kinds or [""]) for setting in settings],
        lines=lines,
        start=start,
    )


def _with_winners(setting: Setting, kinds: Sequence[str]) -> Setting:
    """The setting with its winners on each kind of inputs, which are known only when all settings are."""
    best = {kind: best_methods(setting.rows, setting.reference, setting.tie, kind) for kind in kinds}
    return replace(setting, best=best)


class _Builder:
    """Makes the settings without their winners; it holds what is looked up for every row."""

    def __init__(self, evidence: Evidence) -> None:
        self.errors = SettingErrors(evidence.rows)
        self._runs = evidence.runs
        self._causes = [found.causes if (found := judge_run(run)) else () for run in evidence.runs]
        self._scores = _scores(evidence.rows)
        self._budgets = {
            row.record.spec.attention: row.record.quality.budget for row in evidence.rows if row.record.quality
        }
        self._defaults = {
            (row.run, row.record.spec.attention, row.seq_len): dict(row.record.knobs)
            for row in evidence.rows
            if row.kind == "operation" and not row.record.spec.knobs and row.record.knobs
        }

    def settings(self, facets: Facets, rows: Sequence[ReportRow], tie: Tie | None) -> list[Setting]:
        """The settings of rows with equal facets, one for each length."""
        words = dict(facets)
        pass_ = words.pop("Pass")
        by_length: dict[int, list[ReportRow]] = {length: [] for length in sequence_lengths(rows)}
        for row in rows:
            by_length[row.seq_len].append(row)
        return [self._setting(words, pass_, length, group, tie) for length, group in by_length.items()]

    def _setting(
        self, facets: dict[str, str], pass_: str, length: int, rows: Sequence[ReportRow], tie: Tie | None
    ) -> Setting:
        timed = _one_a_series(rows)
        reference = reference_row(timed)
        twins = reference_twins(timed, reference)
        methods = [self._method(row, reference, tie, twins) for row in timed]
        return Setting(
            facets=facets,
            pass_=pass_,
            length=length,
            length_words=format_length(length),
            reference=None if reference is None else reference.series,
            tie=tie,
            floor=next((method for method in methods if method.attention == NO_ATTENTION), None),
            notices=tuple(_notices(timed, self._causes[timed[0].run] if timed else ())),
            rows=tuple(
                sorted(
                    (method for method in methods if method.attention != NO_ATTENTION),
                    key=lambda method: (method.time.value, method.series),
                )
            ),
            best={},
            without_result=tuple(_without_result(rows, {row.series for row in timed})),
        )

    def _method(
        self, row: ReportRow, reference: ReportRow | None, tie: Tie | None, twins: Sequence[ReportRow]
    ) -> MethodRow:
        record, time = row.record, row.time
        assert time is not None
        relative = relative_time(row, reference, tie, twins)
        knobs = {**record.spec.knobs, **record.knobs}
        budget = budget_knob(knobs, self._budgets.get(record.spec.attention))
        knob = _knob_of(row, knobs, budget)
        place = (row.run, record.spec.attention, row.seq_len)
        return MethodRow(
            series=row.series,
            attention=record.spec.attention,
            knob=knob.words,
            knob_amounts=knob.amounts,
            budget=None if budget is None else _budget(budget, knobs),
            is_default=not record.spec.knobs or self._defaults.get(place) == record.knobs,
            exact_softmax=row.exact,
            time=Amount.of_estimate(time, "s"),
            samples=time.samples,
            interval_scope=None if time.low is None else interval_scope([row]),
            disturbance=row.disturbance,
            ratio=relative.ratio,
            comparison=relative.words,
            order=relative.order,
            tied_because=relative.tied_because,
            memory=None if row.peak_bytes is None else Amount(row.peak_bytes, "B"),
            errors=self.errors.of(row),
            score=self._score(row, budget),
            checks=(sum(check.passed for check in record.checks), len(record.checks)),
            kernel=record.kernel,
            knobs=tuple((name, str(value)) for name, value in sorted(knobs.items())),
            case_id=row.case_id,
            command=case_command(self._runs[row.run], record),
        )

    def _score(self, row: ReportRow, budget: str | None) -> Score | None:
        """The score of the models that were trained with the attention and the same budget."""
        value = None if budget is None else row.record.knobs.get(budget)
        for trained, score in self._scores.get((row.run, row.record.spec.attention), []):
            if budget is None or trained.knobs.get(budget, value) == value:
                return score
        return None


def _knob_of(row: ReportRow, knobs: Mapping[str, Scalar], budget: str | None) -> Sentence:
    """The cost knob in words, with the other knobs that tell the series apart: "32 hashes, norm floor 0.1"."""
    own = row.series.removeprefix(row.base_series).removeprefix(" (").removesuffix(")")
    values = dict(part.split("=", 1) for part in own.split(", ") if "=" in part)
    cost = cost_knob(knobs, budget)
    named = [cost, *(name for name in values if name != cost)] if cost is not None else list(values)
    words = [knob_words(name, knobs) if name in knobs else f"{name} {values[name]}" for name in named]
    values_named = (knobs.get(name) for name in named)
    numbers = [value for value in values_named if isinstance(value, int | float) and not isinstance(value, bool)]
    amounts = [Amount(value, "count" if isinstance(value, int) else "number") for value in numbers]
    return Sentence(", ".join(words), tuple(amounts))


def _budget(name: str, knobs: Mapping[str, Scalar]) -> Budget:
    return Budget(name, knob_words(name, knobs), float(knobs[name]))


def _one_a_series(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """The timed row of each series."""
    chosen: dict[str, ReportRow] = {}
    for row in undisturbed_first(rows):
        chosen.setdefault(row.series, row)
    return list(chosen.values())


def _without_result(rows: Sequence[ReportRow], timed: set[str]) -> list[WithoutResult]:
    """The series without a time, one entry for each reason, that of most series first."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        if row.series not in timed:
            reason = "; ".join(row.record.reasons) or "it has a result, but no time was taken"
            groups.setdefault((STATUS_WORDS[row.status], reason), {})[row.series] = row.record.spec.attention
    return [
        WithoutResult(", ".join(sorted(names)), ", ".join(sorted(set(names.values()))), status, reason)
        for (status, reason), names in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _notices(rows: Sequence[ReportRow], causes: Sequence[Cause]) -> list[Sentence]:
    """What a reader must know before trusting a time of a setting; ``causes`` are those of the whole run."""
    notices = []
    disturbed = sorted(row.series for row in rows if row.disturbance is not None)
    if disturbed:
        notices.append(
            compose(
                "Other processes disturbed {} of {}, which {} in no comparison: {}.",
                Amount(len(disturbed), "count"), counted(len(rows), "{} time", "{} times"),
                "is" if len(disturbed) == 1 else "are", _few(disturbed),
            )
        )  # fmt: skip
    for cause in causes:
        meanwhile = {id(record) for record in cause.records}
        taken = sorted(row.series for row in rows if id(row.record) in meanwhile)
        if taken and cause.kind != "samples":  # which the first notice names
            template = "The run was disturbed while {} of {} taken ({}): {}."
            counts = Amount(len(taken), "count"), counted(len(rows), "{} time was", "{} times were")
            notices.append(compose(template, *counts, _few(taken), cause.words))
    once = sorted(row.series for row in rows if row.time is not None and row.time.samples < 2)
    if once:
        notices.append(join(["Timed only once, and so without an interval: ", _few(once), "."], ""))
    return notices


def _few(names: Sequence[str]) -> Sentence:
    """The first names of a list, and how many others it has."""
    others = len(names) - _NAMED
    listed = ", ".join(names[:_NAMED])
    return compose("{} and {} more", listed, Amount(others, "count")) if others > 0 else Sentence(listed)


def _scores(rows: Sequence[ReportRow]) -> dict[tuple[int, str], list[tuple[Record, Score]]]:
    """The scores by run and attention, of the task and length that most attentions of the run were trained on."""
    models = trained_models(rows)
    attentions: dict[tuple[int, str, int], set[str]] = {}
    for model in models:
        attentions.setdefault(_task_of(model.row), set()).add(model.row.record.spec.attention)
    best: dict[int, tuple[int, str, int]] = {}
    for place in sorted(attentions, key=lambda place: (len(attentions[place]), place[2], place[1])):
        best[place[0]] = place
    scores: dict[tuple[int, str], list[tuple[Record, Score]]] = {}
    for model in models:
        run, task, length = _task_of(model.row)
        if best[run] == (run, task, length):
            mean = mean_score(model.task.scores, model.task.metric)
            score = Score(f"{task} at {format_length(length)} tokens", mean)
            scores.setdefault((run, model.row.record.spec.attention), []).append((model.row.record, score))
    return scores


def _task_of(row: ReportRow) -> tuple[int, str, int]:
    return row.run, dict(row.facets)["Task"], row.seq_len


def _choices(groups: Mapping[Facets, Sequence[ReportRow]]) -> dict[str, list[str]]:
    """The facets of the bar without the pass, each with its values in the order of the settings."""
    choices: dict[str, list[str]] = {}
    for facets in groups:
        for name, value in facets:
            if name != "Pass" and value not in choices.setdefault(name, []):
                choices[name].append(value)
    return choices


def _is_approximation(row: MethodRow) -> bool:
    """Whether an error of the row was measured that is not of rounding only."""
    return any(error.measured and not error.rounding for error in row.errors.values())


def _kinds(errors: SettingErrors, settings: Sequence[Setting]) -> list[str]:
    """The kinds of inputs; that of the timed calls where only the verification knows an error."""
    has_rounding = any(row.errors for setting in settings for row in setting.rows)
    return errors.inputs or ([AS_TIMED] if has_rounding else [])


def _start(settings: Sequence[Setting], kinds: Sequence[str]) -> Start:
    """The longest length at which at least two methods have a time and an error and one of them approximates,
    training where there is one; with fewer errors, the longest length with most of this.

    A length at which less than half of the methods were timed is passed over: few are timed at the longest ones, and
    most readers ask about the others."""
    first = settings[0].facets
    of_first = [setting for setting in settings if setting.facets == first]
    for has_enough in (_has_measured_errors, _has_errors, _has_times, lambda setting, kind: True):
        for pass_ in _PASSES:
            places = [
                (setting, kind)
                for setting in of_first
                if setting.pass_ == pass_
                for kind in kinds or [""]
                if has_enough(setting, kind)
            ]
            if places:
                most = max(len(setting.rows) for setting, _ in places)
                places = [place for place in places if 2 * len(place[0].rows) >= most]
                setting, kind = min(places, key=lambda place: (-place[0].length, *_by_methods(*place)))
                return Start(setting.facets, setting.pass_, setting.length, kind)
    raise AssertionError("every setting has one of the two passes")


def _by_methods(setting: Setting, kind: str) -> tuple[object, ...]:
    """Orders kinds of inputs at one setting: that with most measured errors first."""
    measured = sum(kind in row.errors and row.errors[kind].measured for row in setting.rows)
    return (-measured, *(preference(kind) if kind else ()))


def _has_measured_errors(setting: Setting, kind: str) -> bool:
    errors = [row.errors[kind] for row in setting.rows if kind in row.errors]
    return len(errors) > 1 and any(error.measured and not error.rounding for error in errors)


def _has_errors(setting: Setting, kind: str) -> bool:
    return sum(kind in row.errors for row in setting.rows) > 1


def _has_times(setting: Setting, kind: str) -> bool:
    return bool(setting.rows)


def _yours(evidence: Evidence) -> str | None:
    """The only attention that the runs' commands name, or one that does not come with the harness; of several, the one
    with most times."""
    timed: dict[str, int] = {}
    for row in evidence.rows:
        if row.kind == "operation":
            name = row.record.spec.attention
            timed[name] = timed.get(name, 0) + (row.time is not None)
    asked_for = set().union(*(attentions_asked_for(run) for run in evidence.runs))
    if len(asked_for) == 1 and asked_for <= set(timed):
        return asked_for.pop()
    shipped = {entry.name for entry in entry_points(group=ATTENTIONS) if entry.value.startswith(_SHIPPED_IN)}
    others = sorted(set(timed) - shipped, key=lambda name: (-timed[name], name))
    return others[0] if shipped and others else None
