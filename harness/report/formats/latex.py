"""The tables of the report in LaTeX, for the packages booktabs and longtable."""

import pandas as pd

from harness.core.escaping import latex
from harness.report.comparison import Comparison
from harness.report.model.tables import Table

PREAMBLE = "% \\usepackage{booktabs,longtable}, with XeLaTeX or LuaLaTeX\n"


def render(comparison: Comparison) -> str:
    """Every table of the sections, each with its caption."""
    tables = [(section.title, table) for section in comparison.sections for table in section.tables]
    return PREAMBLE + "\n".join(_longtable(title, table) for title, table in tables)


def _longtable(section: str, table: Table) -> str:
    cells = pd.DataFrame([[str(cell) for cell in row] for row in table.rows], columns=table.columns)
    formats = "".join("r" if name in table.numeric_columns else "l" for name in table.columns)
    caption = ". ".join(part for part in (section, table.title, str(table.note).removesuffix(".")) if part)
    return str(
        cells.map(latex)
        .rename(columns=latex)
        .to_latex(index=False, escape=False, longtable=True, column_format=formats, caption=latex(caption))
    )
