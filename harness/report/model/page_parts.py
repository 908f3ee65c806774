"""What every question of the report is answered from, and the parts of a page that the answers are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.record import Run
from harness.report.model.amounts import Sentence
from harness.report.model.figures import Figure, Styles
from harness.report.model.records_table import STATUS_WORDS, ReportRow, report_rows
from harness.report.model.tables import Table


@dataclass(frozen=True)
class Evidence:
    """What a question is answered from: the runs, a label for each, the rows of all, and the style of each series."""

    runs: Sequence[Run]
    labels: Sequence[str]
    rows: Sequence[ReportRow]
    styles: Styles

    @classmethod
    def of_run(cls, run: Run) -> "Evidence":
        """One run alone, without a label and styles."""
        return cls([run], [""], report_rows(run), {})


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        title: the heading, which is also the label for screen readers.
        remarks: sentences below the plot about cases that it cannot draw.
        empty: why there is nothing to draw, where that is so.
    """

    id: str
    title: str
    figure: Figure
    remarks: list[Sentence]
    empty: str

    def remarks_as_json(self) -> dict[str, Any]:
        """The remarks with the exact values of their amounts."""
        return {"plot": self.title, "remarks": [remark.as_json() for remark in self.remarks]}


@dataclass(frozen=True)
class FacetView:
    """The plots at one combination of facets, and the sequence lengths of its cases."""

    facets: dict[str, str]
    lengths: list[int]
    plots: list[Plot]


@dataclass(frozen=True)
class Panel:
    """The views of one question, of which the page shows one at a time: the one that is nearest to the bar's place."""

    id: str
    title: str
    lead: str
    views: list[FacetView]

    @property
    def common(self) -> str:
        """The values of the facets in which all views agree."""
        values: dict[str, set[str]] = {}
        for view in self.views:
            for name, value in view.facets.items():
                values.setdefault(name, set()).add(value)
        return ", ".join(next(iter(found)) for found in values.values() if len(found) == 1)


@dataclass(frozen=True)
class Section:
    """One question for experts: a panel of plots, tables, or both. A section without either is left off the page.

    ``finding`` is one line that says what the section found; the page shows it while the section is folded.
    """

    id: str
    title: str
    finding: Sentence
    lead: str
    tables: list[Table]
    panel: Panel | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not self.tables and self.panel is None


def build_panel(id_: str, views: list[FacetView], title: str = "", lead: str = "") -> Panel:
    """A panel of these views."""
    return Panel(id_, title, lead, views)


def build_section(
    id_: str, title: str, finding: Sentence | None, lead: str, tables: Sequence[Table], panel: Panel | None = None
) -> Section:
    """A section of the tables that have rows, and of the panel if it has views.

    ``finding`` is None where there is nothing to find, because the section is empty.
    """
    return Section(
        id_,
        title,
        finding or Sentence(""),
        lead,
        [table for table in tables if table.rows],
        panel if panel is not None and panel.views else None,
    )


def numbered_id(id_: str, nth: int) -> str:
    """The id of the nth of several plots of one kind, counted from 0; the first has the plain id."""
    return f"{id_}-{nth + 1}" if nth else id_


def failure_remarks(rows: Sequence[ReportRow]) -> list[Sentence]:
    """The series without a result, for a plot that has no length axis to mark them on."""
    names = sorted({f"{row.series} ({STATUS_WORDS[row.status]})" for row in rows if not row.is_ok})
    return [Sentence(f"Without a result (reasons below): {', '.join(names)}.")] if names else []
