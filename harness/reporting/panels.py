"""The plots of the report, in order: a panel shows one question, a view of it one combination of facets."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.record import Run
from harness.reporting import accuracy, budgets, difference, fronts, plots
from harness.reporting.errors import Errors, by_budget
from harness.reporting.figures import Figure, Styles
from harness.reporting.frame import STATUS_WORDS, Facets, each, labels, of_instance, views
from harness.reporting.roofline import roofline_figure

SHARED = ("Run", "Pass", "Type", "Device")
"""Facets that the page chooses once for all panels."""


@dataclass(frozen=True)
class Plot:
    """One figure with its heading, which also is what a screen reader says, and remarks on what it cannot show.

    ``empty`` says why there is nothing to draw, for where that is so.
    """

    id: str
    title: str
    figure: Figure
    remarks: list[str]
    empty: str


@dataclass(frozen=True)
class View:
    """The plots at one combination of facets, and the sequence lengths of its cases."""

    facets: dict[str, str]
    lengths: list[int]
    plots: list[Plot]


@dataclass(frozen=True)
class Panel:
    """Views of one question; the first is shown at first. ``series`` are the labels that any of them draws."""

    id: str
    title: str
    lead: str
    views: list[View]
    series: list[str]

    @property
    def choices(self) -> dict[str, list[str]]:
        """The facets of its own in which views differ, each with its values in order of appearance."""
        return {name: found for name, found in self._values().items() if len(found) > 1 and name not in SHARED}

    @property
    def common(self) -> str:
        """The facets in which every view agrees, in words."""
        return ", ".join(found[0] for name, found in self._values().items() if len(found) == 1)

    def _values(self) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        for view in self.views:
            for name, value in view.facets.items():
                if value not in values.setdefault(name, []):
                    values[name].append(value)
        return values


def levels(table: pd.DataFrame, styles: Styles) -> list[Panel]:
    """The panels of the first screen, one a level, each with time, memory, accuracy and a Pareto front."""
    errors = Errors(table)
    lines = "Lines are medians of a call, bands their bootstrap interval, marks above a plot cases without a result."
    shared = " At the largest batch that fits, time and memory are a call's divided by its batch."
    found = [
        _panel(
            "operation", "The attention alone", lines,
            [_operation(facets, rows, styles, errors) for facets, rows in views(table, "operation").items()],
        ),
        _panel(
            "model", "A whole model",
            lines + " The same encoder with each attention, and models of transformers."
            + (shared if of_instance(table) else ""),
            [_model(facets, rows, styles) for facets, rows in views(table, "model").items()],
        ),
        _panel(
            "task", "A trained task", "Means over training seeds. A score counts only above the baselines below.",
            [_task(facets, rows, styles) for facets, rows in views(table, "task", without="Length").items()],
        ),
    ]  # fmt: skip
    return [panel for panel in found if panel.views]


def budget_panel(table: pd.DataFrame, styles: Styles) -> Panel:
    """Error against the budget."""
    found = [view for facets, rows in views(table, "quality").items() for view in _error_views(facets, rows, styles)]
    return _panel("hashes", "", "", found)


def seeds_panel(table: pd.DataFrame, styles: Styles) -> Panel:
    """Every seed's score, beside the baselines, and the score against the number of hashes."""
    found = []
    for facets, rows in views(table, "task").items():
        task = dict(facets)["Task"]
        shown = [Plot("seeds", f"Held-out accuracy, {task}, a dot a seed", accuracy.seeds_figure(rows, styles),
                      _failed(rows), "No training gave a score.")]  # fmt: skip
        by_hashes = accuracy.score_by_hashes(rows, styles)
        if by_hashes["data"]:
            shown.append(Plot("score-by-hashes", f"Held-out accuracy, {task}, against the number of hashes", by_hashes,
                              [], "No attention with hashes was trained."))  # fmt: skip
        found.append(View(dict(facets), _lengths(rows), shown))
    return _panel("seeds", "", "", found)


def roofline_panel(table: pd.DataFrame, runs: Sequence[Run], styles: Styles) -> Panel:
    """Operations under the measured ceilings of their device."""
    found = []
    for facets, rows in views(table, "operation").items():
        drawn = roofline_figure(rows, runs[each(rows)[0].run].ceilings, styles)
        if drawn is not None:
            plot = Plot("roofline", "Speed against work a byte, under the measured ceilings", drawn, [], "Not counted.")
            found.append(View(dict(facets), _lengths(rows), [plot]))
    return _panel("roofline", "", "", found)


def difference_panel(table: pd.DataFrame, runs: Sequence[Run], styles: Styles) -> Panel:
    """Times of each later run over the first's."""
    found = []
    for after, label in list(enumerate(labels(runs)))[1:]:
        by_facets: dict[Facets, list[difference.Pair]] = {}
        for pair in difference.pairs(table, after):
            kept = tuple(one for one in pair.after.facets if one[0] not in {"Run", "Device"})
            by_facets.setdefault((("Level", pair.after.kind), *kept), []).append(pair)
        for facets, its in by_facets.items():
            if any(pair.ratio is not None for pair in its):
                plot = Plot("ratio", f"{label}: time as a multiple of the first run's", plots.ratio_figure(its, styles),
                            [], "No case was timed in both runs.")  # fmt: skip
                lengths = sorted({pair.after.seq_len for pair in its})
                found.append(View({"Compared": label, **dict(facets)}, lengths, [plot]))
    return _panel("difference", "", "", found)


def _panel(id_: str, title: str, lead: str, shown: list[View]) -> Panel:
    traces = [trace for view in shown for plot in view.plots for trace in plot.figure["data"]]
    drawn = {trace["meta"]["series"] for trace in traces} - {None}
    return Panel(id_, title, lead, shown, sorted(drawn))


def _operation(facets: Facets, rows: pd.DataFrame, styles: Styles, errors: Errors) -> View:
    front = fronts.operation_front(rows, errors)
    error = Plot(
        "error", "Error of the output against length", plots.error_figure(rows, styles, errors), [],
        "No error was measured at the lengths and settings that were timed.",
    )  # fmt: skip
    return View(dict(facets), _lengths(rows), [*_time_and_memory(rows, styles), error, _front(front, styles)])


def _model(facets: Facets, rows: pd.DataFrame, styles: Styles) -> View:
    share = Plot(
        "share", "Attention's share of the model's time", plots.share_figure(rows, styles), [],
        "The share is time without attention against time with it: no model ran with the attention “none”.",
    )  # fmt: skip
    front = _front(fronts.memory_front(rows), styles)
    return View(dict(facets), _lengths(rows), [*_time_and_memory(rows, styles), share, front])


def _task(facets: Facets, rows: pd.DataFrame, styles: Styles) -> View:
    empty = "No training gave a score."
    shown = [
        Plot("score", "Accuracy against length", accuracy.score_by_length(rows, styles), _failed(rows), empty),
        Plot("training", "Time of a training against length", accuracy.training_time(rows, styles), [], empty),
    ]
    if rows["peak_bytes"].notna().any():
        shown.append(Plot("memory", "Peak memory against length", plots.memory_figure(rows, styles), [], empty))
    return View(dict(facets), _lengths(rows), [*shown, _front(fronts.task_front(rows), styles)])


def _front(front: fronts.Front, styles: Styles) -> Plot:
    title = f"Pareto front: {front.x_title} and {front.y_title}"
    return Plot("front", title, fronts.front_figure(front, styles), [], "No case has both a time and the other cost.")


def _time_and_memory(rows: pd.DataFrame, styles: Styles) -> list[Plot]:
    zero = sorted(rows.loc[rows["peak_bytes"] == 0, "case_id"])
    clocks = " and ".join(sorted(set(rows["clock"].dropna())))
    no_memory = int((rows["status"] == "ok").sum() - rows["peak_bytes"].notna().sum())
    no_time = int((rows["status"] == "ok").sum() - rows["time"].notna().sum())
    remarks = [f"A peak of 0 bytes has no place on a log axis: {', '.join(zero)}."] if zero else []
    if no_memory:
        remarks.append(f"Cases with a result but no memory measurement: {no_memory:,}.")
    untimed = [f"Cases with a result but no time: {no_time:,}."] if no_time else []
    title = f"Time{of_instance(rows) or ' a call'} against length" + (f" ({clocks} time)" if clocks else "")
    return [
        Plot("time", title, plots.time_figure(rows, styles), _absent(rows) + untimed, "No case was timed."),
        Plot(
            "memory",
            f"Peak memory{of_instance(rows)} against length",
            plots.memory_figure(rows, styles),
            remarks,
            "No memory was measured.",
        ),
    ]


def _lengths(rows: pd.DataFrame) -> list[int]:
    return sorted({int(length) for length in rows["seq_len"]})


def _absent(rows: pd.DataFrame) -> list[str]:
    """What is not in the strip of failures, because it is unsupported at every length of this view."""
    ran = set(rows.loc[rows["status"] != "unsupported", "series"])
    names = sorted(set(rows["series"]) - ran)
    return [f"Unsupported at every length (reasons below): {', '.join(names)}."] if names else []


def _error_views(facets: Facets, rows: pd.DataFrame, styles: Styles) -> list[View]:
    measured = [row for row in each(rows) if row.status == "ok" and row.record.quality]
    found = []
    for what in dict.fromkeys(name for row in measured for name in row.record.quality.errors):
        drawn = by_budget(rows, what)
        references = sorted({row.record.quality.reference for row in measured if row.series in drawn})
        flat = [
            f"{row.series} is not drawn: {budgets.error_words(row.record.quality.errors[what])} "
            f"against {row.record.quality.reference}."
            for row in measured
            if row.series not in drawn and row.record.quality.errors.get(what)
        ]
        against = f" against {', '.join(references)}" if references else ""
        title = f"Relative error of {_WHAT.get(what, what)}{against}"
        plot = Plot("hashes", title, budgets.budget_figure(rows, styles, what), flat + _failed(rows),
                    "No attention with a budget was measured.")  # fmt: skip
        found.append(View({"Error of": _WHAT.get(what, what), **dict(facets)}, _lengths(rows), [plot]))
    return found


def _failed(rows: pd.DataFrame) -> list[str]:
    """Failures where a plot has no length axis to put them on."""
    names = sorted({f"{row.series} ({STATUS_WORDS[row.status]})" for row in each(rows) if row.status != "ok"})
    return [f"Without a result (reasons below): {', '.join(names)}."] if names else []


_WHAT = {
    "output": "the output",
    "grad_q": "the gradient of q",
    "grad_k": "the gradient of k",
    "grad_v": "the gradient of v",
}
