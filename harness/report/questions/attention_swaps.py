"""What does another attention do to a trained model? Scores of trained models that were evaluated with another
attention in place of the one they were trained with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.quantities import share_words
from harness.core.record import Swapped, TaskResult
from harness.report.model.amounts import ABSENT, LEVEL_WORDS, Amount, Sentence, compose, counted, join
from harness.report.model.facets import Facets
from harness.report.model.figures import (
    Figure,
    Styles,
    Trace,
    band_trace,
    escape_text,
    figure,
    line_trace,
)
from harness.report.model.page_parts import (
    Evidence,
    FacetView,
    Panel,
    Plot,
    Section,
    build_panel,
    build_section,
)
from harness.report.model.plain_rows import PlainRow
from harness.report.model.records_table import ReportRow, by_facets
from harness.report.model.tables import Cell, Table, table_with_facets
from harness.report.questions.trained_scores import (
    TrainedModel,
    TrainedRow,
    baseline_lines,
    by_task,
    hashes_axis,
    mean_score,
    median_seconds,
    metric_words,
    score_axis,
    score_change,
    scores_finding,
    trained_models,
    trained_rows,
    without_attention,
)
from harness.statistics import intervals

NEGLIGIBLE_LOSS = 1.0
"""In percentage points: a swap that loses at most this much, by its interval, keeps the score."""
FEWEST_SEEDS = 3
"""Two differences may agree by chance, which makes their interval too narrow: fewer seeds get no verdict in words."""
_AXIS_MARGIN = 1.3
"""The factor between the outermost numbers of hashes and the ends of the model's own line."""
_LEVEL = Amount(intervals.LEVEL, "fraction", text=LEVEL_WORDS)


@dataclass(frozen=True)
class SwapResult:
    """The scores of one trained model with one other attention.

    Attributes:
        series: the attention, with the knobs besides ``num_hash`` that tell apart two swaps of one model.
        num_hash: None where the attention has no hashes.
        score, change: None where the swap gave no finite scores; the change is in percentage points, paired by seed.
        seconds: the median time of an evaluation, None where it was not measured.
        swapped: the result as recorded.
    """

    series: str
    num_hash: int | None
    score: Amount | None
    change: Amount | None
    seconds: Amount | None
    swapped: Swapped


def swapped_models(rows: Sequence[ReportRow]) -> list[TrainedModel]:
    """The trained models that were also evaluated with another attention."""
    return [model for model in trained_models(rows) if model.task.evaluated_with]


def swap_results(model: TrainedModel) -> list[SwapResult]:
    """The swaps of one model, in the order of its record."""
    task = model.task
    return [
        _swap_result(swapped, series, task) for swapped, series in zip(task.evaluated_with, _series(task), strict=True)
    ]


def swap_series(rows: Sequence[ReportRow]) -> list[tuple[str, str]]:
    """The (series, base series) pairs of all swaps, which ``style.assign_styles`` needs besides those of the rows."""
    return [(swap.series, swap.swapped.attention) for model in swapped_models(rows) for swap in swap_results(model)]


def swaps_by_hashes(model: TrainedModel) -> dict[str, list[SwapResult]]:
    """The swaps with hashes and a score, by series, fewest hashes first."""
    by_series: dict[str, list[SwapResult]] = {}
    hashed = (swap for swap in swap_results(model) if swap.score and swap.num_hash)
    for swap in sorted(hashed, key=lambda swap: swap.num_hash or 0):
        by_series.setdefault(swap.series, []).append(swap)
    return by_series


@dataclass(frozen=True)
class SwapPoint:
    """The scores of one trained model with one number of hashes of another attention."""

    budget: Amount
    scores: list[Amount]
    mean: Amount

    def as_json(self) -> dict[str, Any]:
        """The point for the page's script."""
        scores = [score.as_json() for score in self.scores]
        return {"budget": self.budget.as_json(), "scores": scores, "mean": self.mean.as_json()}


@dataclass(frozen=True)
class SwapCurve:
    """A model trained with one attention and tested with another, over the budget of the second in ascending order."""

    trained_with: str
    tested_with: str
    budget: str
    points: list[SwapPoint]

    def as_json(self) -> dict[str, Any]:
        """The curve for the page's script."""
        return {
            "trainedWith": self.trained_with,
            "testedWith": self.tested_with,
            "budget": self.budget,
            "points": [point.as_json() for point in self.points],
        }


@dataclass(frozen=True)
class TrainedTask:
    """The models that were trained on one task at one length.

    ``chance`` is the best score without any attention to the text.
    """

    id: str
    facets: dict[str, str]
    heading: str
    finding: Sentence
    metric: str
    chance: Amount | None
    rows: list[TrainedRow]
    swaps: list[SwapCurve]

    def as_json(self) -> dict[str, Any]:
        """The task for the page's script."""
        return {
            "id": self.id,
            "facets": self.facets,
            "heading": self.heading,
            "finding": self.finding.as_json(),
            "metric": self.metric,
            "chance": self.chance.as_json() if self.chance else None,
            "rows": [row.as_json() for row in self.rows],
            "swaps": [curve.as_json() for curve in self.swaps],
        }


def trained_tasks(evidence: Evidence) -> list[TrainedTask]:
    """The tasks on which some model gave a score, the one with the most results first."""
    found: list[TrainedTask] = []
    for facets, group in by_facets(evidence.rows, "task").items():
        models = trained_models(group)
        if not models:
            continue
        curves = swap_curves(models)
        found.append(
            TrainedTask(
                f"trained-{len(found)}",
                dict(facets),
                f"Trained models: {dict(facets)['Task']}, {dict(facets)['Length']}",
                join([scores_finding(models), *(_curve_sentence(curve) for curve in curves)], " "),
                metric_words(models),
                without_attention(models),
                trained_rows(models),
                curves,
            )
        )
    return found


def swap_curves(models: Sequence[TrainedModel]) -> list[SwapCurve]:
    """The swaps of these models that have several numbers of hashes."""
    return [
        SwapCurve(
            model.row.series,
            series,
            "hashes",
            [
                SwapPoint(_hashes(swap), [Amount(score, "fraction") for score in swap.swapped.scores], swap.score)
                for swap in swaps
                if swap.score
            ],
        )
        for model in models
        for series, swaps in swaps_by_hashes(model).items()
        if len(swaps) > 1
    ]


def _curve_sentence(curve: SwapCurve) -> Sentence:
    first, last = (
        compose("{} with {}", Amount(point.mean.value, "fraction"), point.budget)
        for point in (curve.points[0], curve.points[-1])
    )
    names = curve.trained_with, curve.tested_with
    return compose("Trained with {} and tested with {}: {} and {} {}.", *names, first, last, curve.budget)


def _series(task: TaskResult) -> list[str]:
    """The series of each swap: its attention, with the knobs that differ between swaps with equally many hashes."""
    values: dict[tuple[str, object, str], set[object]] = {}
    for swapped in task.evaluated_with:
        for name, value in swapped.knobs.items():
            values.setdefault((swapped.attention, swapped.knobs.get("num_hash"), name), set()).add(value)
    differing = {(attention, name) for (attention, _, name), distinct in values.items() if len(distinct) > 1}
    series = []
    for swapped in task.evaluated_with:
        knobs = [f"{name}={value}" for name, value in sorted(swapped.knobs.items())
                 if (swapped.attention, name) in differing]  # fmt: skip
        series.append(f"{swapped.attention} ({', '.join(knobs)})" if knobs else swapped.attention)
    return series


def _swap_result(swapped: Swapped, series: str, task: TaskResult) -> SwapResult:
    hashes = swapped.knobs.get("num_hash")
    count = hashes if isinstance(hashes, int) and not isinstance(hashes, bool) and hashes > 0 else None
    if not swapped.scores:
        return SwapResult(series, count, None, None, None, swapped)
    score = mean_score(swapped.scores, task.metric)
    change = score_change(swapped.scores, task.scores, task.metric)
    return SwapResult(series, count, score, change, median_seconds(swapped.eval_seconds), swapped)


def sentences(rows: Sequence[ReportRow]) -> list[Sentence]:
    """What fewer hashes do to each model that was evaluated with several numbers of hashes."""
    return [
        _sentence(task, model, series, swaps)
        for task, group in by_task(rows)
        for model in swapped_models(group)
        for series, swaps in swaps_by_hashes(model).items()
        if len(swaps) > 1
    ]


def _sentence(task: str, model: TrainedModel, series: str, swaps: list[SwapResult]) -> Sentence:
    ends = [
        compose("{} at m = {}", Amount(swap.score.value, "fraction"), _hashes(swap))
        for swap in (swaps[0], swaps[-1])
        if swap.score
    ]
    return compose(
        "On {} at {} tokens the model trained with {} scores {}; evaluated with {} and m hashes instead, it scores {}: "
        "{}.",
        task, Amount(model.row.seq_len, "tokens"), model.row.series, Amount(model.mean, "fraction"), series,
        join(ends, " and "), _verdict(swaps),
    )  # fmt: skip


def _verdict(swaps: list[SwapResult]) -> Sentence:
    """For which numbers of hashes the loss is significant, negligible or inconclusive."""
    fewest = min(len(swap.swapped.scores) for swap in swaps)
    if fewest < FEWEST_SEEDS:
        return compose("{} too few to tell a change from noise", counted(fewest, "{} seed is", "{} seeds are"))
    losing = [swap for swap in swaps if swap.change and swap.change.high is not None and swap.change.high < 0]
    keeping: list[SwapResult] = []
    for swap in reversed(swaps):
        if swap.change is None or swap.change.low is None or swap.change.low < -NEGLIGIBLE_LOSS:
            break
        keeping.insert(0, swap)
    margin = Amount(NEGLIGIBLE_LOSS, "points", text="1 point")
    parts = [compose("the loss is significant at m = {}", join(map(_hashes, losing)))] if losing else []
    parts += [compose("from m = {} on it loses at most {}", _hashes(keeping[0]), margin)] if keeping else []
    inconclusive = [swap for swap in swaps if swap not in losing and swap not in keeping]
    parts += [compose("inconclusive at m = {}", join(map(_hashes, inconclusive)))] if inconclusive else []
    return compose("{} ({} intervals over {} seeds)", join(parts, "; "), _LEVEL, Amount(fewest, "count"))


def _hashes(swap: SwapResult) -> Amount:
    return Amount(swap.num_hash or 0, "count")


def section(evidence: Evidence) -> Section:
    """The score of each trained model with each other attention."""
    return build_section(
        "swapped", "Swapped attention", swaps_finding(evidence.rows),
        "The weights of each trained model, evaluated with another attention in place of its own, without any further "
        "training. The horizontal line is the model as it was trained; bands reach from the worst seed to the best. "
        f"Changes are paired by seed; the {LEVEL_WORDS} intervals are Student's t, which are wide with two seeds, and "
        "too narrow where two seeds agree by chance.",
        [swap_table(evidence.rows)], swaps_panel(evidence.rows, evidence.styles),
    )  # fmt: skip


def swaps_finding(rows: Sequence[ReportRow]) -> Sentence | None:
    """The first curve over the number of hashes, or how many swaps there are where no curve is."""
    models = swapped_models(rows)
    if not models:
        return None
    curves = swap_curves(models)
    number = sum(len(model.task.evaluated_with) for model in models)
    evaluations = counted(number, "{} evaluation", "{} evaluations")
    trained = counted(len(models), "{} trained model", "{} trained models")
    total = compose("{} of {} with another attention.", evaluations, trained)
    return join([*(_curve_sentence(curve) for curve in curves[:1]), total], " ")


def swaps_panel(rows: Sequence[ReportRow], styles: Styles) -> Panel:
    """The score of each trained model against the number of hashes that it is evaluated with."""
    views = []
    for facets, group in by_facets(rows, "task").items():
        for model in swapped_models(group):
            if any(len(swaps) > 1 for swaps in swaps_by_hashes(model).values()):
                series = model.row.series
                about = f"Held-out {metric_words([model])}, {dict(facets)['Task']}, trained with {series}"
                figure_ = swaps_figure(model, styles)
                plot = Plot("swaps", f"{about}, evaluated with others", figure_, [], "No swap gave a score.")
                views.append(FacetView({"Trained with": series, **dict(facets)}, [model.row.seq_len], [plot]))
    return build_panel("swaps", views)


def swaps_figure(model: TrainedModel, styles: Styles) -> Figure:
    """The mean score against the number of hashes, and the model's own score as a horizontal line.

    Bands reach from the worst seed to the best.
    """
    task, own_series, length = model.task, model.row.series, model.row.seq_len
    by_series = swaps_by_hashes(model)
    counts = sorted({swap.num_hash for swaps in by_series.values() for swap in swaps if swap.num_hash})
    ends = [counts[0] / _AXIS_MARGIN, counts[-1] * _AXIS_MARGIN] if counts else []
    own = mean_score(task.scores, task.metric)
    words = f"<b>{escape_text(own_series)}</b>, as it was trained<br>{own} over {len(task.scores)} seeds"
    lengths = [length] * len(ends)
    level = line_trace(own_series, styles, ends, [own.value] * len(ends), [words] * len(ends), lengths)
    worst, best = [min(task.scores)] * len(ends), [max(task.scores)] * len(ends)
    data: list[Trace] = [band_trace(own_series, styles, ends, worst, best, lengths), level | {"mode": "lines"}]
    for series, swaps in by_series.items():
        x, lengths = [swap.num_hash or 0 for swap in swaps], [length] * len(swaps)
        by_seed = [swap.swapped.scores for swap in swaps]
        data.append(band_trace(series, styles, x, list(map(min, by_seed)), list(map(max, by_seed)), lengths))
        y = [swap.score.value for swap in swaps if swap.score]
        data.append(line_trace(series, styles, x, y, [_hover_words(own_series, swap) for swap in swaps], lengths))
    shapes, annotations = baseline_lines([model], horizontal=True)
    return figure(
        data if counts else [], xaxis=hashes_axis(counts), yaxis=score_axis([model]), shapes=shapes,
        annotations=annotations,
    )  # fmt: skip


def _hover_words(own_series: str, swap: SwapResult) -> str:
    seeds = ", ".join(share_words(score) for score in swap.swapped.scores)
    change = f"<br>{swap.change} points from the model's own score" if swap.change else ""
    return (
        f"<b>{escape_text(swap.series)}</b> in place of {escape_text(own_series)}, m = {swap.num_hash}"
        f"<br>mean {swap.score}{change}<br>seeds: {seeds}"
    )


def swap_table(rows: Sequence[ReportRow]) -> Table:
    """Every trained model as it is and with each other attention; a swap that could not run has its reason."""
    cells: list[tuple[Facets, list[Cell]]] = []
    has_reasons = any(swapped.reason for model in swapped_models(rows) for swapped in model.task.evaluated_with)
    for facets, group in by_facets(rows, "task").items():
        for model in swapped_models(group):
            task, series = model.task, model.row.series
            own = [None, mean_score(task.scores, task.metric), None, Amount(len(task.scores), "count")]
            own_cells = _cells(series, f"{series}, as trained", [*own, median_seconds(task.eval_seconds)])
            cells.append((facets, [*own_cells, *([""] if has_reasons else [])]))
            for swap in swap_results(model):
                hashes = Amount(swap.num_hash, "count") if swap.num_hash else None
                amounts = [hashes, swap.score, swap.change, Amount(len(swap.swapped.scores), "count"), swap.seconds]
                reason = [swap.swapped.reason or ""] if has_reasons else []
                cells.append((facets, [*_cells(series, swap.series, amounts), *reason]))
    columns = [
        "Trained with", "Evaluated with", "Hashes", f"Score [{LEVEL_WORDS}]", f"Change in points [{LEVEL_WORDS}]",
        "Seeds", "Evaluation",
    ]  # fmt: skip
    return table_with_facets("", [*columns, *(["Why there is no score"] if has_reasons else [])], cells, "Shape")


def _cells(trained_with: str, evaluated_with: str, amounts: Sequence[Amount | None]) -> list[Cell]:
    return [trained_with, evaluated_with, *(amount or ABSENT for amount in amounts)]


def plain_swap_rows(rows: Sequence[ReportRow], run_labels: Sequence[str]) -> list[PlainRow]:
    """One row per swap as plain numbers in base units, for the CSV file; a value that does not exist is None."""
    plain_rows: list[PlainRow] = []
    for model in swapped_models(rows):
        for swap in swap_results(model):
            plain: PlainRow = {
                "run": run_labels[model.row.run],
                "case": model.row.case_id,
                "trained_with": model.row.series,
                "evaluated_with": swap.series,
                "num_hash": swap.num_hash,
                "metric": model.task.metric,
                "seeds": len(swap.swapped.scores),
                "reason": swap.swapped.reason,
            }
            for name, amount in (("score", swap.score), ("change_points", swap.change)):
                plain[name] = amount.value if amount else None
                plain[f"{name}_low"] = amount.low if amount else None
                plain[f"{name}_high"] = amount.high if amount else None
            plain["seconds"] = swap.seconds.value if swap.seconds else None
            plain_rows.append(plain)
    return plain_rows


SECTIONS = {60: section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
