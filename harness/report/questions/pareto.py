"""Which attention is best for two costs at once? Pareto fronts: the attentions that no other attention beats in both
costs, at one length. The line of a plot joins measured values; a sentence also names those that are only not clearly
beaten, because an interval overlaps. Times that other processes disturbed are in neither."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np

from harness.core.quantities import bytes_words, number_words, seconds_words, share_words
from harness.report.model.amounts import Amount, Formatter, Sentence, compose, join
from harness.report.model.figures import (
    REFERENCE_COLOR,
    Figure,
    Styles,
    Trace,
    escape_text,
    figure,
    log_axis,
    marker_trace,
)
from harness.report.model.page_data import Tie
from harness.report.model.page_parts import Evidence, FacetView, Plot, Section, build_panel, build_section, numbered_id
from harness.report.model.records_table import (
    NO_ATTENTION,
    ReportRow,
    by_facets,
    per_instance_suffix,
    sequence_lengths,
)
from harness.report.questions.approximation_error import ErrorIndex
from harness.report.questions.reference_times import kernel_tie
from harness.report.questions.setting_errors import SettingErrors, error_cell, largest_error
from harness.report.questions.trained_scores import TrainedModel, mean_score, metric_words, trained_models
from harness.statistics.intervals import Estimate, between_processes

Better = Literal["lower", "higher"]
Interval = tuple[float, float]
_NAMED = 5
"""So many attentions a finding names."""


@dataclass(frozen=True)
class ParetoPoint:
    """One attention at one length. ``x`` is a cost; ``y`` is a cost or a score; ``words`` describe both.

    The intervals are None where a value is exact, as a number of bytes is.
    """

    series: str
    seq_len: int
    x: float
    y: float
    words: str
    x_interval: Interval | None = None
    y_interval: Interval | None = None


@dataclass(frozen=True)
class ParetoCandidates:
    """The points among which the Pareto front is searched, at every length, and what the axes are.

    Attributes:
        x_title, x_words: of a time or a size in bytes; lower is better.
        y_better: which values of ``y`` are better.
        tie: the difference in time below which two points are tied.
        disturbed: how many times are left out because other processes disturbed them.
    """

    points: list[ParetoPoint]
    y_title: str
    y_words: Formatter
    y_better: Better
    x_title: str = "time"
    x_words: Formatter = seconds_words
    tie: Tie | None = None
    disturbed: int = 0

    @property
    def costs(self) -> str:
        """The names of both axes."""
        return f"{self.x_title} and {self.y_title}"

    def longest_length(self) -> int | None:
        """The longest length with two points or more, or with one point if no length has more; None without points."""
        counts = Counter(point.seq_len for point in self.points)
        several = [length for length, count in counts.items() if count > 1]
        return max(several or counts, default=None)

    @property
    def has_choice(self) -> bool:
        """Whether some length has two points or more."""
        lengths = [point.seq_len for point in self.points]
        return len(lengths) > len(set(lengths))


def section(evidence: Evidence) -> Section:
    """Pareto fronts of time and memory, and of the cost of a training and its score. The page's chart has that of time
    and error."""
    rows, styles = evidence.rows, evidence.styles
    errors = SettingErrors(rows)
    levels = [
        *(("the attention alone", facets, group, [time_and_memory(group, errors)])
          for facets, group in by_facets(rows, "operation").items()),
        *(("whole models", facets, group, [time_and_memory(group)])
          for facets, group in by_facets(rows, "model").items()),
        *(("trained tasks", facets, group, [training_time_and_score(group), training_memory_and_score(group)])
          for facets, group in by_facets(rows, "task", without="Length").items()),
    ]  # fmt: skip
    views = []
    for level, facets, group, all_candidates in levels:
        several = [candidates for candidates in all_candidates if candidates.has_choice]
        if several:
            plots = [pareto_plot(each, styles, numbered_id("front", nth)) for nth, each in enumerate(several)]
            views.append(FacetView({"Level": level, **dict(facets)}, sequence_lengths(group), plots))
    return build_section(
        "fronts", "Two costs at once", _finding(rows, errors),
        "The attentions that no other one beats in both costs: time and memory, or the cost of a training and its "
        "score. The line joins measured values; attentions beside it may not be clearly beaten, because intervals "
        "overlap. Errors inside whole models were not measured.",
        [], build_panel("fronts", views),
    )  # fmt: skip


def _finding(rows: Sequence[ReportRow], errors: SettingErrors) -> Sentence | None:
    """What is not clearly beaten in time and memory at the longest length of the setting with the most results."""
    for level in ("operation", "model"):
        for facets, group in by_facets(rows, level).items():
            candidates = time_and_memory(group)
            longest = candidates.longest_length()
            if longest is None or not candidates.has_choice:
                continue
            best = unbeaten(candidates, longest)
            where = Amount(longest, "tokens"), dict(facets)["Pass"]
            if level == "model":
                names = _some_of([Sentence(each.series) for each in best])
                template = "Not clearly beaten in time and memory at {} tokens, {}: whole models with {}, whose errors "
                return compose(template + "inside were not measured.", *where, names)
            rows_of = {each.series: [row for row in group if row.series == each.series] for each in best}
            parts = [compose("{} (error {})", name, largest_error(own, errors)) for name, own in rows_of.items()]
            return compose("Not clearly beaten in time and memory at {} tokens, {}: {}.", *where, _some_of(parts))
    for facets, group in by_facets(rows, "task").items():
        candidates = training_time_and_score(group)
        longest = candidates.longest_length()
        if longest is not None and candidates.has_choice:
            parts = [compose("{} ({})", each.series, _score(each)) for each in unbeaten(candidates, longest)]
            template = "Not clearly beaten in time of a training and score, {}: {}."
            return compose(template, dict(facets)["Task"], _some_of(parts))
    return None


def _some_of(parts: Sequence[Sentence]) -> Sentence:
    """The first of the parts, and how many others there are."""
    others = len(parts) - _NAMED
    listed = join(parts[:_NAMED])
    return compose("{} and {} more", listed, Amount(others, "count")) if others > 0 else listed


def _score(point: ParetoPoint) -> Amount:
    low, high = point.y_interval or (-inf, inf)
    return Amount(point.y, "fraction", low, high) if high < inf else Amount(point.y, "fraction")


def time_and_error(rows: Sequence[ReportRow], errors: ErrorIndex, inputs: str) -> ParetoCandidates:
    """Time and error on one kind of inputs; without points where no error was measured."""
    points = []
    for row in _undisturbed(rows):
        matched = errors.of(row, inputs) if row.time is not None else None
        if row.time is not None and matched is not None and matched.median > 0:
            words = f"{seconds_words(row.time.value)}, error {share_words(matched.median)}"
            words += f" against {matched.reference}"
            points.append(
                ParetoPoint(row.series, row.seq_len, row.time.value, matched.median, words, _interval(row.time))
            )
    disturbed = sum(row.disturbance is not None and errors.of(row, inputs) is not None for row in rows)
    return ParetoCandidates(points, "relative error", number_words, "lower", disturbed=disturbed)


def time_and_memory(rows: Sequence[ReportRow], errors: SettingErrors | None = None) -> ParetoCandidates:
    """Time and peak memory of attentions, without the model or the call that has none; the words have the error."""
    measured = [
        (row, row.time, row.peak_bytes)
        for row in rows
        if row.time is not None and row.peak_bytes and row.base_series != NO_ATTENTION
    ]
    disturbed = sum(row.disturbance is not None for row, *_ in measured)
    points = []
    for row, time, peak in measured:
        if row.disturbance is not None:
            continue
        words = f"{seconds_words(time.value)}, {bytes_words(peak)}"
        if errors is not None:
            words += f", error {error_cell(row, errors)}"
        points.append(ParetoPoint(row.series, row.seq_len, time.value, peak, words, _interval(time)))
    suffix = per_instance_suffix(rows)
    tie = kernel_tie(rows, dict(rows[0].facets)["Pass"]) if rows else None
    return ParetoCandidates(
        points, f"peak memory{suffix}", bytes_words, "lower", f"time{suffix}", tie=tie, disturbed=disturbed
    )


def _undisturbed(rows: Sequence[ReportRow]) -> list[ReportRow]:
    return [row for row in rows if row.disturbance is None]


def _interval(time: Estimate) -> Interval:
    """The interval of a time; of one sample nothing is known."""
    return (0.0, inf) if time.low is None or time.high is None else (time.low, time.high)


def training_time_and_score(rows: Sequence[ReportRow]) -> ParetoCandidates:
    """Median training time and mean score."""
    timed = [
        (model, float(np.median(seconds))) for model in trained_models(rows) if (seconds := model.task.train_seconds)
    ]
    return _with_score(timed, "time of a training", seconds_words)


def training_memory_and_score(rows: Sequence[ReportRow]) -> ParetoCandidates:
    """Peak memory of one forward and backward pass of a batch, and mean score."""
    measured = [(model, peak) for model in trained_models(rows) if (peak := model.row.peak_bytes)]
    return _with_score(measured, "peak memory of a training pass", bytes_words)


def _with_score(costs: Sequence[tuple[TrainedModel, float]], title: str, words: Formatter) -> ParetoCandidates:
    metric = metric_words([model for model, _ in costs]) if costs else "score"
    points = [
        ParetoPoint(
            model.row.series, model.row.seq_len, cost, model.mean,
            f"{title} {words(cost)}, mean {metric} {share_words(model.mean)}",
            _interval_of_training(model) if words is seconds_words else None, _interval_of_score(model),
        )
        for model, cost in costs
    ]  # fmt: skip
    return ParetoCandidates(points, f"held-out {metric}", share_words, "higher", title, words)


def _interval_of_training(model: TrainedModel) -> Interval:
    """The interval of the time of a training over seeds; of one seed nothing is known."""
    seconds = model.task.train_seconds
    if len(seconds) < 2 or min(seconds) <= 0:
        return 0.0, inf
    return _interval(between_processes(seconds, np.random.default_rng(0)))


def _interval_of_score(model: TrainedModel) -> Interval:
    """The interval of the mean score over seeds; of one seed nothing is known."""
    mean = mean_score(model.task.scores, model.task.metric)
    return (-inf, inf) if mean.low is None or mean.high is None else (mean.low, mean.high)


def unbeaten(candidates: ParetoCandidates, length: int) -> list[ParetoPoint]:
    """The points of one length that no other point clearly beats, sorted by ``x``.

    A point beats another where it is better in one value and no worse in the other. Values with intervals that overlap
    have no order, and neither have times that are nearer than those of two names of one kernel.
    """
    points = [point for point in candidates.points if point.seq_len == length]
    kept = [point for point in points if not any(_beats(other, point, candidates) for other in points)]
    return sorted(kept, key=lambda point: (point.x, point.y))


def _beats(one: ParetoPoint, other: ParetoPoint, candidates: ParetoCandidates) -> bool:
    tied = candidates.tie is not None and max(one.x / other.x, other.x / one.x) <= candidates.tie.factor.value
    in_x = None if tied else _is_lower(one.x, one.x_interval, other.x, other.x_interval)
    in_y = _is_lower(one.y, one.y_interval, other.y, other.y_interval)
    if candidates.y_better == "higher":
        in_y = _is_lower(other.y, other.y_interval, one.y, one.y_interval)
    return in_x is not None and in_y is not None and (in_x or in_y)


def _is_lower(one: float, interval: Interval | None, other: float, other_interval: Interval | None) -> bool | None:
    """Whether the first value is lower: False for equal ones, None where it is higher or the order is not clear."""
    if interval is None or other_interval is None:
        return None if one > other else one < other
    return True if interval[1] < other_interval[0] else None


def pareto_front(points: Sequence[ParetoPoint], better: Better) -> list[ParetoPoint]:
    """The points that no other point beats, sorted by ``x``."""
    sign = 1 if better == "lower" else -1
    front: list[ParetoPoint] = []
    for point in sorted(points, key=lambda point: (point.x, sign * point.y)):
        if not front or sign * point.y < sign * front[-1].y:
            front.append(point)
    return front


def pareto_plot(candidates: ParetoCandidates, styles: Styles, id_: str = "front", title_suffix: str = "") -> Plot:
    """The plot of all candidates, through which the page draws the front."""
    title = f"Pareto front: {candidates.costs}{title_suffix}"
    remarks, empty = [], f"No case has both {candidates.costs}."
    if candidates.disturbed:
        count = Amount(candidates.disturbed, "count")
        remarks.append(compose("Left out, because other processes disturbed the time: {}.", count))
        empty = f"No case has both {candidates.costs} without a disturbance by other processes."
    return Plot(id_, title, pareto_figure(candidates, styles), remarks, empty)


def pareto_figure(candidates: ParetoCandidates, styles: Styles) -> Figure:
    """Every point of every length; the page shows one length and draws the front through the visible points.

    ``layout.meta`` controls this: ``front`` says which values of y are better, ``length`` is the first length to show,
    and ``axes`` are those of each length.
    """
    by_series: dict[str, list[ParetoPoint]] = {}
    for point in candidates.points:
        by_series.setdefault(point.series, []).append(point)
    data = [
        marker_trace(
            series, styles, [point.x for point in points], [point.y for point in points],
            [f"<b>{escape_text(series)}</b>, n = {point.seq_len:,}<br>{escape_text(point.words)}" for point in points],
            [point.seq_len for point in points],
        )
        for series, points in sorted(by_series.items())
    ]  # fmt: skip
    axes = {
        str(length): _axes(candidates, [point for point in candidates.points if point.seq_len == length])
        for length in sorted({point.seq_len for point in candidates.points})
    }
    meta = {"front": candidates.y_better, "length": candidates.longest_length(), "axes": axes}
    return figure(data, **_axes(candidates, candidates.points), meta=meta)


def _axes(candidates: ParetoCandidates, points: Sequence[ParetoPoint]) -> dict[str, Any]:
    """The axes for these points, with at least two ticks each."""
    x_values, y_values = [point.x for point in points], [point.y for point in points]
    y_axis = {"title": {"text": candidates.y_title}, "tickformat": ".0%"}
    if candidates.y_better == "lower":
        y_axis = log_axis(candidates.y_title, y_values, candidates.y_words, _log_base(candidates.y_words))
    x_axis = log_axis(candidates.x_title, x_values, candidates.x_words, _log_base(candidates.x_words))
    return {"xaxis": x_axis, "yaxis": y_axis}


def _log_base(words: Formatter) -> int:
    return 2 if words is bytes_words else 10


def traces_at_length(data: list[Trace], length: int, better: Better) -> list[Trace]:
    """The traces of ``pareto_figure`` at one length, with the front drawn through them, for a still picture."""
    kept_traces: list[Trace] = []
    for trace in data:
        kept = [i for i, n in enumerate(trace["customdata"]) if n == length]
        if kept:
            columns = {name: [trace[name][i] for i in kept] for name in ("x", "y", "customdata", "hovertext")}
            kept_traces.append(trace | columns)
    points = [
        ParetoPoint("", length, x, y, "") for trace in kept_traces for x, y in zip(trace["x"], trace["y"], strict=True)
    ]
    front = pareto_front(points, better)
    line = {
        "type": "scatter", "mode": "lines", "meta": {"series": None}, "x": [point.x for point in front],
        "y": [point.y for point in front], "line": {"color": REFERENCE_COLOR, "dash": "dot", "width": 1.5},
    }  # fmt: skip
    return [line, *kept_traces]


SECTIONS = {86: section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
