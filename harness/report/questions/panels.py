"""The plots of the first screen: a panel shows one question, a view of it one combination of facets."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.report.model.figures import Figure, Styles
from harness.report.model.records_table import Facets, each, of_instance, views
from harness.report.model.sentence import Sentence
from harness.report.questions import accuracy_plots, pareto_fronts, plots, remarks, scores
from harness.report.questions.errors import Errors

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
    remarks: list[Sentence]
    empty: str

    def said(self) -> dict[str, Any]:
        """The remarks as JSON holds them."""
        return {"plot": self.title, "remarks": [remark.plain() for remark in self.remarks]}


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
        panel(
            "operation", "The attention alone", lines,
            [_operation(facets, rows, styles, errors) for facets, rows in views(table, "operation").items()],
        ),
        panel(
            "model", "A whole model",
            lines + " The same encoder with each attention, and models of transformers."
            + (shared if of_instance(table) else ""),
            [_model(facets, rows, styles) for facets, rows in views(table, "model").items()],
        ),
        panel(
            "task", "A trained task", "Means over training seeds. A score counts only above the baselines below.",
            [_task(facets, rows, styles) for facets, rows in views(table, "task", without="Length").items()],
        ),
    ]  # fmt: skip
    return [panel for panel in found if panel.views]


def panel(id_: str, title: str, lead: str, shown: list[View]) -> Panel:
    """A panel of these views, which knows what they draw."""
    traces = [trace for view in shown for plot in view.plots for trace in plot.figure["data"]]
    drawn = {trace["meta"]["series"] for trace in traces} - {None}
    return Panel(id_, title, lead, shown, sorted(drawn))


def _operation(facets: Facets, rows: pd.DataFrame, styles: Styles, errors: Errors) -> View:
    """Errors and fronts are of one kind of inputs each; without any error there is the front of time and memory."""
    joined = [inputs for inputs in errors.inputs if any(errors.of(row, inputs) for row in each(rows))]
    by_length = [
        Plot(
            nth_id("error", nth), f"Error of the output against length{on(inputs)}",
            plots.error_figure(rows, styles, errors, inputs), [],
            "No error was measured at the lengths and settings that were timed.",
        )
        for nth, inputs in enumerate(joined or [""])
    ]  # fmt: skip
    with_errors = [(inputs, pareto_fronts.error_front(rows, errors, inputs)) for inputs in joined]
    drawn = [(on(inputs), front) for inputs, front in with_errors if front.choices] or [
        ("", pareto_fronts.memory_front(rows))
    ]
    of_two = [_front(front, styles, nth_id("front", nth), about) for nth, (about, front) in enumerate(drawn)]
    return View(dict(facets), lengths_of(rows), [*_time_and_memory(rows, styles), *by_length, *of_two])


def on(inputs: str) -> str:
    """What a title adds for the kind of inputs that its errors are of; empty where there are none."""
    return f"; inputs: {inputs}" if inputs else ""


def nth_id(id_: str, nth: int) -> str:
    """The id of one of several plots of a view that ask the same, by place from 0; the first has it as it is."""
    return f"{id_}-{nth + 1}" if nth else id_


def _model(facets: Facets, rows: pd.DataFrame, styles: Styles) -> View:
    share = Plot(
        "share", "Attention's share of the model's time", plots.share_figure(rows, styles), [],
        "The share is time without attention against time with it: no model ran with the attention “none”.",
    )  # fmt: skip
    front = _front(pareto_fronts.memory_front(rows), styles)
    return View(dict(facets), lengths_of(rows), [*_time_and_memory(rows, styles), share, front])


def _task(facets: Facets, rows: pd.DataFrame, styles: Styles) -> View:
    empty = "No training gave a score."
    score = scores.metric(scores.scored(rows)).capitalize()
    failed, by_length = remarks.failed(rows), accuracy_plots.score_by_length(rows, styles)
    shown = [
        Plot("score", f"{score} against length", by_length, failed, empty),
        Plot("training", "Time of a training against length", accuracy_plots.training_time(rows, styles), [], empty),
    ]
    found = [_front(pareto_fronts.task_time_front(rows), styles)]
    if rows["peak_bytes"].notna().any():
        title = "Peak memory of a training pass against length"
        shown.append(Plot("memory", title, plots.memory_figure(rows, styles), [], empty))
        found.append(_front(pareto_fronts.task_memory_front(rows), styles, "front-memory"))
    return View(dict(facets), lengths_of(rows), [*shown, *found])


def _front(front: pareto_fronts.Front, styles: Styles, id_: str = "front", about: str = "") -> Plot:
    costs = f"{front.x_title} and {front.y_title}"
    figure = pareto_fronts.front_figure(front, styles)
    return Plot(id_, f"Pareto front: {costs}{about}", figure, [], f"No case has both {costs}.")


def _time_and_memory(rows: pd.DataFrame, styles: Styles) -> list[Plot]:
    clocks = " and ".join(sorted(set(rows["clock"].dropna())))
    its = of_instance(rows)
    title = f"Time{its or ' a call'} against length" + (f" ({clocks} time)" if clocks else "")
    time, memory = plots.time_figure(rows, styles), plots.memory_figure(rows, styles)
    said = remarks.of_memory(rows)
    return [
        Plot("time", title, time, remarks.of_time(rows), "No case was timed."),
        Plot("memory", f"Peak memory{its} against length", memory, said, "No memory was measured."),
    ]


def lengths_of(rows: pd.DataFrame) -> list[int]:
    """The sequence lengths of some cases, ascending."""
    return sorted({int(length) for length in rows["seq_len"]})
