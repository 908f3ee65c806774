"""The view model: all that a report says, as plain data, from one run or several. Every output format writes this."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.core.record import SCHEMA_VERSION, Run
from harness.report.model import case_rows, style
from harness.report.model.case_rows import Row
from harness.report.model.records_table import frame, labels, machine
from harness.report.model.sentence import Sentence
from harness.report.model.style import Style
from harness.report.model.tables import Table
from harness.report.model.units import Amount
from harness.report.questions import answer, difference, panels, swaps, verification
from harness.report.questions.panels import SHARED, Panel
from harness.report.questions.sections import Section, sections
from harness.report.questions.verification import Failure

PASSES = {"forward": ["forward"], "training": ["forward + backward", "training step"]}
"""The choice of a pass, and the facets that it stands for."""


@dataclass(frozen=True)
class Answer:
    """What one run says in words; ``heading`` is empty where there is only one run."""

    heading: str
    sentences: list[Sentence]


@dataclass(frozen=True)
class RunView:
    """One run's particulars: (name, value) pairs in words."""

    label: str
    device: str
    started: str
    profile: str
    commit: str
    command: str
    records: Amount
    schema_version: int
    settings: list[tuple[str, Sentence]]
    machine: list[tuple[str, str]]
    verification: Table

    def plain(self) -> dict[str, Any]:
        """As JSON holds it: what is not the run's own words."""
        return {
            "run": self.label,
            "records": self.records.plain(),
            "settings": [[name, values.plain()] for name, values in self.settings],
            "verification": self.verification.plain(),
        }


@dataclass(frozen=True)
class Comparison:
    """A report. ``filters`` are the choices for all plots, by facet, each with the facet values that it stands for."""

    runs: list[RunView]
    notices: list[str]
    reading: list[str]
    answers: list[Answer]
    counts: dict[str, Amount]
    filters: dict[str, dict[str, list[str]]]
    lengths: list[int]
    styles: dict[str, Style]
    levels: list[Panel]
    sections: list[Section]
    failures: list[Failure]
    cases: list[Row]
    swaps: list[Row]
    raw: list[Run]

    @property
    def panels(self) -> list[Panel]:
        """Every panel, in the order of the page."""
        return [*self.levels, *(one.panel for one in self.sections if one.panel)]

    @property
    def series(self) -> list[str]:
        """Every series that some plot draws."""
        return sorted({name for panel in self.panels for name in panel.series})

    def plain(self) -> dict[str, Any]:
        """Numbers of sentences, tables and cases as JSON holds them; the figures are the page's own."""
        return {
            "answers": [{"run": one.heading, "sentences": [s.plain() for s in one.sentences]} for one in self.answers],
            "counts": {status: count.plain() for status, count in self.counts.items()},
            "remarks": [
                plot.said() for panel in self.panels for view in panel.views for plot in view.plots if plot.remarks
            ],
            "sections": [
                {"id": one.id, "title": one.title, "tables": [t.plain() for t in one.tables]} for one in self.sections
            ],
            "runs": [one.plain() for one in self.runs],
            "failures": [one.plain() for one in self.failures],
            "cases": self.cases,
            "swaps": self.swaps,
        }


def compare(runs: Sequence[Run], notices: Sequence[str] = (), reading: Sequence[str] = ()) -> Comparison:
    """The view model of one run, of several machines, or of a run before and after a change.

    Args:
        runs: at least one; the first is what the others are compared with.
        notices: what must be said before anything else, such as a file that could not be read.
        reading: paragraphs that a person wrote about these runs.

    Raises:
        ValueError: no runs.
    """
    if not runs:
        raise ValueError("runs must be one or more, got none; name the JSON of a run")
    given, names = list(runs), labels(runs)
    table = frame(*given)
    styles = style.assign([*zip(table["series"], table["base"], strict=True), *swaps.looks(table)])
    levels = panels.levels(table, styles)
    found = sections(table, given, names, styles)
    shown = [*levels, *(one.panel for one in found if one.panel)]
    return Comparison(
        runs=[_run(run, name) for run, name in zip(given, names, strict=True)],
        notices=[*notices, *_notices(given)],
        reading=list(reading),
        answers=_answers(table, given, names),
        counts={str(name): Amount(int(count), "count") for name, count in table["status"].value_counts().items()},
        filters=_filters(shown),
        lengths=sorted({length for panel in shown for view in panel.views for length in view.lengths}),
        styles=styles,
        levels=levels,
        sections=found,
        failures=verification.failures(table),
        cases=case_rows.rows(table, names),
        swaps=swaps.rows(table, names),
        raw=given,
    )


def _answers(table: pd.DataFrame, runs: list[Run], names: list[str]) -> list[Answer]:
    if len(runs) == 1:
        return [Answer("", answer.sentences(table))]
    between = Answer("The runs against each other", difference.summary(table, runs))
    return [between, *(Answer(name, answer.sentences(frame(run))) for name, run in zip(names, runs, strict=True))]


def _notices(runs: list[Run]) -> list[str]:
    """What a reader must know before comparing: nothing measured, other machines, other schemas."""
    said = []
    if not any(run.records for run in runs):
        said.append("No records: nothing was measured, so there is nothing to compare.")
    elif empty := [name for name, run in zip(labels(runs), runs, strict=True) if not run.records]:
        said.append(f"Without records: {'; '.join(empty)}.")
    machines = list(dict.fromkeys(machine(run) for run in runs))
    if len(machines) > 1:
        said.append(f"These runs are of different machines ({', '.join(machines)}): no plot holds two of them.")
    versions = sorted({record.schema_version for run in runs for record in run.records})
    if any(version != SCHEMA_VERSION for version in versions):
        found = ", ".join(map(str, versions))
        said.append(f"Records of schema versions {found} are mixed here; this report reads version {SCHEMA_VERSION}.")
    return said


def _filters(shown: Sequence[Panel]) -> dict[str, dict[str, list[str]]]:
    values: dict[str, list[str]] = {}
    for view in (view for panel in shown for view in panel.views):
        for name in SHARED:
            if name in view.facets and view.facets[name] not in values.setdefault(name, []):
                values[name].append(view.facets[name])
    found = {name: {value: [value] for value in seen} for name, seen in values.items() if len(seen) > 1}
    if "Pass" in found:
        seen = set(values["Pass"])
        found["Pass"] = {name: facets for name, facets in PASSES.items() if seen & set(facets)}
    return {name: choices for name, choices in found.items() if len(choices) > 1}


def _run(run: Run, label: str) -> RunView:
    particulars = [(name, str(value)) for name, value in run.machine.items() if value is not None]
    return RunView(
        label, machine(run), run.started, run.profile, run.commit or "not known", run.command,
        Amount(len(run.records), "count"), run.schema_version, verification.settings(run), particulars,
        verification.verification(run),
    )  # fmt: skip
