"""The whole report as plain data, from one run or several. Every output format writes this."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from harness.core.record import SCHEMA_VERSION, Run
from harness.report import questions
from harness.report.model.amounts import Amount, Sentence, compose
from harness.report.model.page_data import OperationData
from harness.report.model.page_parts import Evidence, Panel, Section
from harness.report.model.plain_rows import PlainRow, plain_rows
from harness.report.model.records_table import ReportRow, machine_name, report_rows, run_labels
from harness.report.model.style import Style, assign_styles
from harness.report.questions import attention_swaps, headline, run_differences, verification, whole_models
from harness.report.questions.level_panels import level_panels
from harness.report.questions.operation_page import operation_data
from harness.statistics import disturbed_run


@cache
def section_builders() -> list[Callable[[Evidence], Section]]:
    """The functions that build the sections for experts, in the order of the page.

    A question is one module of ``harness.report.questions``. Its ``SECTIONS`` maps places on the page to functions.
    """
    modules = [import_module(f"{questions.__name__}.{module.name}") for module in iter_modules(questions.__path__)]
    by_place = [item for module in modules for item in getattr(module, "SECTIONS", {}).items()]
    return [builder for _, builder in sorted(by_place, key=lambda item: item[0])]


@dataclass(frozen=True)
class RunSummary:
    """What one run says in sentences; ``heading`` is empty where there is only one run."""

    heading: str
    sentences: list[Sentence]


@dataclass(frozen=True)
class RunDetails:
    """The particulars of one run. ``settings`` and ``machine`` are (name, value) pairs."""

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
    finding: Sentence

    def as_json(self) -> dict[str, Any]:
        """The values that are not copied from the run itself."""
        return {
            "run": self.label,
            "records": self.records.as_json(),
            "settings": [[name, values.as_json()] for name, values in self.settings],
            "finding": self.finding.as_json(),
        }


@dataclass(frozen=True)
class Comparison:
    """A report.

    Attributes:
        notices: what a reader must know before comparing anything.
        reading: paragraphs that a person wrote about the runs.
        counts: the number of records by status.
        levels: plots over length, of which the page has its own charts: only the pictures draw them.
        sections: the sections for experts.
        operation: the attention alone, as the page's scripts read it; None where no run has such a case.
        trained, whole_models: what the page draws of trained tasks and of whole models.
        cases, swaps: the rows of the CSV files.
        raw: the runs themselves.
    """

    runs: list[RunDetails]
    notices: list[str]
    reading: list[str]
    summaries: list[RunSummary]
    counts: dict[str, Amount]
    styles: dict[str, Style]
    levels: list[Panel]
    sections: list[Section]
    operation: OperationData | None
    trained: list[attention_swaps.TrainedTask]
    whole_models: list[whole_models.WholeModel]
    cases: list[PlainRow]
    swaps: list[PlainRow]
    raw: list[Run]

    @property
    def finding(self) -> Sentence:
        """The first sentence of all."""
        return self.summaries[0].sentences[0]

    @property
    def data_finding(self) -> Sentence:
        """How many records the page has, and what they have."""
        records = [record for run in self.raw for record in run.records]
        samples = sum(len(record.timing.wall_seconds) for record in records if record.timing)
        counts = len(records), samples, sum(len(record.checks) for record in records)
        as_csv = ", and a setting of the attention alone as CSV" if self.operation else ""
        words = "Records: {}; samples of time: {}; checks: {}. All as JSON{}."
        return compose(words, *(Amount(count, "count") for count in counts), as_csv)

    @property
    def panels(self) -> list[Panel]:
        """Every panel, in the order of the page."""
        return [section.panel for section in self.sections if section.panel]

    def as_json(self) -> dict[str, Any]:
        """The exact values behind sentences, tables and cases; the page holds the figures separately."""
        plots = [plot for panel in self.panels for view in panel.views for plot in view.plots]
        return {
            "summaries": [
                {"run": summary.heading, "sentences": [sentence.as_json() for sentence in summary.sentences]}
                for summary in self.summaries
            ],
            "finding": self.finding.as_json(),
            "data_finding": self.data_finding.as_json(),
            "notices": self.notices,
            "disturbances": [found and found.as_json() for found in map(disturbed_run.judge_run, self.raw)],
            "counts": {status: count.as_json() for status, count in self.counts.items()},
            "remarks": [plot.remarks_as_json() for plot in plots if plot.remarks],
            "sections": [
                {
                    "id": section.id,
                    "title": section.title,
                    "finding": section.finding.as_json(),
                    "tables": [table.as_json() for table in section.tables],
                }
                for section in self.sections
            ],
            "runs": [run.as_json() for run in self.runs],
            "cases": self.cases,
            "swaps": self.swaps,
        }


def compare(runs: Sequence[Run], notices: Sequence[str] = (), reading: Sequence[str] = ()) -> Comparison:
    """The report of one run, of several machines, or of a run before and after a change.

    Args:
        runs: at least one; the others are compared with the first.
        notices: what a reader must know before comparing anything, such as a file that could not be read.
        reading: paragraphs that a person wrote about these runs.

    Raises:
        ValueError: no runs.
    """
    if not runs:
        raise ValueError("runs must contain at least one run, got none; name the JSON file of a run")
    labels, rows = run_labels(runs), report_rows(*runs)
    own_series = [(row.series, row.base_series) for row in rows]
    styles = assign_styles([*own_series, *attention_swaps.swap_series(rows)])
    evidence = Evidence(runs, labels, rows, styles)
    sections = [section for build in section_builders() if not (section := build(evidence)).is_empty]
    operation = operation_data(evidence)
    return Comparison(
        runs=[_run_details(run, label) for run, label in zip(runs, labels, strict=True)],
        notices=[*notices, *_notices(runs, labels)],
        reading=list(reading),
        summaries=_summaries(evidence, operation),
        counts=_status_counts(rows),
        styles=styles,
        levels=level_panels(evidence),
        sections=sections,
        operation=operation,
        trained=attention_swaps.trained_tasks(evidence),
        whole_models=whole_models.whole_models(evidence),
        cases=plain_rows(rows, labels),
        swaps=attention_swaps.plain_swap_rows(rows, labels),
        raw=list(runs),
    )


def _summaries(evidence: Evidence, operation: OperationData | None) -> list[RunSummary]:
    if len(evidence.runs) == 1:
        return [RunSummary("", headline.sentences(evidence.rows, operation))]
    between = RunSummary("Comparison of the runs", run_differences.sentences(evidence))
    return [
        between,
        *(
            RunSummary(label, headline.sentences(own.rows, operation_data(own)))
            for label, own in zip(evidence.labels, map(Evidence.of_run, evidence.runs), strict=True)
        ),
    ]


def _status_counts(rows: Sequence[ReportRow]) -> dict[str, Amount]:
    """The number of records by status, the most frequent status first."""
    return {status: Amount(count, "count") for status, count in Counter(row.status for row in rows).most_common()}


def _notices(runs: Sequence[Run], labels: Sequence[str]) -> list[str]:
    """What a reader must know before comparing anything: disturbed runs, empty runs, different machines and schemas."""
    notices = [
        f"{label}: {disturbance.sentence}" if len(runs) > 1 else disturbance.sentence
        for label, disturbance in zip(labels, map(disturbed_run.judge_run, runs), strict=True)
        if disturbance is not None
    ]
    if not any(run.records for run in runs):
        notices.append("No records: nothing was measured, so there is nothing to compare.")
    elif empty := [label for label, run in zip(labels, runs, strict=True) if not run.records]:
        notices.append(f"Runs without records: {'; '.join(empty)}.")
    machines = list(dict.fromkeys(machine_name(run) for run in runs))
    if len(machines) > 1:
        notices.append(f"These runs are from different machines ({', '.join(machines)}): no plot combines two of them.")
    versions = sorted({record.schema_version for run in runs for record in run.records})
    if any(version != SCHEMA_VERSION for version in versions):
        listed = ", ".join(map(str, versions))
        notices.append(
            f"The records have the schema versions {listed}, but this report reads only version {SCHEMA_VERSION}."
        )
    return notices


def _run_details(run: Run, label: str) -> RunDetails:
    return RunDetails(
        label=label,
        device=machine_name(run),
        started=run.started,
        profile=run.profile,
        commit=run.commit or "not known",
        command=run.command,
        records=Amount(len(run.records), "count"),
        schema_version=run.schema_version,
        settings=verification.run_settings(run),
        machine=[(name, str(value)) for name, value in run.machine.items() if value is not None],
        finding=verification.settings_finding(run),
    )
