"""The study's results as ``reading.md``, and as ``drop-in.html``, which also has figures of agreement against steps."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.core.escaping import markdown
from harness.core.templates import environment
from harness.report.formats.html import packed_plotly
from harness.report.model import figures
from harness.report.model.style import assign_styles
from suites.studies.drop_in.results import RESULTS, Outcome, Study

TEMPLATES = Path(__file__).parent / "templates"
READING, PAGE = "reading.md", "drop-in.html"
TITLE = "Softmax attention swapped for another one in pretrained models"
INTRODUCTION = (
    "Each attention takes the place of softmax in every layer of a pretrained model that was trained with softmax; all "
    "weights stay. The swapped model is compared with the original on held-out texts, at once (0 steps) and during a "
    "short distillation of all weights with the original as the teacher. The cosine is that of a real token's hidden "
    "state with the original's, averaged over tokens. 1 is the original's behaviour; sdpa is the original's own "
    "attention, and none mixes no tokens at all. The row of sdpa also shows what the optimisation alone costs at each "
    "step, because its student starts where it should end. One seed and one learning rate for all "
    "attentions: differences of a few hundredths may be chance, and another rate may suit another attention better."
)


@dataclass(frozen=True)
class Table:
    """A heading, the names of the columns, and the cells as text; all columns after the first are numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class ModelPart:
    """What the pages say about one model."""

    name: str
    about: list[str]
    tables: list[Table]
    figure: figures.Figure
    missing: list[str]
    """A sentence for each attention without a result."""


def write(study: Study, folder: Path) -> None:
    """Write both pages."""
    parts = [model_part(study, name) for name in study.sources]
    (folder / READING).write_text(_markdown(study, parts), encoding="utf-8")
    (folder / PAGE).write_text(_html(study, parts), encoding="utf-8")


def model_part(study: Study, name: str) -> ModelPart:
    """One model's sentences, tables and figure."""
    source, settings = study.sources[name], study.settings
    outcomes = [outcome for outcome in study.outcomes if outcome.model == name]
    measured = [outcome for outcome in outcomes if outcome.comparisons]
    return ModelPart(
        name=name,
        about=[
            f"{source.package}; {source.held_out} held-out texts of at most {source.longest} tokens: {source.texts}.",
            f"Agreement: {source.task}.",
            f"Distillation: {settings.steps} steps of {settings.batch} texts, AdamW, learning rate from "
            f"{settings.learning_rate:g} to 0, seed {settings.seed}.",
        ],
        tables=[
            *(
                _table(measure, study, measured, [outcome_values(outcome, measure) for outcome in measured])
                for measure in source.measures
            ),
            _table(
                "cosine of the last layer",
                study,
                measured,
                [{found.step: found.layer_cosine[-1] for found in outcome.comparisons} for outcome in measured],
            ),
            _by_layer(measured),
        ],
        figure=_figure(measured, source.measures[0]),
        missing=[
            f"{outcome.swap.label} is {outcome.status}: {outcome.reason}"
            for outcome in outcomes
            if outcome.status != "ok"
        ],
    )


def outcome_values(outcome: Outcome, measure: str) -> dict[int, float]:
    """The agreement after each recorded step."""
    return {found.step: found.agreement[measure] for found in outcome.comparisons}


def _table(title: str, study: Study, measured: list[Outcome], values: list[dict[int, float]]) -> Table:
    steps = study.settings.recorded_steps
    return Table(
        title=f"{title[0].upper()}{title[1:]}, by steps of distillation",
        columns=["attention", *(str(step) for step in steps), "seconds"],
        rows=[
            [
                outcome.swap.label,
                *(f"{of[step]:.3f}" if step in of else "\N{EN DASH}" for step in steps),
                f"{outcome.seconds:.0f}",
            ]
            for outcome, of in zip(measured, values, strict=True)
        ],
    )


def _by_layer(measured: list[Outcome]) -> Table:
    layers = max((len(outcome.comparisons[0].layer_cosine) for outcome in measured), default=0)
    return Table(
        title="Cosine of every layer, without any training",
        columns=["attention", *(str(layer) for layer in range(1, layers + 1))],
        rows=[
            [outcome.swap.label, *(f"{cosine:.2f}" for cosine in outcome.comparisons[0].layer_cosine)]
            for outcome in measured
        ],
    )


def _figure(measured: list[Outcome], measure: str) -> figures.Figure:
    styles = assign_styles((outcome.swap.label, outcome.attention) for outcome in measured)
    traces = []
    for outcome in measured:
        label, of = outcome.swap.label, outcome_values(outcome, measure)
        hover = [
            f"{figures.escape_text(label)}<br>{measure} {value:.3f} after {step} steps" for step, value in of.items()
        ]
        traces.append(figures.line_trace(label, styles, list(of), list(of.values()), hover, [0] * len(of)))
    return figures.figure(
        traces,
        xaxis={"title": {"text": "steps of distillation"}},
        yaxis={"title": {"text": f"{measure} (1: as the original)"}, "rangemode": "tozero"},
    ) | {"config": {"displaylogo": False, "responsive": True}}


def _markdown(study: Study, parts: list[ModelPart]) -> str:
    blocks = [f"# {TITLE}", markdown(INTRODUCTION), _made(study)]
    for part in parts:
        blocks += [f"## {markdown(part.name)}", *map(markdown, part.about)]
        for table in part.tables:
            if table.rows:
                lines = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)]]
                lines = [*lines, *([markdown(cell) for cell in row] for row in table.rows)]
                blocks += [f"**{markdown(table.title)}**", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        if part.missing:
            blocks += ["\n".join(f"- {markdown(sentence)}" for sentence in part.missing)]
    return "\n\n".join(blocks) + "\n"


def _made(study: Study) -> str:
    commits = sorted({(outcome.commit or "unknown")[:12] for outcome in study.outcomes})
    return (
        f"Raw results, settings and the machine: [{RESULTS}]({RESULTS}); figures: [{PAGE}]({PAGE}). Made by "
        f"`python -m suites.studies.drop_in`, commit {', '.join(commits)}."
    )


def _html(study: Study, parts: list[ModelPart]) -> str:
    drawn: list[dict[str, Any]] = [part.figure for part in parts]
    # In a script element only the start of a tag could end it.
    data = Markup(json.dumps(drawn, allow_nan=False).replace("<", "\\u003c"))
    return environment(TEMPLATES).get_template("drop_in.html").render(
        title=TITLE, introduction=INTRODUCTION, study=study, results=RESULTS, parts=parts, figures=data,
        plotly=packed_plotly(),
    )  # fmt: skip
