"""The report as Markdown: the sentences and tables of the page, for a pull request or a README."""

from harness.core.escaping import markdown
from harness.report.comparison import Comparison
from harness.report.model.tables import Table


def render(comparison: Comparison) -> str:
    """The report in GitHub's Markdown; everything that comes from records is escaped."""
    parts = ["# Attentions compared", *(f"> {markdown(notice)}" for notice in comparison.notices)]
    for run in comparison.runs:
        parts.append(markdown(f"{run.started}, {run.profile} profile, {run.device}, commit {run.commit}"))
    for summary in comparison.summaries:
        parts += [f"## {markdown(summary.heading)}"] if summary.heading else []
        parts.append("\n".join(f"- {markdown(str(sentence))}" for sentence in summary.sentences))
    parts += [markdown(paragraph) for paragraph in comparison.reading]
    for section in comparison.sections:
        if section.tables:
            about = markdown(f"{section.finding} {section.lead}")
            parts += [f"## {section.title}", about, *(_table(table) for table in section.tables)]
    parts.append("## Reproduce")
    parts += ["\n".join("    " + line for line in run.command.splitlines()) for run in comparison.runs]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(table: Table) -> str:
    rule = ["---:" if name in table.numeric_columns else "---" for name in table.columns]
    names = [markdown(name) for name in table.columns]
    rows = [[markdown(str(cell)) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(row) + " |" for row in (names, rule, *rows)]
    heading = [f"**{markdown(table.title)}**"] if table.title else []
    note = [markdown(str(table.note))] if str(table.note) else []
    return "\n\n".join([*heading, *note, "\n".join(lines)])
