"""A table of the report: words, amounts and sentences, which every output format writes in its own way."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.report.model.amounts import ABSENT, Amount, Sentence, join
from harness.report.model.facets import Facets

Cell = str | Amount | Sentence


@dataclass(frozen=True)
class Table:
    """Rows of cells. ``note`` is a sentence about all rows, such as the facets that they have in common.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """

    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    note: Sentence = field(default_factory=lambda: Sentence(""))

    def __post_init__(self) -> None:
        uneven = [row for row in self.rows if len(row) != len(self.columns)]
        if uneven:
            raise ValueError(
                f"rows must have {len(self.columns)} cells, one for each of {self.columns}, got {uneven[0]}"
            )

    @cached_property
    def numeric_columns(self) -> frozenset[str]:
        """The columns that hold numbers and are aligned to the right."""
        numeric = {place for row in self.rows for place, cell in enumerate(row) if isinstance(cell, Amount)}
        return frozenset(self.columns[place] for place in numeric)

    def as_json(self) -> dict[str, Any]:
        """The table with the exact values of its amounts."""
        rows = [[cell if isinstance(cell, str) else cell.as_json() for cell in row] for row in self.rows]
        return {"title": self.title, "note": self.note.as_json(), "columns": self.columns, "rows": rows}


def table_with_facets(
    title: str,
    columns: list[str],
    rows: list[tuple[Facets, list[Cell]]],
    implied: str | None = None,
    note: Sentence | None = None,
) -> Table:
    """A table of rows from several settings: facets that differ become columns, the others become the note. A column
    without any value is left off.

    ``note`` is a further sentence of the note. The facet ``implied`` is left out where the other facets already tell
    its values apart.
    """
    kept = [place for place in range(len(columns)) if not rows or any(own[place] != ABSENT for _, own in rows)]
    columns = [columns[place] for place in kept]
    rows = [(facets, [own[place] for place in kept]) for facets, own in rows]
    others = {tuple(pair for pair in facets if pair[0] != implied) for facets, _ in rows}
    if len(others) == len({facets for facets, _ in rows}) > 1:
        rows = [(tuple(pair for pair in facets if pair[0] != implied), cells) for facets, cells in rows]
    values: dict[str, list[str]] = {}
    for facets, _ in rows:
        for name, value in facets:
            if value not in values.setdefault(name, []):
                values[name].append(value)
    varying = [name for name, distinct in values.items() if len(distinct) > 1]
    cells: list[list[Cell]] = [[*(dict(facets).get(name, "") for name in varying), *own] for facets, own in rows]
    common = ", ".join(distinct[0] for distinct in values.values() if len(distinct) == 1)
    sentences = [f"In every row: {common}."] if common else []
    return Table(title, varying + columns, cells, join([*sentences, note] if note else sentences, " "))
