"""Which attention is best for two costs at once? Pareto fronts: the attentions that no other attention beats in both
costs, at one length."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
from harness.report.model.page_parts import Evidence, FacetView, Plot, Section, build_panel, build_section, numbered_id
from harness.report.model.records_table import (
    NO_ATTENTION,
    ReportRow,
    by_facets,
    per_instance_suffix,
    sequence_lengths,
)
from harness.report.questions.approximation_error import ErrorIndex
from harness.report.questions.setting_errors import SettingErrors, error_cell, largest_error
from harness.report.questions.trained_scores import TrainedModel, metric_words, trained_models

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class ParetoPoint:
    """One attention at one length. ``x`` is a cost; ``y`` is a cost or a score; ``words`` describe both."""

    series: str
    seq_len: int
    x: float
    y: float
    words: str


@dataclass(frozen=True)
class ParetoCandidates:
    """The points among which the Pareto front is searched, at every length, and what the axes are.

    ``x`` is a time or a size in bytes, lower is better; ``y_better`` says which values of ``y`` are better.
    """

    points: list[ParetoPoint]
    y_title: str
    y_words: Formatter
    y_better: Better
    x_title: str = "time"
    x_words: Formatter = seconds_words

    @property
    def costs(self) -> str:
        """The names of both axes."""
        return f"{self.x_title} and {self.y_title}"

    def longest_length(self) -> int | None:
        """The longest length with two points or more, or with one point if no length has more; None without points."""
        counts = Counter(point.seq_len for point in self.points)
        several = [length for length, count in counts.items() if count > 1]
        return max(several or counts, default=None)


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
        several = [candidates for candidates in all_candidates if len(candidates.points) > 1]
        if several:
            plots = [pareto_plot(each, styles, numbered_id("front", nth)) for nth, each in enumerate(several)]
            views.append(FacetView({"Level": level, **dict(facets)}, sequence_lengths(group), plots))
    return build_section(
        "fronts", "Two costs at once", _finding(rows, errors),
        "The attentions that no other one beats in both costs: time and memory, or the cost of a training and its "
        "score. Errors inside whole models were not measured.",
        [], build_panel("fronts", views),
    )  # fmt: skip


def _finding(rows: Sequence[ReportRow], errors: SettingErrors) -> Sentence | None:
    """The front of time and memory at the longest length of the setting with the most results."""
    for level in ("operation", "model"):
        for facets, group in by_facets(rows, level).items():
            candidates = time_and_memory(group)
            longest = candidates.longest_length()
            if longest is None:
                continue
            front = pareto_front([each for each in candidates.points if each.seq_len == longest], "lower")
            parts = [
                compose(
                    "{} (error {})",
                    each.series,
                    largest_error([row for row in group if row.series == each.series], errors),
                )
                for each in front
            ]
            where = Amount(longest, "tokens"), dict(facets)["Pass"]
            return compose("In time and memory at {} tokens, {}: {}.", *where, join(parts))
    for facets, group in by_facets(rows, "task").items():
        candidates = training_time_and_score(group)
        if candidates.points:
            front = pareto_front(candidates.points, "higher")
            parts = [compose("{} ({})", each.series, Amount(each.y, "fraction")) for each in front]
            return compose("In time of a training and score, {}: {}.", dict(facets)["Task"], join(parts))
    return None


def time_and_error(rows: Sequence[ReportRow], errors: ErrorIndex, inputs: str) -> ParetoCandidates:
    """Time and error on one kind of inputs; without points where no error was measured."""
    points = []
    for row in rows:
        matched = errors.of(row, inputs) if row.time is not None else None
        if row.time is not None and matched is not None and matched.median > 0:
            words = f"{seconds_words(row.time.value)}, error {share_words(matched.median)}"
            words += f" against {matched.reference}"
            points.append(ParetoPoint(row.series, row.seq_len, row.time.value, matched.median, words))
    return ParetoCandidates(points, "relative error", number_words, "lower")


def time_and_memory(rows: Sequence[ReportRow], errors: SettingErrors | None = None) -> ParetoCandidates:
    """Time and peak memory of attentions, without the model or the call that has none; the words have the error."""
    measured = [
        (row, row.time, row.peak_bytes)
        for row in rows
        if row.time is not None and row.peak_bytes and row.base_series != NO_ATTENTION
    ]
    points = []
    for row, time, peak in measured:
        words = f"{seconds_words(time.value)}, {bytes_words(peak)}"
        if errors is not None:
            words += f", error {error_cell(row, errors)}"
        points.append(ParetoPoint(row.series, row.seq_len, time.value, peak, words))
    suffix = per_instance_suffix(rows)
    return ParetoCandidates(points, f"peak memory{suffix}", bytes_words, "lower", f"time{suffix}")


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
        )
        for model, cost in costs
    ]  # fmt: skip
    return ParetoCandidates(points, f"held-out {metric}", share_words, "higher", title, words)


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
    return Plot(id_, title, pareto_figure(candidates, styles), [], f"No case has both {candidates.costs}.")


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
