"""The plots of the report, in order: a panel shows one question, a view of it one combination of facets."""

from dataclasses import dataclass

import pandas as pd

from harness.reporting import plots
from harness.reporting.frame import Facets, each, views
from harness.reporting.plots import Figure, Styles
from harness.reporting.tables import STATUS_WORDS


@dataclass(frozen=True)
class Plot:
    """One figure with its heading, which also is what a screen reader says, and remarks on what it cannot show."""

    title: str
    figure: Figure
    remarks: list[str]


@dataclass(frozen=True)
class View:
    """The plots at one combination of facets."""

    facets: dict[str, str]
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
        """The facets in which views differ, each with its values in order of appearance."""
        values: dict[str, list[str]] = {}
        for view in self.views:
            for name, value in view.facets.items():
                if value not in values.setdefault(name, []):
                    values[name].append(value)
        return {name: found for name, found in values.items() if len(found) > 1}

    @property
    def common(self) -> str:
        """The facets in which every view agrees, in words."""
        return ", ".join(value for name, value in self.views[0].facets.items() if name not in self.choices)


def panels(table: pd.DataFrame, styles: Styles) -> list[Panel]:
    """Every panel that has something to show."""
    speed = "Lines are medians of a call, bars their bootstrap interval. Lower is better."
    found = [
        _panel(
            "operation",
            "The attention alone",
            speed + " Marks in the strip above a plot are cases without a result; the reason is in the mark's text.",
            [_speed_view(facets, rows, styles) for facets, rows in views(table, "operation").items()],
        ),
        _panel(
            "model",
            "A whole model",
            speed + " The same encoder with each attention inside, and the models of transformers beside it.",
            [_speed_view(facets, rows, styles) for facets, rows in views(table, "model").items()],
        ),
        _panel(
            "quality",
            "Error against number of hashes",
            "How far an approximation is from what it estimates: relative Frobenius error, median over draws. "
            "The band reaches from the best draw to the worst.",
            [view for facets, rows in views(table, "quality").items() for view in _error_views(facets, rows, styles)],
        ),
        _panel(
            "task",
            "Accuracy after training",
            "One dot a training seed, a bar at their mean. A score counts only above the dashed lines: "
            "chance, and always naming the most frequent class.",
            [_accuracy_view(facets, rows, styles) for facets, rows in views(table, "task").items()],
        ),
    ]
    return [panel for panel in found if panel.views]


def _panel(id_: str, title: str, lead: str, shown: list[View]) -> Panel:
    traces = [trace for view in shown for plot in view.plots for trace in plot.figure["data"]]
    return Panel(id_, title, lead, shown, sorted({trace["meta"]["series"] for trace in traces}))


def _speed_view(facets: Facets, rows: pd.DataFrame, styles: Styles) -> View:
    absent = _absent(rows)
    zero = sorted(rows.loc[rows["peak_bytes"] == 0, "case_id"])
    clocks = " and ".join(sorted(set(rows["clock"].dropna())))
    time = Plot(f"Time a call against length ({clocks} time)" if clocks else "Time a call against length",
                plots.time_figure(rows, styles), absent)  # fmt: skip
    no_memory = int((rows["status"] == "ok").sum() - rows["peak_bytes"].notna().sum())
    remarks = [f"A peak of 0 bytes has no place on a log axis: {', '.join(zero)}."] if zero else []
    if no_memory:
        remarks.append(f"Cases with a result but no memory measurement: {no_memory:,}.")
    return View(dict(facets), [time, Plot("Peak memory against length", plots.memory_figure(rows, styles), remarks)])


def _absent(rows: pd.DataFrame) -> list[str]:
    """What is not in the strip of failures, because it is unsupported at every length of this view."""
    ran = set(rows.loc[rows["status"] != "unsupported", "series"])
    names = sorted(set(rows["series"]) - ran)
    return [f"Unsupported at every length (reasons below): {', '.join(names)}."] if names else []


def _error_views(facets: Facets, rows: pd.DataFrame, styles: Styles) -> list[View]:
    measured = [row for row in each(rows) if row.status == "ok" and row.record.quality]
    found = []
    for what in dict.fromkeys(name for row in measured for name in row.record.quality.errors):
        drawn = plots.hashed(rows, what)
        references = sorted({row.record.quality.reference for row in measured if row.series in drawn})
        flat = [
            f"{row.series} is not drawn: {plots.error_words(row.record.quality.errors[what])} "
            f"against {row.record.quality.reference}."
            for row in measured
            if row.series not in drawn and row.record.quality.errors.get(what)
        ]
        against = f" against {', '.join(references)}" if references else ""
        title = f"Relative error of {_WHAT.get(what, what)}{against}"
        plot = Plot(title, plots.error_figure(rows, styles, what), flat + _failed(rows))
        found.append(View({"Error of": _WHAT.get(what, what), **dict(facets)}, [plot]))
    return found


def _accuracy_view(facets: Facets, rows: pd.DataFrame, styles: Styles) -> View:
    title = f"Held-out accuracy, {dict(facets)['Task']}"
    return View(dict(facets), [Plot(title, plots.accuracy_figure(rows, styles), _failed(rows))])


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
