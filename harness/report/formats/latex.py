"""The tables of the view model in LaTeX, for booktabs and longtable."""

import pandas as pd

from harness.report.model.comparison import Comparison
from harness.report.model.tables import Table

PREAMBLE = "% \\usepackage{booktabs,longtable}, with XeLaTeX or LuaLaTeX\n"


def render(comparison: Comparison) -> str:
    """Every table of the expert sections, and what was verified, each with its caption."""
    found = [(section.title, table) for section in comparison.sections for table in section.tables]
    found += [("Verified before timing", run.verification) for run in comparison.runs if run.verification.rows]
    return PREAMBLE + "\n".join(_table(title, table) for title, table in found)


def _table(section: str, table: Table) -> str:
    frame = pd.DataFrame([[str(cell) for cell in row] for row in table.rows], columns=table.columns)
    formats = "".join("r" if name in table.right else "l" for name in table.columns)
    caption = ". ".join(part for part in (section, table.title, table.note) if part)
    return str(
        frame.map(_escaped)
        .rename(columns=_escaped)
        .to_latex(index=False, escape=False, longtable=True, column_format=formats, caption=_escaped(caption))
    )


_SPECIAL = {character: "\\" + character for character in "#$%&_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\n": " ",
    "\r": " ",
}


def _escaped(words: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in words)
