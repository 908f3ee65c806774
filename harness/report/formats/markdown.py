"""The report as Markdown: the sentences and tables of the page, for a pull request or a README."""

import re

from harness.report.comparison import Comparison
from harness.report.model.tables import Table


def render(comparison: Comparison) -> str:
    """The report in GitHub's Markdown; everything that comes from records is escaped."""
    parts = ["# Attentions compared", *(f"> {_text(notice)}" for notice in comparison.notices)]
    for run in comparison.runs:
        parts.append(_text(f"{run.started}, {run.profile} profile, {run.device}, commit {run.commit}"))
    for summary in comparison.summaries:
        parts += [f"## {_text(summary.heading)}"] if summary.heading else []
        parts.append("\n".join(f"- {_text(str(sentence))}" for sentence in summary.sentences))
    parts += [_text(paragraph) for paragraph in comparison.reading]
    for section in comparison.sections:
        if section.tables:
            parts += [f"## {section.title}", _text(section.lead), *(_table(table) for table in section.tables)]
    if comparison.failures:
        parts.append("## Cases without a result, and why")
        parts.append(
            "\n".join(
                f"- **{group.status}**, {_text(group.attention)}, cases: {group.count}. "
                + _text("; ".join(group.reasons))
                for group in comparison.failures
            )
        )
    parts.append("## Reproduce")
    parts += ["\n".join("    " + line for line in run.command.splitlines()) for run in comparison.runs]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(table: Table) -> str:
    rule = ["---:" if name in table.numeric_columns else "---" for name in table.columns]
    names = [_text(name) for name in table.columns]
    rows = [[_text(str(cell)) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(row) + " |" for row in (names, rule, *rows)]
    heading = [f"**{_text(table.title)}**"] if table.title else []
    note = [_text(table.note)] if table.note else []
    return "\n\n".join([*heading, *note, "\n".join(lines)])


def _text(words: str) -> str:
    """The words on one line, with the characters escaped that are special in Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>|#&~])", r"\\\1", " ".join(words.split()))
