"""A judgement as text: for a terminal, a comment on a pull request (Markdown), JUnit XML and JSON."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from harness.core.case_words import CaseWords, case_words
from harness.core.escaping import markdown as markdown_text
from harness.core.escaping import one_line
from harness.core.setting_error import SettingError, explanation
from harness.gate.judge.case_rows import (
    NAMED_CASES,
    CaseRow,
    Kind,
    case_counts,
    case_rows,
    change,
    folded_words,
    grouped,
    interval,
    result_of,
    sentence,
)
from harness.gate.judge.judgement import GateFinding, Judgement, Role
from harness.statistics.disturbed_run import RunDisturbance

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MARKER = "<!-- harness gate -->"
"""The first line of the Markdown, by which CI recognises its own comment."""
JSON_VERSION = 2
"""2: ``weight`` says "inconclusive" and ``outcome`` says "INCONCLUSIVE"; version 1 had other words for it."""
HEADINGS = ("case", "base -> head", "change [interval]", "error", "verdict", "why")
FOLDED_HEADINGS = HEADINGS[:-1]
COMMENT_BYTES = 65_000
"""GitHub refuses a comment of more than 65,536 characters."""
SENTENCE_BYTES = 1_000
"""Room for what is added to a shortened comment, and for the heads of its tables."""
TEXT_LENGTH = 500
"""Characters of a reason, a difference or a note in a comment; the JSON has the whole text."""
OUTCOMES = {0: "PASS: no regression", 1: "REGRESSION", 2: "INCONCLUSIVE"}
"""By exit code."""
COLOURS: dict[Kind, str] = {"regression": "red", "inconclusive": "yellow", "invalid": "yellow", "pass": "green"}
CASES_OF_KIND: dict[Kind, str] = {
    "regression": "regressions",
    "inconclusive": "inconclusive cases",
    "invalid": "invalid cases",
    "pass": "cases that pass",
}
LOG_WIDTH = 140
"""Columns of a table in a log file, which has no width of its own."""
UNLIMITED = 10_000
"""Columns in which the width of a table is measured before it is printed."""
NARROW_ERROR, NARROW_VERDICT = 11, 13
"""Columns of a narrow table that these two may have: their longest words."""
_ADDRESS = re.compile(r"https?://[A-Za-z0-9./:%?=&#~+_-]+")


def summary(judgement: Judgement) -> str:
    """One line: the outcome, and how many findings have each verdict."""
    counts = Counter(finding.verdict for finding in judgement.findings)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f"{OUTCOMES[judgement.exit_code]} ({verdicts})"


def print_judgement(judgement: Judgement, console: "Console | None" = None) -> None:
    """Print to ``console``; None: to standard output, in colours if that is a terminal."""
    from rich.console import Console

    # A log file has no width: rich's default of 80 columns would break names of cases in the middle.
    console = console or (Console() if Console().is_terminal else Console(width=LOG_WIDTH))
    rows = case_rows(judgement)
    not_folded = grouped(row for row in rows if not row.folded)
    table_rows = [row for row in not_folded if row.case_id and not row.others]
    names = case_words(row.case_id for row in rows if row.case_id and not row.folded)
    _say(console, sentence(judgement), COLOURS[result_of(judgement)])
    if names.shared:
        _say(console, f"all cases: {names.shared}")
    if table_rows:
        table = _table(table_rows, names, wide=True)
        fits = console.measure(table, options=console.options.update(width=UNLIMITED)).maximum <= console.width
        console.print(table if fits else _table(table_rows, names, wide=False))
        _say(console, _explanation(judgement, table_rows))
    cases_by_reason: dict[str, list[str]] = {}
    for row in (row for row in not_folded if not row.others):
        for reason in row.reasons:
            cases_by_reason.setdefault(reason, []).append(names[row.case_id] if row.case_id else "all cases")
    for reason, cases in cases_by_reason.items():
        _say(console, f"why ({_first_names(cases)}): {_without_differences(judgement, reason)}")
    for row in (row for row in not_folded if row.others):
        verdict, cases = row.lines[0].verdict, [names[case_id] for case_id in row.case_ids]
        _say(console, f"{len(cases):,} cases, {verdict} ({_first_names(cases)}): {'; '.join(row.reasons)}")
    if not_folded and (folded := folded_words(rows)):
        _say(console, f"not in the table: {folded}")
    for difference in judgement.differences:
        _say(console, f"difference between the runs: {difference}")
    for text in _disturbances(judgement):
        _say(console, text, COLOURS["inconclusive"])
    for note in judgement.notes:
        _say(console, f"note: {note}")
    for label, text in _origin(judgement):
        _say(console, f"{label}: {text}")


def markdown(judgement: Judgement) -> str:
    """A comment for a pull request: the result in a sentence, a row for each case that differs, the others folded.

    It has at most ``COMMENT_BYTES``. What does not fit is left out, the least important cases first, and a sentence
    counts it. No name of a case is cut.
    """
    rows = case_rows(judgement)
    names = [markdown_text(name[:TEXT_LENGTH]) for name in (judgement.base, judgement.head)]
    head = [
        MARKER,
        f"### Gate: {result_of(judgement).upper()}",
        "",
        markdown_text(_shortened(sentence(judgement))),
        "",
        f"base: {names[0]}, head: {names[1]}",
    ]
    end: list[str] = []
    for label, text in _origin(judgement):
        end += ["", f"{label}: {_place(_shortened(text))}"]
    room = COMMENT_BYTES - _bytes(head) - _bytes(end) - SENTENCE_BYTES
    lists: list[str] = []
    for heading, texts in (
        ("Differences between the two runs:", judgement.differences),
        ("Disturbances:", _disturbances(judgement)),
        ("Notes:", judgement.notes),
    ):
        lines = [f"- {markdown_text(_shortened(text))}" for text in texts]
        fitting = _fitting(lines, min(room, COMMENT_BYTES // 8))
        if texts:
            lists += ["", heading, "", *fitting]
            lists += [f"- and {len(lines) - len(fitting):,} more"] if len(fitting) < len(lines) else []
    shown = [
        replace(row, reasons=tuple(_without_differences(judgement, reason) for reason in row.reasons))
        for row in grouped(row for row in rows if not row.folded)
    ]
    table = _markdown_table(shown, HEADINGS, room - _bytes(lists))
    folded = [row for row in rows if row.folded]
    if folded:
        inside = _markdown_table(folded, FOLDED_HEADINGS, room - _bytes(lists) - _bytes(table))
        opening = f"<details><summary>{markdown_text(folded_words(rows))}</summary>"
        table += ["", opening, *inside, "", "</details>"]
    if explained := _explanation(judgement, rows):
        table += ["", markdown_text(explained)]
    return "\n".join([*head, *table, *lists, *end]) + "\n"


def junit(judgement: Judgement) -> str:
    """One test per finding: a regression is a failure, an inconclusive finding an error."""
    regressions, inconclusive = (len(judgement.with_weight(weight)) for weight in ("regression", "inconclusive"))
    suite = ElementTree.Element(
        "testsuite",
        name="harness gate",
        tests=str(len(judgement.findings)),
        failures=str(regressions),
        errors=str(inconclusive),
    )
    for finding in judgement.findings:
        name = f"{finding.case_id or 'all cases'} {finding.metric.name if finding.metric else 'status'}"
        test = ElementTree.SubElement(suite, "testcase", classname="harness.gate", name=_xml(name))
        if finding.weight != "fine":
            kind = "failure" if finding.weight == "regression" else "error"
            message = _xml(" ".join(filter(None, [finding.verdict, *_change_and_interval(finding), finding.reason])))
            ElementTree.SubElement(test, kind, message=message, type=finding.verdict)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def as_json(judgement: Judgement) -> str:
    """Everything, for programs; docs/gating.md lists the keys."""
    return json.dumps(
        {
            "version": JSON_VERSION,
            "result": result_of(judgement),
            "sentence": sentence(judgement),
            "outcome": summary(judgement),
            "exit_code": judgement.exit_code,
            "cases": dict(case_counts(judgement)),
            "base": judgement.base,
            "head": judgement.head,
            "machine": judgement.machine,
            "command": judgement.command,
            "report": judgement.report,
            "differences": list(judgement.differences),
            "disturbances": {
                role: disturbance.as_json() | {"sentence": _disturbance_words(judgement, role, disturbance)}
                for role, disturbance in judgement.disturbances.items()
            },
            "groups": [
                {
                    "result": row.kind,
                    "reasons": list(row.reasons),
                    "cases": len(row.case_ids),
                    "first": list(row.case_ids[:NAMED_CASES]),
                }
                for row in grouped(case_rows(judgement))
                if row.others
            ],
            "notes": list(judgement.notes),
            "findings": [_fields(judgement, finding) for finding in judgement.findings],
        },
        indent=1,
    )


def _say(console: "Console", text: str, colour: str = "") -> None:
    """One paragraph, which a terminal wraps between words; nothing in it is markup. No text is no paragraph."""
    from rich.text import Text

    if not text:
        return
    console.print(Text(one_line(text), style=colour), soft_wrap=not console.is_terminal)


def _table(rows: Sequence[CaseRow], names: CaseWords, wide: bool) -> "Table":
    """One row a case, with a further line for each metric beyond the first. A narrow table breaks each line in two.

    A column in which no row has anything is left out.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    gap = " " if wide else "\n"
    lines: list[tuple[Text, ...]] = []
    for row in rows:
        for number, line in enumerate(row.lines):
            values = line.values.replace(" -> ", f"{gap}-> ")
            label = f"{line.metric}:{gap}" if values and line.metric != "time" else ""
            cells = (
                "" if number else names[row.case_id],
                label + values,
                gap.join(filter(None, [line.change, line.interval])),
                "" if number else row.error,
            )
            lines.append((*map(Text, cells), Text(line.verdict, style=COLOURS[line.kind])))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    headings = ("case", f"base{gap}-> head", f"change{gap}[interval]", "error", "verdict")
    widths = (None, None, None, NARROW_ERROR, NARROW_VERDICT)
    used = [place for place in range(len(headings)) if any(texts[place] for texts in lines)]
    for place in used:
        table.add_column(Text(headings[place]), overflow="fold", max_width=None if wide else widths[place])
    for texts in lines:
        table.add_row(*(texts[place] for place in used))
    return table


def _explanation(judgement: Judgement, rows: Sequence[CaseRow]) -> str:
    return explanation(error for row in rows for error in judgement.errors.get(row.case_id, ()))


def _first_names(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - NAMED_CASES:,} more" if len(cases) > NAMED_CASES else ""
    return "; ".join(cases[:NAMED_CASES]) + more


def _without_differences(judgement: Judgement, reason: str) -> str:
    """A reason that does not repeat the differences between the runs, which have lines of their own."""
    if not judgement.differences:
        return reason
    return reason.replace("; ".join(judgement.differences), "see the differences between them")


def _disturbances(judgement: Judgement) -> list[str]:
    return [_disturbance_words(judgement, role, found) for role, found in judgement.disturbances.items()]


def _disturbance_words(judgement: Judgement, role: Role, disturbance: RunDisturbance) -> str:
    """What disturbed the measurement of base or head, and what follows for the comparison."""
    follows = (
        "Base and head were measured in turns, so that it affected both alike and the changes remain comparable."
        if judgement.interleaved
        else "Its times may be too long, and unequally so: repeat it on an idle machine before relying on a verdict "
        "on time."
    )
    return f"{role} was {disturbance.what}. {follows}"


def _origin(judgement: Judgement) -> list[tuple[str, str]]:
    """Where the judgement comes from and where more is, as far as it is known, with labels."""
    labelled = (("machine", judgement.machine), ("report", judgement.report), ("reproduce", judgement.command))
    return [(label, text) for label, text in labelled if text]


def _place(text: str) -> str:
    """An address as a link, and a path or a command as code, for Markdown."""
    if _ADDRESS.fullmatch(text):
        return f"<{text}>"
    return markdown_text(text) if "`" in text else f"`{one_line(text)}`"


def _markdown_table(rows: Sequence[CaseRow], headings: Sequence[str], room: int) -> list[str]:
    """A blank line, the table with the rows that fit into so many bytes, and a sentence that counts the others."""
    if not rows:
        return []
    lines = {id(row): _table_line(_markdown_cells(row)[: len(headings)]) for row in rows}
    fitting = set(_fitting([*lines.values()], room))
    left_out = Counter(row.kind for row in rows if lines[id(row)] not in fitting for _ in row.case_ids)
    table = ["", _table_line(headings), _table_line(["---"] * len(headings))]
    table += [line for line in lines.values() if line in fitting]
    if left_out:
        counts = ", ".join(f"{count:,} {CASES_OF_KIND[kind]}" for kind, count in left_out.items())
        table += ["", f"The table is shortened to the length of a comment: it leaves out {counts}."]
    return table


def _markdown_cells(row: CaseRow) -> list[str]:
    """One cell for each of ``HEADINGS``, escaped; every metric has its own line in a cell."""
    values = [f"{line.metric} {line.values}" if line.values else "" for line in row.lines]
    changes = [" ".join(filter(None, [line.change, line.interval])) for line in row.lines]
    return [
        markdown_text(
            f"{len(row.case_ids):,} cases: {_first_names(row.case_ids)}" if row.others else row.case_id or "all cases"
        ),
        *("<br>".join(map(markdown_text, lines)) for lines in (values, changes)),
        markdown_text(row.error),
        "<br>".join(markdown_text(line.verdict) for line in row.lines),
        "<br>".join(markdown_text(_shortened(reason)) for reason in row.reasons),
    ]


def _change_and_interval(finding: GateFinding) -> list[str]:
    estimate = finding.estimate
    if estimate is None:
        return []
    return [change(finding, estimate.value), interval(finding, estimate.low, estimate.high)]


def _fields(judgement: Judgement, finding: GateFinding) -> dict[str, Any]:
    metric = finding.metric
    fields: dict[str, Any] = {
        "case": finding.case_id,
        "metric": metric.name if metric else None,
        "verdict": finding.verdict,
        "weight": finding.weight,
        "reason": finding.reason,
    }
    if metric is not None and finding.base_value is not None and finding.head_value is not None:
        fields |= {"base_value": finding.base_value, "head_value": finding.head_value, "unit": metric.unit}
    if finding.case_id:
        errors = judgement.errors.get(finding.case_id, (None, None))
        fields |= {"base_error": _error_fields(errors[0]), "head_error": _error_fields(errors[1])}
    if finding.estimate is not None and metric is not None:
        estimate = finding.estimate
        fields |= {
            "scale": "log ratio" if metric.scale == "ratio" else f"difference in {metric.unit}",
            "effect, above 0 where worse": estimate.value,
            "interval": [estimate.low, estimate.high],
            "floor": finding.floor,
            "standard_error": estimate.standard_error,
            "rounds": estimate.rounds,
        }
    return fields


def _error_fields(error: SettingError | None) -> dict[str, Any] | None:
    return None if error is None else {"value": error.value, "tensor": error.tensor, "inputs": error.inputs}


def _fitting(lines: Sequence[str], room: int) -> list[str]:
    """The lines that fit into so many bytes, the first ones first; a line that is too long alone is left out."""
    fitting: list[str] = []
    for line in lines:
        size = _bytes([line])
        if size <= room:
            fitting.append(line)
            room -= size
    return fitting


def _bytes(lines: Iterable[str]) -> int:
    """Bytes of the lines with their line breaks: at least as many as characters, which GitHub counts."""
    return sum(len(line.encode()) + 1 for line in lines)


def _shortened(text: str) -> str:
    return (
        text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}... ({len(text) - TEXT_LENGTH:,} more characters)"
    )


def _table_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _xml(text: str) -> str:
    """``text`` with the control characters that XML cannot hold replaced by question marks."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text)
