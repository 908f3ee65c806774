"""How do the attentions compare at a glance? One panel per level (the attention alone, a whole model, a trained task),
each with time, memory, accuracy and a Pareto front."""

from collections.abc import Sequence

from harness.report.model.facets import Facets
from harness.report.model.figures import Styles
from harness.report.model.page_parts import (
    Evidence,
    FacetView,
    Panel,
    Plot,
    build_panel,
    failure_remarks,
    numbered_id,
)
from harness.report.model.records_table import ReportRow, by_facets, per_instance_suffix, sequence_lengths
from harness.report.questions import pareto, trained_scores
from harness.report.questions.approximation_error import ErrorIndex, error_plots, inputs_suffix
from harness.report.questions.memory_use import memory_figure, memory_plot
from harness.report.questions.speed import time_plot
from harness.report.questions.whole_models import share_plot

_TIMING_LEAD = "Lines are medians per call, bands are their intervals, marks above a plot are cases without a result."


def level_panels(evidence: Evidence) -> list[Panel]:
    """The panels of the first screen, one per level that has cases."""
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
    empty = trained_scores.NO_SCORE
    metric = trained_scores.metric_words(trained_scores.trained_models(rows)).capitalize()
    by_length = trained_scores.score_by_length_figure(rows, styles)
    training_time = trained_scores.training_time_figure(rows, styles)
    plots = [
        Plot("score", f"{metric} against length", by_length, failure_remarks(rows), empty),
        Plot("training", "Time of a training against length", training_time, [], empty),
    ]
    pareto_plots = [pareto.pareto_plot(pareto.training_time_and_score(rows), styles)]
    if any(row.peak_bytes is not None for row in rows):
        title = "Peak memory of a training pass against length"
        plots.append(Plot("memory", title, memory_figure(rows, styles), [], empty))
        pareto_plots.append(pareto.pareto_plot(pareto.training_memory_and_score(rows), styles, "front-memory"))
    return FacetView(dict(facets), sequence_lengths(rows), [*plots, *pareto_plots])
