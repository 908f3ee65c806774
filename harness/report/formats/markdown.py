"""The view model as Markdown: the words and tables of the page, for a pull request or a README."""

import re

from harness.report.model.comparison import Comparison
from harness.report.model.tables import Table


def render(comparison: Comparison) -> str:
    """The report as GitHub's Markdown; names from records stand in it as text."""
    parts = ["# Attentions compared", *(f"> {_text(notice)}" for notice in comparison.notices)]
    for run in comparison.runs:
        parts.append(_text(f"{run.started}, {run.profile} profile, {run.device}, commit {run.commit}"))
    for answer in comparison.answers:
        parts += [f"## {_text(answer.heading)}"] if answer.heading else []
        parts.append("\n".join(f"- {_text(str(sentence))}" for sentence in answer.sentences))
    parts += [_text(paragraph) for paragraph in comparison.reading]
    for section in comparison.sections:
        if section.tables:
            parts += [f"## {section.title}", _text(section.lead), *(_table(table) for table in section.tables)]
    if comparison.failures:
        parts.append("## What did not run, and why")
        parts.append(
            "\n".join(
                f"- **{one.status}**, {_text(one.attention)}, cases: {one.count}. " + _text("; ".join(one.reasons))
                for one in comparison.failures
            )
        )
    parts.append("## Reproduce")
    parts += ["\n".join("    " + line for line in run.command.splitlines()) for run in comparison.runs]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(table: Table) -> str:
    rule = ["---:" if name in table.right else "---" for name in table.columns]
    names = [_text(name) for name in table.columns]
    rows = [[_text(str(cell)) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(row) + " |" for row in (names, rule, *rows)]
    heading = [f"**{_text(table.title)}**"] if table.title else []
    note = [f"In every row: {_text(table.note)}."] if table.note else []
    return "\n\n".join([*heading, *note, "\n".join(lines)])


def _text(words: str) -> str:
    """On one line, with everything escaped that Markdown or the HTML in it would take for more than text."""
    return re.sub(r"([\\`*_\[\]<>|#&~])", r"\\\1", " ".join(words.split()))
