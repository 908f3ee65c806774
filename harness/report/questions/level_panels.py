"""How do error, memory and score change with length? Plots over length: those that the page's charts do not show are in
a section of the page, and pictures have all of them, in one panel per level (the attention alone, a model, a task)."""

from collections.abc import Sequence

from harness.report.model.amounts import Amount, Sentence, compose
from harness.report.model.facets import Facets
from harness.report.model.figures import Styles
from harness.report.model.page_parts import (
    Evidence,
    FacetView,
    Panel,
    Plot,
    Section,
    build_panel,
    build_section,
    failure_remarks,
    numbered_id,
)
from harness.report.model.records_table import (
    YOSO_SAMPLING,
    ReportRow,
    by_facets,
    by_series,
    per_instance_suffix,
    sequence_lengths,
)
from harness.report.questions import pareto, trained_scores
from harness.report.questions.approximation_error import ErrorIndex, error_plots, inputs_suffix
from harness.report.questions.memory_use import memory_figure, memory_plot
from harness.report.questions.speed import time_plot
from harness.report.questions.whole_models import share_plot

_TIMING_LEAD = "Lines are medians per call, bands are their intervals, marks above a plot are cases without a result."


def section(evidence: Evidence) -> Section:
    """Errors of operations, memory and share of attention in models, and scores of tasks, each over length."""
    rows, styles = evidence.rows, evidence.styles
    errors = ErrorIndex(rows)
    views = []
    for facets, group in by_facets(rows, "operation").items():
        inputs = [kind for kind in errors.inputs if any(errors.of(row, kind) for row in group)]
        views.append(_view("the attention alone", facets, group, error_plots(group, styles, errors, inputs)))
    for facets, group in by_facets(rows, "model").items():
        plots = [memory_plot(group, styles), share_plot(group, styles)]
        views.append(_view("whole models", facets, group, plots))
    for facets, group in by_facets(rows, "task", without="Length").items():
        views.append(_view("trained tasks", facets, group, _plots_of_task(group, styles)))
    return build_section(
        "length", "Over the length", _finding(rows, errors),
        "The error of the output, the memory of whole models and the share of attention in their time, and scores of "
        "trained models, wherever they were measured at several lengths.",
        [], build_panel("over-length", [view for view in views if view is not None]),
    )  # fmt: skip


def _view(level: str, facets: Facets, rows: Sequence[ReportRow], plots: Sequence[Plot]) -> FacetView | None:
    """The plots that have points at several lengths."""
    kept = [plot for plot in plots if len({n for trace in plot.figure["data"] for n in trace["x"]}) > 1]
    return FacetView({"Level": level, **dict(facets)}, sequence_lengths(rows), kept) if kept else None


def _finding(rows: Sequence[ReportRow], errors: ErrorIndex) -> Sentence | None:
    """The error of YOSO sampling, or of the first other attention, at its shortest and at its longest length."""
    for facets, group in by_facets(rows, "operation").items():
        for inputs in errors.inputs:
            by_name = {
                series: found
                for series, cases in by_series(group).items()
                if len(found := {row.seq_len: matched.median for row in cases if (matched := errors.of(row, inputs))})
                > 1
            }
            if by_name:
                series = min(by_name, key=lambda name: (name.split(" (")[0] != YOSO_SAMPLING, name))
                first, last = (
                    compose("{} at {} tokens", Amount(by_name[series][n], "fraction"), Amount(n, "tokens"))
                    for n in (min(by_name[series]), max(by_name[series]))
                )
                template = "{}: the error of the output of {} is {} and {}, on inputs that are {}."
                return compose(template, dict(facets)["Pass"].capitalize(), series, first, last, inputs)
    lengths = sequence_lengths(rows)
    if not lengths:
        return None
    ends = Amount(lengths[0], "tokens"), Amount(lengths[-1], "tokens")
    if not any(row.is_ok for row in rows):
        return compose("No case from {} to {} tokens gave a result.", *ends)
    return compose("Cases from {} to {} tokens.", *ends)


def level_panels(evidence: Evidence) -> list[Panel]:
    """One panel per level that has cases, for pictures."""
    rows, styles = evidence.rows, evidence.styles
    errors = ErrorIndex(rows)
    model_lead = f"{_TIMING_LEAD} The models are one encoder with each attention, and models of transformers."
    if per_instance_suffix(rows):
        model_lead += " At the largest batch that fits, time and memory are those of a call divided by its batch."
    task_lead = "Means over training seeds. A score counts only above the baselines below."
    operations = by_facets(rows, "operation")
    models = by_facets(rows, "model")
    tasks = by_facets(rows, "task", without="Length")
    panels = [
        build_panel(
            "operation", [_operation_view(facets, group, styles, errors) for facets, group in operations.items()],
            "The attention alone", _TIMING_LEAD,
        ),
        build_panel(
            "model", [_model_view(facets, group, styles) for facets, group in models.items()], "Whole models",
            model_lead,
        ),
        build_panel(
            "task", [_task_view(facets, group, styles) for facets, group in tasks.items()], "Trained tasks", task_lead,
        ),
    ]  # fmt: skip
    return [panel for panel in panels if panel.views]


def _operation_view(facets: Facets, rows: list[ReportRow], styles: Styles, errors: ErrorIndex) -> FacetView:
    """Time, memory, and for each kind of inputs the error and the Pareto front of time and error.

    Without any error there is one Pareto front, of time and memory.
    """
    inputs = [kind for kind in errors.inputs if any(errors.of(row, kind) for row in rows)]
    with_error = [(inputs_suffix(kind), pareto.time_and_error(rows, errors, kind)) for kind in inputs]
    candidates = [(suffix, points) for suffix, points in with_error if points.points]
    pareto_plots = [
        pareto.pareto_plot(points, styles, numbered_id("front", nth), suffix)
        for nth, (suffix, points) in enumerate(candidates or [("", pareto.time_and_memory(rows))])
    ]
    plots = [time_plot(rows, styles), memory_plot(rows, styles), *error_plots(rows, styles, errors, inputs)]
    return FacetView(dict(facets), sequence_lengths(rows), [*plots, *pareto_plots])


def _model_view(facets: Facets, rows: list[ReportRow], styles: Styles) -> FacetView:
    front = pareto.pareto_plot(pareto.time_and_memory(rows), styles)
    plots = [time_plot(rows, styles), memory_plot(rows, styles), share_plot(rows, styles), front]
    return FacetView(dict(facets), sequence_lengths(rows), plots)


def _task_view(facets: Facets, rows: Sequence[ReportRow], styles: Styles) -> FacetView:
    pareto_plots = [pareto.pareto_plot(pareto.training_time_and_score(rows), styles)]
    if any(row.peak_bytes is not None for row in rows):
        pareto_plots.append(pareto.pareto_plot(pareto.training_memory_and_score(rows), styles, "front-memory"))
    return FacetView(dict(facets), sequence_lengths(rows), [*_plots_of_task(rows, styles), *pareto_plots])


def _plots_of_task(rows: Sequence[ReportRow], styles: Styles) -> list[Plot]:
    empty = trained_scores.NO_SCORE
    metric = trained_scores.metric_words(trained_scores.trained_models(rows)).capitalize()
    by_length = trained_scores.score_by_length_figure(rows, styles)
    training_time = trained_scores.training_time_figure(rows, styles)
    plots = [
        Plot("score", f"{metric} against length", by_length, failure_remarks(rows), empty),
        Plot("training", "Time of a training against length", training_time, [], _without_training_time(rows)),
    ]
    if any(row.peak_bytes is not None for row in rows):
        title = "Peak memory of a training pass against length"
        plots.append(Plot("memory", title, memory_figure(rows, styles), [], "No peak above 0 was measured."))
    return plots


def _without_training_time(rows: Sequence[ReportRow]) -> str:
    has_score = bool(trained_scores.trained_models(rows))
    return "No time of a training was recorded." if has_score else trained_scores.NO_SCORE


SECTIONS = {85: section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
