"""The plots of the expert sections: one panel a section, a view of it one combination of facets."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.core.record import Run
from harness.report.model.figures import Styles
from harness.report.model.records_table import Facets, each, labels, views
from harness.report.questions import accuracy_plots, budgets, difference, plots, remarks, scores, swaps
from harness.report.questions.errors import by_budget
from harness.report.questions.panels import Panel, Plot, View, lengths_of, nth_id, on, panel
from harness.report.questions.roofline import roofline_figure

_WHAT = {
    "output": "the output",
    "grad_q": "the gradient of q",
    "grad_k": "the gradient of k",
    "grad_v": "the gradient of v",
}


def budget_panel(table: pd.DataFrame, styles: Styles) -> Panel:
    """Error against the budget: a plot for each kind of inputs, beside one another."""
    settings = views(table, "quality", without="Inputs")
    found = [view for facets, rows in settings.items() for view in _error_views(facets, rows, styles)]
    return panel("hashes", "", "", found)


def seeds_panel(table: pd.DataFrame, styles: Styles) -> Panel:
    """Every seed's score, beside the baselines, and the score against the number of hashes trained with."""
    found = []
    for facets, rows in views(table, "task").items():
        about = f"Held-out {scores.metric(scores.scored(rows))}, {dict(facets)['Task']}"
        seeds = accuracy_plots.seeds_figure(rows, styles)
        shown = [Plot("seeds", f"{about}, a dot a seed", seeds, remarks.failed(rows), "No training gave a score.")]
        by_hashes = accuracy_plots.score_by_hashes(rows, styles)
        if len(by_hashes["layout"]["xaxis"]["tickvals"]) > 1:
            title = f"{about}, trained with ever more hashes"
            shown.append(Plot("score-by-hashes", title, by_hashes, [], "No attention with hashes was trained."))
        found.append(View(dict(facets), lengths_of(rows), shown))
    return panel("seeds", "", "", found)


def swaps_panel(table: pd.DataFrame, styles: Styles) -> Panel:
    """The score of each trained model against the number of hashes that it is evaluated with."""
    found = []
    for facets, rows in views(table, "task").items():
        for row in swaps.swapped(rows):
            if any(len(its) > 1 for its in swaps.over_hashes(row).values()):
                about = f"Held-out {scores.metric([row])}, {dict(facets)['Task']}, trained in {row.series}"
                drawing = swaps.hashes_figure(row, styles)
                plot = Plot("swaps", f"{about}, evaluated with others", drawing, [], "No swap gave a score.")
                found.append(View({"Trained in": row.series, **dict(facets)}, [row.seq_len], [plot]))
    return panel("swaps", "", "", found)


def roofline_panel(table: pd.DataFrame, runs: Sequence[Run], styles: Styles) -> Panel:
    """Operations under the measured ceilings of their device."""
    found = []
    for facets, rows in views(table, "operation").items():
        drawn = roofline_figure(rows, runs[each(rows)[0].run].ceilings, styles)
        if drawn is not None:
            plot = Plot("roofline", "Speed against work a byte, under the measured ceilings", drawn, [], "Not counted.")
            found.append(View(dict(facets), lengths_of(rows), [plot]))
    return panel("roofline", "", "", found)


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
    return panel("difference", "", "", found)


def _error_views(facets: Facets, rows: pd.DataFrame, styles: Styles) -> list[View]:
    kinds = {dict(its)["Inputs"]: its_rows for its, its_rows in views(rows, "quality").items()}
    found = []
    for what in dict.fromkeys(name for row in _measured(rows) for name in row.record.quality.errors):
        reach = [error for its in kinds.values() for error in budgets.drawn_errors(its, what)]
        shown = [
            _error_plot(nth_id("hashes", nth), what, inputs, kinds[inputs], reach, styles)
            for nth, inputs in enumerate(sorted(kinds))
        ]
        found.append(View({"Error of": _WHAT.get(what, what), **dict(facets)}, lengths_of(rows), shown))
    return found


def _error_plot(id_: str, what: str, inputs: str, rows: pd.DataFrame, reach: Sequence[float], styles: Styles) -> Plot:
    drawn = by_budget(rows, what)
    references = sorted({row.record.quality.reference for row in _measured(rows) if row.series in drawn})
    against = f" against {', '.join(references)}" if references else ""
    title = f"Relative error of {_WHAT.get(what, what)}{against}{on(inputs)}"
    said = remarks.without_budget(rows, what, set(drawn)) + remarks.failed(rows)
    drawing = budgets.budget_figure(rows, styles, what, reach)
    return Plot(id_, title, drawing, said, "No attention with a budget was measured.")


def _measured(rows: pd.DataFrame) -> list[Any]:
    return [row for row in each(rows) if row.status == "ok" and row.record.quality]
