"""How good are trained models? Scores over seeds with their intervals, changes paired by seed, and published scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core.quantities import seconds_words, share_words
from harness.core.record import TaskResult
from harness.core.spec import TaskSpec
from harness.report.model.amounts import ABSENT, LEVEL_WORDS, Amount, Sentence, Unit, compose, counted, join
from harness.report.model.facets import Facets
from harness.report.model.figures import (
    REFERENCE_COLOR,
    Figure,
    Styles,
    Trace,
    band_trace,
    escape_text,
    figure,
    length_axis,
    line_trace,
    log_axis,
    marker_trace,
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
)
from harness.report.model.records_table import ReportRow, by_facets, sequence_lengths
from harness.report.model.tables import Cell, Table, table_with_facets
from harness.statistics import intervals

REFERENCE = "softmax"
"""The attention whose scores the others' scores are compared with."""
NO_SCORE = "No training gave a score."
_SAME_ATTENTION = {REFERENCE, "sdpa"}
"""Two implementations of one attention: their scores differ by noise only."""
_METRICS_DOWN_TO_MINUS_1 = {"matthews", "spearman"}
_MOST_SCORES = 5
"""A finding names at most this many different scores, and the lowest."""

PUBLISHED_SOURCE = (
    "Source: Xiong et al., Nyströmformer, AAAI 2021 (arXiv 2102.03902; github.com/mlpen/Nystromformer): Long Range "
    "Arena as re-implemented by the YOSO authors' group. It has no row for YOSO."
)
_PUBLISHED_TASKS = ("ListOps", "Text", "Retrieval", "Image", "Pathfinder", "Average")
_PUBLISHED_PERCENT = {
    "softmax": (37.10, 65.02, 79.35, 38.20, 74.16, 58.77),
    "Reformer": (19.05, 64.88, 78.64, 43.29, 69.36, 55.04),
    "Linformer": (37.25, 55.91, 79.37, 37.84, 67.60, 55.59),
    "Performer": (18.80, 63.81, 78.62, 37.07, 69.87, 53.63),
    "Nyströmformer": (37.15, 65.52, 79.56, 41.58, 70.94, 58.95),
}


@dataclass(frozen=True)
class TrainedModel:
    """A row of a trained model with at least one score, all of them finite."""

    row: ReportRow
    task: TaskResult

    @property
    def mean(self) -> float:
        """The mean score over seeds."""
        return float(np.mean(self.task.scores))

    @property
    def learning_rate(self) -> float:
        """With which it was trained; attentions may have the rate that is best for each."""
        spec = self.row.record.spec
        assert isinstance(spec, TaskSpec)  # only a task case has scores
        return spec.learning_rate


def trained_models(rows: Iterable[ReportRow]) -> list[TrainedModel]:
    """The rows that have scores, all of them finite numbers."""
    return [TrainedModel(row, task) for row in rows if row.is_ok and (task := row.record.task) and task.scores]


def metric_words(models: Iterable[TrainedModel]) -> str:
    """The metric of the scores, or "score" where the rows have several metrics or there are no rows."""
    names = {model.task.metric.replace("_", " ") for model in models}
    return names.pop() if len(names) == 1 else "score"


def by_task(rows: Sequence[ReportRow]) -> list[tuple[str, list[ReportRow]]]:
    """The rows of each setting of a task with the task's name, which includes the model where there are several."""
    groups = by_facets(rows, "task")
    settings = [dict(facets) for facets in groups]
    several = len({setting["Model"] for setting in settings}) > 1
    names = [f"{setting['Task']} in {setting['Model']}" if several else setting["Task"] for setting in settings]
    return list(zip(names, groups.values(), strict=True))


def mean_score(scores: list[float], metric: str) -> Amount:
    """The mean score of one model over its seeds."""
    return _mean_within(scores, "fraction", _lowest_score(metric), 1.0)


def score_change(after: list[float], before: list[float], metric: str) -> Amount | None:
    """The mean change in percentage points between scores of the same seeds; None for unequal numbers of seeds."""
    if len(after) != len(before):
        return None
    limit = 100 * (1 - _lowest_score(metric))
    return _mean_within([100 * (a - b) for a, b in zip(after, before, strict=True)], "points", -limit, limit)


def median_seconds(seconds: list[float]) -> Amount | None:
    """The median over seeds; None where there is no value."""
    return Amount(float(np.median(seconds)), "s") if seconds else None


def _mean_within(values: list[float], unit: Unit, lowest: float, highest: float) -> Amount:
    """The mean over seeds. Student's interval is clipped to the possible range, because that of few seeds extends far
    beyond it."""
    mean = intervals.seed_mean(values)
    if mean.low is None or mean.high is None:
        return Amount(mean.mean, unit)
    return Amount(mean.mean, unit, max(mean.low, lowest), min(mean.high, highest))


def _lowest_score(metric: str) -> float:
    return -1.0 if metric in _METRICS_DOWN_TO_MINUS_1 else 0.0


@dataclass(frozen=True)
class TrainedRow:
    """The models that were trained with one attention: the score of each seed, and the mean.

    ``rare_rows`` is the mean share of an attention's rows that expect less than one collision, where it was measured.
    """

    series: str
    attention: str
    scores: list[Amount]
    mean: Amount
    rare_rows: Amount | None

    def as_json(self) -> dict[str, Any]:
        """The row for the page's script."""
        return {
            "series": self.series,
            "attention": self.attention,
            "scores": [score.as_json() for score in self.scores],
            "mean": self.mean.as_json(),
            "rareRows": self.rare_rows.as_json() if self.rare_rows else None,
        }


def trained_rows(models: Sequence[TrainedModel]) -> list[TrainedRow]:
    """One row per model, the best mean first."""
    return [
        TrainedRow(
            model.row.series,
            model.row.record.spec.attention,
            [Amount(score, "fraction") for score in model.task.scores],
            mean_score(model.task.scores, model.task.metric),
            Amount(float(np.mean(shares)), "fraction") if (shares := model.task.rows_below_one_collision) else None,
        )
        for model in sorted(models, key=lambda model: (-model.mean, model.row.series))
    ]


def without_attention(models: Sequence[TrainedModel]) -> Amount | None:
    """The best score that needs no attention to the text: chance, or always predicting the most frequent class."""
    return Amount(max(max(model.task.chance, model.task.majority) for model in models), "fraction") if models else None


def scores_finding(models: Sequence[TrainedModel]) -> Sentence:
    """The mean score of every attention, the best first; attentions with equal words share them."""
    by_words: dict[str, tuple[Amount, list[str]]] = {}
    for row in trained_rows(models):
        mean = Amount(row.mean.value, "fraction")
        by_words.setdefault(str(mean), (mean, []))[1].append(row.series)
    groups = list(by_words.values())
    left_out = max(0, len(groups) - _MOST_SCORES)
    parts = [compose("{} {}", _listed(names), mean) for mean, names in groups[:_MOST_SCORES]]
    if left_out:
        mean, names = groups[-1]
        parts.append(compose("the lowest {} ({})", mean, _listed(names)))
    return compose(
        "Mean held-out {}: {}. Without attention to the text it is {}.",
        metric_words(models), join(parts), without_attention(models) or ABSENT,
    )  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sentences(rows: Sequence[ReportRow]) -> list[Sentence]:
    """The mean score of every attention, best first, one sentence per task."""
    summaries = []
    for task, group in by_task(rows):
        models = trained_models(group)
        if not models:
            continue
        ranked = sorted(models, key=lambda model: -model.mean)
        parts = [compose("{} {}", model.row.series, Amount(model.mean, "fraction")) for model in ranked]
        majority = Amount(max(model.task.majority for model in models), "fraction")
        template = "Mean held-out {} on {} at {} tokens: {} (always predicting the most frequent class gives {})."
        length = Amount(models[0].row.seq_len, "tokens")
        summaries.append(compose(template, metric_words(models), task, length, join(parts), majority))
    return summaries


def section(evidence: Evidence) -> Section:
    """Every seed's score, the table of means, and published scores where a task was trained."""
    seeds = seeds_panel(evidence.rows, evidence.styles)
    return build_section(
        "accuracy", "Scores after training", scores_finding_of(evidence.rows),
        "One dot per training seed, and a bar at the mean. A score counts only above the dashed lines: chance, and "
        f"always predicting the most frequent class. {_noise_words(evidence.rows)}Changes are paired by seed; the "
        f"{LEVEL_WORDS} intervals are Student's t over seeds. Compare scores of one run only, never with a number from "
        "another source.",
        [score_table(evidence.rows), *([published_table()] if seeds.views else [])], seeds,
    )  # fmt: skip


def scores_finding_of(rows: Sequence[ReportRow]) -> Sentence | None:
    """What the first task found, and on how many more models were trained."""
    found = [(name, models) for name, group in by_task(rows) if (models := trained_models(group))]
    if not found:
        return Sentence(NO_SCORE) if any(row.kind == "task" for row in rows) else None
    name, models = found[0]
    more = compose(" Further settings: {}.", Amount(len(found) - 1, "count")) if len(found) > 1 else ""
    return compose("{}: {}{}", name, scores_finding(models), more)


def score_table(rows: Sequence[ReportRow]) -> Table:
    """The score of every trained model, with its change from the model that was trained with softmax attention."""
    cells: list[tuple[Facets, list[Cell]]] = []
    for facets, group in by_facets(rows, "task").items():
        models = sorted(trained_models(group), key=lambda model: -model.mean)
        exact = {model.row.base_series: model for model in models if model.row.base_series in _SAME_ATTENTION}
        reference = exact.get(REFERENCE) or next(iter(exact.values()), None)
        for model in models:
            task, peak_bytes, rate = model.task, model.row.peak_bytes, model.learning_rate
            amounts = [
                mean_score(task.scores, task.metric),
                _change_from(model, reference),
                Amount(len(task.scores), "count"),
                Amount(rate, "count", text=f"{rate:g}"),
                Amount(max(task.chance, task.majority), "fraction"),
                median_seconds(task.train_seconds),
                Amount(peak_bytes, "B") if peak_bytes is not None else None,
            ]
            cells.append((facets, [model.row.series, *(amount or ABSENT for amount in amounts)]))
    columns = [
        "Attention", f"Score [{LEVEL_WORDS}]", f"Points from softmax [{LEVEL_WORDS}]", "Seeds", "Learning rate",
        "Baseline", "Training", "Peak memory",
    ]  # fmt: skip
    return table_with_facets("Trained in this run", columns, cells, implied="Shape")


def _change_from(model: TrainedModel, reference: TrainedModel | None) -> Amount | None:
    """The change from the reference's scores; only scores of the same seeds are paired."""
    if reference is None or model is reference or model.row.record.spec.seed != reference.row.record.spec.seed:
        return None
    return score_change(model.task.scores, reference.task.scores, model.task.metric)


def _noise_words(rows: Sequence[ReportRow]) -> str:
    """A sentence about the noise of a comparison, where one attention was trained in two implementations."""
    if not {model.row.base_series for model in trained_models(rows)} >= _SAME_ATTENTION:
        return ""
    return f"{' and '.join(sorted(_SAME_ATTENTION))} compute the same attention: the change between them is noise. "


def published_table() -> Table:
    """Held-out accuracies that others have published, by attention and task; no sentence compares them with a run."""
    rows: list[list[Cell]] = [
        [name, *(Amount(value / 100, "fraction", text=f"{value:.2f}%") for value in values)]
        for name, values in _PUBLISHED_PERCENT.items()
    ]
    title = "Published by others, not measured here"
    return Table(title, ["Attention", *_PUBLISHED_TASKS], rows, Sentence(PUBLISHED_SOURCE))


def seeds_panel(rows: Sequence[ReportRow], styles: Styles) -> Panel:
    """Every seed's score with the baselines, and the score against the number of hashes used in training."""
    views = []
    for facets, group in by_facets(rows, "task").items():
        about = f"Held-out {metric_words(trained_models(group))}, {dict(facets)['Task']}"
        seeds = seeds_figure(group, styles)
        plots = [Plot("seeds", f"{about}, one dot per seed", seeds, failure_remarks(group), NO_SCORE)]
        by_hashes = score_by_hashes_figure(group, styles)
        if len(by_hashes["layout"]["xaxis"]["tickvals"]) > 1:
            title = f"{about}, against the number of hashes in training"
            plots.append(Plot("score-by-hashes", title, by_hashes, [], "No attention with hashes was trained."))
        views.append(FacetView(dict(facets), sequence_lengths(group), plots))
    return build_panel("seeds", views)


def seeds_figure(rows: Sequence[ReportRow], styles: Styles) -> Figure:
    """The held-out score of every seed, one line per series, with lines at chance and at the majority class."""
    data: list[Trace] = []
    models = sorted(trained_models(rows), key=lambda model: model.mean)
    for model in models:
        series, scores, first_seed = model.row.series, model.task.scores, model.row.record.spec.seed
        name = escape_text(series)
        dots = [f"<b>{name}</b><br>seed {first_seed + i}: {share_words(score)}" for i, score in enumerate(scores)]
        bar_words = f"<b>{name}</b><br>mean of {_seeds(len(scores))}: {share_words(model.mean)}"
        lengths = [model.row.seq_len] * len(scores)
        data.append(marker_trace(series, styles, scores, [name] * len(scores), dots, lengths))
        bar = marker_trace(series, styles, [model.mean], [name], [bar_words], lengths[:1])
        bar["marker"] |= {"symbol": "line-ns-open", "size": 26, "line": {"width": 3}}
        data.append(bar)
    shapes, annotations = baseline_lines(models)
    return figure(
        data, xaxis=score_axis(models),
        yaxis={"type": "category"}, height=160 + 44 * len(models), margin={"t": 48, "l": 10}, shapes=shapes,
        annotations=annotations,
    )  # fmt: skip


def score_by_length_figure(rows: Sequence[ReportRow], styles: Styles) -> Figure:
    """The mean score against length, with a band from the worst seed to the best."""
    data: list[Trace] = []
    for series, models in _models_by_series(rows).items():
        lengths, by_seed = [model.row.seq_len for model in models], [model.task.scores for model in models]
        texts = [_score_words(model) for model in models]
        data.append(band_trace(series, styles, lengths, list(map(min, by_seed)), list(map(max, by_seed)), lengths))
        data.append(line_trace(series, styles, lengths, [model.mean for model in models], texts, lengths))
    return figure(data, xaxis=length_axis([row.seq_len for row in rows]), yaxis=score_axis(trained_models(rows)))


def training_time_figure(rows: Sequence[ReportRow], styles: Styles) -> Figure:
    """The median time of a training in seconds, against length."""
    data: list[Trace] = []
    values: list[float] = []
    for series, models in _models_by_series(rows).items():
        timed = [model for model in models if model.task.train_seconds]
        lengths = [model.row.seq_len for model in timed]
        seconds = [float(np.median(model.task.train_seconds)) for model in timed]
        values += seconds
        data.append(line_trace(series, styles, lengths, seconds, [_score_words(model) for model in timed], lengths))
    axis = log_axis("time of a training", values, seconds_words, 10)
    return figure(data, xaxis=length_axis([row.seq_len for row in rows]), yaxis=axis)


def score_by_hashes_figure(rows: Sequence[ReportRow], styles: Styles) -> Figure:
    """The mean score against the number of hashes, for attentions with hashes."""
    data: list[Trace] = []
    all_counts: set[int] = set()
    for series, models in _models_by_series(rows).items():
        hashed = [
            (model, count) for model in models if isinstance(count := model.row.record.knobs.get("num_hash"), int)
        ]
        if hashed:
            counts = [count for _, count in hashed]
            all_counts |= set(counts)
            texts = [_score_words(model) for model, _ in hashed]
            lengths = [model.row.seq_len for model, _ in hashed]
            trace = line_trace(series, styles, counts, [model.mean for model, _ in hashed], texts, lengths)
            data.append(trace | {"mode": "markers"})
    return figure(data, xaxis=hashes_axis(sorted(all_counts)), yaxis=score_axis(trained_models(rows)))


def _models_by_series(rows: Sequence[ReportRow]) -> dict[str, list[TrainedModel]]:
    by_series: dict[str, list[TrainedModel]] = {}
    for model in sorted(trained_models(rows), key=lambda model: model.row.seq_len):
        by_series.setdefault(model.row.series, []).append(model)
    return dict(sorted(by_series.items()))


def _seeds(count: int) -> Sentence:
    return counted(count, "{} seed", "{} seeds")


def _score_words(model: TrainedModel) -> str:
    task = model.task
    scores = ", ".join(share_words(score) for score in task.scores)
    time = seconds_words(float(np.median(task.train_seconds))) if task.train_seconds else "not known"
    return (
        f"<b>{escape_text(model.row.series)}</b>, n = {model.row.seq_len:,}<br>mean {share_words(model.mean)}"
        f" over {_seeds(len(task.scores))}<br>seeds: {scores}<br>time of a training: {time}"
    )


def score_axis(models: Sequence[TrainedModel]) -> dict[str, Any]:
    """The axis of the scores of these rows, starting at 0."""
    title = {"text": f"held-out {escape_text(metric_words(models))}"}
    return {"title": title, "tickformat": ".0%", "rangemode": "tozero"}


def hashes_axis(counts: Sequence[int]) -> dict[str, Any]:
    """The log axis of numbers of hashes, with a tick at each."""
    texts = [f"{count:,}" for count in counts]
    return {"title": {"text": "number of hashes m"}, "type": "log", "tickvals": list(counts), "ticktext": texts}


def baseline_lines(
    models: Sequence[TrainedModel], horizontal: bool = False
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Shapes and annotations at chance and at the majority class: vertical lines, or ``horizontal`` ones."""
    names_at: dict[float, set[str]] = {}
    for model in models:
        names_at.setdefault(model.task.chance, set()).add("chance")
        names_at.setdefault(model.task.majority, set()).add("majority")
    score, along = ("y", "x") if horizontal else ("x", "y")
    shapes, annotations = [], []
    for nth, (value, names) in enumerate(sorted(names_at.items())):
        shapes.append(
            {"type": "line", f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{score}0": value,
             f"{score}1": value, "line": {"dash": "dash", "width": 1.5, "color": REFERENCE_COLOR}}
        )  # fmt: skip
        annotation = {"showarrow": False, "text": f"{' and '.join(sorted(names))} {share_words(value)}"}
        # the labels of two close lines would overlap, so the second one is moved
        if horizontal:
            yanchor = "bottom" if nth else "top"
            annotation |= {"x": 1, "y": value, "xref": "paper", "xanchor": "right", "yanchor": yanchor}
        else:
            annotation |= {
                "x": value,
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "xanchor": "left",
                "yshift": 14 * (nth % 2),
            }
        annotations.append(annotation)
    return shapes, annotations


SECTIONS = {50: section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
