"""How large is the error? Errors of approximations: matched with the times of the same settings, against their budget,
and split into bias and sampling error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from harness.core.matched_errors import MatchedErrors
from harness.core.quantities import number_words, share_words
from harness.core.record import Quality, Record
from harness.core.spec import QualitySpec
from harness.report.model.amounts import LEVEL_WORDS, Amount, Sentence, compose, counted, join
from harness.report.model.facets import Facets, describe_inputs, explain_inputs
from harness.report.model.figures import (
    Figure,
    Styles,
    Trace,
    band_trace,
    escape_text,
    figure,
    hover_text,
    length_axis,
    line_trace,
    log_axis,
)
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
    sequence_lengths,
)
from harness.report.model.tables import Cell, Table, table_with_facets
from harness.statistics.intervals import LEVEL

_AXIS_MARGIN = 1.15
"""The factor between the outermost errors and the ends of their axis."""
TENSOR_WORDS = {
    "output": "output",
    "grad_q": "gradient of q",
    "grad_k": "gradient of k",
    "grad_v": "gradient of v",
}
"""What an error may be of."""


@dataclass(frozen=True)
class OutputErrors:
    """The errors that belong to a timed case, one per draw."""

    errors: list[float]
    reference: str

    @property
    def median(self) -> float:
        """Over the draws."""
        return float(np.median(self.errors))


class ErrorIndex:
    """The errors of the output at timed settings on each kind of inputs, of attentions that may be ranked by them.

    An attention that is compared with its own definition, and that no other attention estimates, has no approximation
    error: rounding would rank it, and even no attention at all, above everything that estimates something.

    Attributes:
        inputs: the kinds of inputs that some error was measured on, in the words of the facet ``Inputs``.
    """

    def __init__(self, rows: Sequence[ReportRow]) -> None:
        self._by_run = matched_by_run(rows)
        self.inputs = sorted(
            {
                dict(row.facets)["Inputs"]
                for row, quality in with_quality(rows)
                if quality.errors.get("output") and self._is_ranked(row)
            }
        )

    def of(self, row: ReportRow, inputs: str) -> OutputErrors | None:
        """The errors at the setting of ``row`` on one kind of inputs; None where they were not measured."""
        if not self._is_ranked(row):
            return None
        for measured in self._by_run[row.run].records_for(row.record).values():
            is_of_kind = isinstance(measured.spec, QualitySpec) and describe_inputs(measured.spec) == inputs
            if is_of_kind and measured.quality is not None:
                return OutputErrors(measured.quality.errors["output"], measured.quality.reference)
        return None

    def _is_ranked(self, row: ReportRow) -> bool:
        return not self._by_run[row.run].has_no_approximation_error(row.record)


def matched_by_run(rows: Sequence[ReportRow]) -> dict[int, MatchedErrors]:
    """The errors at the timed settings of each run, by the run's index."""
    records: dict[int, list[Record]] = {}
    for row in rows:
        records.setdefault(row.run, []).append(row.record)
    return {run: MatchedErrors(of_run) for run, of_run in records.items()}


def with_quality(rows: Sequence[ReportRow]) -> list[tuple[ReportRow, Quality]]:
    """The rows whose errors were measured, with these errors."""
    return [(row, row.record.quality) for row in rows if row.is_ok and row.record.quality]


def errors_by_budget(rows: Sequence[ReportRow], tensor: str) -> dict[str, dict[int, list[float]]]:
    """Errors of ``tensor`` by budget (number of hashes, features or landmarks), ascending, by series.

    Rows without a budget are left out.
    """
    by_budget: dict[str, dict[int, list[float]]] = {}
    for row, quality in with_quality(rows):
        budget = budget_of(row.record)
        errors = quality.errors.get(tensor)
        if errors and budget is not None:
            by_budget.setdefault(row.series, {})[budget] = errors
    return {series: dict(sorted(line.items())) for series, line in sorted(by_budget.items())}


def budget_of(record: Record) -> int | None:
    """The value of the knob that buys accuracy, as it was used; None where the attention has no such knob."""
    knob = record.quality.budget if record.quality else None
    value = None if knob is None else (record.knobs | dict(record.spec.knobs)).get(knob)
    return value if isinstance(value, int) else None


def sentences(rows: Sequence[ReportRow]) -> list[Sentence]:
    """The error of YOSO sampling with the fewest and the most hashes, in the setting with the most results: one
    sentence for each kind of inputs."""
    for setting in by_facets(rows, "quality", without="Inputs").values():
        by_inputs = {dict(facets)["Inputs"]: group for facets, group in by_facets(setting, "quality").items()}
        of_setting = [line for inputs, group in sorted(by_inputs.items()) for line in _sentence_on(inputs, group)]
        if of_setting:
            return of_setting
    return []


def _sentence_on(inputs: str, rows: list[ReportRow]) -> list[Sentence]:
    sampled = [row for row in rows if row.base_series == YOSO_SAMPLING and row.is_ok]
    by_budget = errors_by_budget(sampled, "output")
    if not by_budget:
        return []
    row, quality = with_quality(sampled)[0]
    parts = []
    for series, line in by_budget.items():
        errors = [
            compose(
                "{} with {}", Amount(float(np.median(line[count])), "fraction"), counted(count, "{} hash", "{} hashes")
            )
            for count in dict.fromkeys((min(line), max(line)))
        ]
        parts.append(compose("{} {}", series, join(errors, " and ")))
    template = "Relative error of the output against {}, at {} tokens, on inputs that are {}: {}."
    return [compose(template, quality.reference, Amount(row.seq_len, "tokens"), inputs, join(parts, "; "))]


def error_plots(rows: Sequence[ReportRow], styles: Styles, errors: ErrorIndex, inputs: Sequence[str]) -> list[Plot]:
    """The error against length: one plot for each kind in ``inputs``, or an empty plot where there is none."""
    return [
        Plot(
            numbered_id("error", nth), f"Error of the output against length{inputs_suffix(kind)}",
            error_figure(rows, styles, errors, kind), _zero_remarks(rows, errors, kind),
            "No approximation error above 0 was measured at the lengths and settings that were timed.",
        )
        for nth, kind in enumerate(inputs or [""])
    ]  # fmt: skip


def _zero_remarks(rows: Sequence[ReportRow], errors: ErrorIndex, inputs: str) -> list[Sentence]:
    """Measured errors of exactly 0, which a log axis does not have."""
    zero = [
        compose("{} at {} tokens", row.series, Amount(row.seq_len, "tokens"))
        for row in rows
        if row.is_ok and (matched := errors.of(row, inputs)) is not None and matched.median == 0
    ]
    words = "An error of exactly {} cannot be drawn on a log axis: {}."
    return [compose(words, Amount(0, "count"), join(zero))] if zero else []


def error_figure(rows: Sequence[ReportRow], styles: Styles, errors: ErrorIndex, inputs: str) -> Figure:
    """Median relative error of the output against length, at the settings that were timed, on one kind of inputs.

    The band reaches from the best draw to the worst.
    """
    data: list[Trace] = []
    values: list[float] = []
    all_lengths: list[int] = []
    for series, cases in by_series(row for row in rows if row.is_ok).items():
        matches = [
            (row, matched) for row in cases if (matched := errors.of(row, inputs)) is not None and matched.median > 0
        ]
        if not matches:
            continue
        lengths = [row.seq_len for row, _ in matches]
        texts = [
            hover_text(
                row,
                f"error {share_words(matched.median)} against {escape_text(matched.reference)}"
                f"<br>{len(matched.errors)} draws",
            )
            for row, matched in matches
        ]
        low, high = ([pick(matched.errors) for _, matched in matches] for pick in (min, max))
        data.append(band_trace(series, styles, lengths, low, high, lengths))
        data.append(line_trace(series, styles, lengths, [matched.median for _, matched in matches], texts, lengths))
        values += low + high
        all_lengths += lengths
    axis = log_axis("relative error", values, number_words, 10)
    return figure(data, xaxis=length_axis(all_lengths), yaxis=axis)


def inputs_suffix(inputs: str) -> str:
    """What a title adds for the kind of inputs that its errors are of; empty where there are none."""
    return f"; inputs: {inputs}" if inputs else ""


def section(evidence: Evidence) -> Section:
    """Error against budget, and its split into bias and sampling error."""
    specs = [row.record.spec for row in evidence.rows]
    kinds = explain_inputs(spec.inputs for spec in specs if isinstance(spec, QualitySpec))
    return build_section(
        "budget", "Error against budget", budget_finding(evidence.rows),
        "How far an approximation is from what it estimates: the relative Frobenius error, median over draws; the band "
        "reaches from the best draw to the worst. The budget is the number of hashes, features or landmarks. "
        f"{kinds} The table separates the bias, which all draws share, from the sampling error, which differs between "
        "draws: an interval that starts at 0 shows no bias. YOSO scales its outputs to length 1: this alone biases a "
        "noisy sum, and the bias fades with more hashes.",
        [bias_and_sampling(evidence.rows)], budget_panel(evidence.rows, evidence.styles),
    )  # fmt: skip


def budget_finding(rows: Sequence[ReportRow]) -> Sentence | None:
    """How the error of YOSO sampling, or of the first estimate with a budget, falls with the budget: in the setting
    with the most results."""
    for facets, group in by_facets(rows, "quality").items():
        by_budget = {series: line for series, line in errors_by_budget(group, "output").items() if len(line) > 1}
        if not by_budget:
            continue
        series = min(by_budget, key=lambda name: (name.split(" (")[0] != YOSO_SAMPLING, name))
        line = by_budget[series]
        first, last = (
            compose("{} with a budget of {}", Amount(float(np.median(line[count])), "fraction"), Amount(count, "count"))
            for count in (min(line), max(line))
        )
        return compose(
            "The error of {} is {} and {}, at {} tokens, on inputs that are {}.",
            series, first, last, Amount(group[0].seq_len, "tokens"), dict(facets)["Inputs"],
        )  # fmt: skip
    return counted(
        len(with_quality(rows)),
        "Errors were measured in {} case.",
        "Errors were measured in {} cases, of which no two differ in the budget only.",
    )


def budget_panel(rows: Sequence[ReportRow], styles: Styles) -> Panel:
    """Error against the budget: one plot for each kind of inputs, next to one another."""
    settings = by_facets(rows, "quality", without="Inputs")
    return build_panel(
        "hashes", [view for facets, group in settings.items() for view in _budget_views(facets, group, styles)]
    )


def _budget_views(facets: Facets, rows: list[ReportRow], styles: Styles) -> list[FacetView]:
    by_inputs = {dict(its_facets)["Inputs"]: group for its_facets, group in by_facets(rows, "quality").items()}
    views = []
    for tensor in dict.fromkeys(name for _, quality in with_quality(rows) for name in quality.errors):
        scale = [error for group in by_inputs.values() for error in _drawn_errors(group, tensor)]
        plots = [
            _budget_plot(numbered_id("hashes", nth), tensor, inputs, by_inputs[inputs], scale, styles)
            for nth, inputs in enumerate(sorted(by_inputs))
        ]
        views.append(FacetView({"Error of": _the(tensor), **dict(facets)}, sequence_lengths(rows), plots))
    return views


def _budget_plot(
    id_: str, tensor: str, inputs: str, rows: list[ReportRow], scale: Sequence[float], styles: Styles
) -> Plot:
    drawn = errors_by_budget(rows, tensor)
    references = sorted({quality.reference for row, quality in with_quality(rows) if row.series in drawn})
    against = f" against {', '.join(references)}" if references else ""
    title = f"Relative error of {_the(tensor)}{against}{inputs_suffix(inputs)}"
    remarks = _remarks_without_budget(rows, tensor, set(drawn)) + failure_remarks(rows)
    figure_ = budget_figure(rows, styles, tensor, scale)
    return Plot(id_, title, figure_, remarks, f"No error of {_the(tensor)} of an attention with a budget.")


def _the(tensor: str) -> str:
    return f"the {TENSOR_WORDS[tensor]}" if tensor in TENSOR_WORDS else tensor


def budget_figure(rows: Sequence[ReportRow], styles: Styles, tensor: str, scale: Sequence[float]) -> Figure:
    """Median relative error of ``tensor`` against the budget, with a band from the best draw to the worst.

    ``scale`` are more errors that the axis must include, so that neighbouring figures have one scale.
    """
    by_budget = errors_by_budget(rows, tensor)
    length = {row.series: row.seq_len for row in rows}
    data: list[Trace] = []
    for series, line in by_budget.items():
        budgets = list(line)
        low, high = [min(errors) for errors in line.values()], [max(errors) for errors in line.values()]
        texts = [
            f"<b>{escape_text(series)}</b><br>budget {budget}: {number_words(float(np.median(errors)))}"
            f"<br>from {number_words(min(errors))} to {number_words(max(errors))} over {len(errors)} draws"
            for budget, errors in line.items()
        ]
        lengths = [length[series]] * len(budgets)
        medians = [float(np.median(errors)) for errors in line.values()]
        data.append(band_trace(series, styles, budgets, low, high, lengths))
        data.append(line_trace(series, styles, budgets, medians, texts, lengths))
    values = [*_drawn_errors(rows, tensor), *scale]
    ticks = sorted({budget for line in by_budget.values() for budget in line})
    axis = {
        "title": {"text": "budget: hashes, features or landmarks"}, "type": "log", "tickvals": ticks,
        "ticktext": [f"{budget:,}" for budget in ticks],
    }  # fmt: skip
    error_axis = log_axis("relative error", values, number_words, 10)
    if values and min(values) > 0:
        error_axis["range"] = [math.log10(min(values) / _AXIS_MARGIN), math.log10(max(values) * _AXIS_MARGIN)]
    return figure(data, xaxis=axis, yaxis=error_axis)


def _drawn_errors(rows: Sequence[ReportRow], tensor: str) -> list[float]:
    """Every error of ``tensor`` that a budget figure draws."""
    return [error for line in errors_by_budget(rows, tensor).values() for errors in line.values() for error in errors]


def _remarks_without_budget(rows: Sequence[ReportRow], tensor: str, drawn: set[str]) -> list[Sentence]:
    """Why an error of ``tensor`` is not a point of a plot against the budget."""
    return [
        compose(
            "{} is not drawn: it has no budget; error {} against {}.",
            row.series,
            Amount(float(np.median(errors)), "number"),
            quality.reference,
        )
        for row, quality in with_quality(rows)
        if row.series not in drawn and (errors := quality.errors.get(tensor))
    ]


def bias_and_sampling(rows: Sequence[ReportRow]) -> Table:
    """The error of the output by budget, split into the bias that all draws share and the spread of the draws."""
    cells: list[tuple[Facets, list[Cell]]] = []
    for facets, group in by_facets(rows, "quality").items():
        for series, line in errors_by_budget(group, "output").items():
            biases = _squared_biases(group, series)
            cells += [
                (
                    facets,
                    [series, Amount(budget, "count"), *_split(biases[budget], errors), Amount(len(errors), "count")],
                )
                for budget, errors in line.items()
                if budget in biases
            ]
    columns = ["Attention", "Budget", f"Bias [{LEVEL_WORDS}]", "Sampling error", "Draws"]
    return table_with_facets("Bias and sampling error of the output", columns, cells)


def _squared_biases(rows: Sequence[ReportRow], series: str) -> dict[int, list[float]]:
    """The squared bias of each draw, by budget; records of older versions have none and are left out."""
    by_budget = {}
    for row, quality in with_quality(rows):
        biases, budget = quality.squared_bias.get("output"), budget_of(row.record)
        if row.series == series and biases and budget is not None:
            by_budget[budget] = biases
    return by_budget


def _split(biases: list[float], errors: list[float]) -> tuple[Amount, Amount]:
    """The relative bias with its interval, and the root mean square of the rest of the errors.

    The value of one draw enters those of all others, so the standard error of the mean is twice that of independent
    values. Without a bias this is too wide, and it is never too narrow.
    """
    draws = len(biases)
    mean = float(np.mean(biases))
    half = 2 * float(t.ppf((1 + LEVEL) / 2, draws - 1)) * float(np.std(biases, ddof=1)) / math.sqrt(draws)
    root = [math.sqrt(max(square, 0.0)) for square in (mean, mean - half, mean + half)]
    spread = math.sqrt(max(float(np.mean(np.square(errors))) - mean, 0.0))
    return Amount(root[0], "fraction", root[1], root[2]), Amount(spread, "fraction")


SECTIONS = {40: section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
