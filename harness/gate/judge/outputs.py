"""A judgement as text: for a terminal, a comment on a pull request (Markdown), JUnit XML and JSON."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any
from xml.etree import ElementTree

from harness.core.escaping import markdown as markdown_text
from harness.core.escaping import one_line
from harness.gate.judge.judgement import GateFinding, Judgement

MARKER = "<!-- harness gate -->"
"""The first line of the Markdown, by which CI recognises its own comment."""
JSON_VERSION = 2
"""2: ``weight`` says "inconclusive" and ``outcome`` says "INCONCLUSIVE"; version 1 had other words for it."""
HEADINGS = ("case", "metric", "verdict", "change", "interval", "why")
COMMENT_BYTES = 65_000
"""GitHub refuses a comment of more than 65,536 characters."""
SENTENCE_BYTES = 400
"""Room for what is added to a shortened comment, and for the head of its table."""
CELL_LENGTH = 500
"""Characters of a cell of a comment; the JSON has the whole text."""
NAMES_OF_WEIGHTS = {
    "regression": "regressions",
    "inconclusive": "inconclusive findings",
    "fine": "findings that are no regression",
}
LARGEST = math.log(1e6)
"""A ratio beyond a million is not printed: only a bound that the data do not determine is so large."""
OUTCOMES = {0: "PASS: no regression", 1: "REGRESSION", 2: "INCONCLUSIVE"}
"""By exit code."""


def summary(judgement: Judgement) -> str:
    """One line: the outcome, and how many findings have each verdict."""
    counts = Counter(finding.verdict for finding in judgement.findings)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f"{OUTCOMES[judgement.exit_code]} ({verdicts})"


def notable(judgement: Judgement) -> list[GateFinding]:
    """The findings that get a row: all but SAME, and cases that failed in base already (STILL ...)."""
    return [
        finding
        for finding in judgement.findings
        if finding.verdict != "SAME" and not finding.verdict.startswith("STILL")
    ]


def row(finding: GateFinding) -> tuple[str, ...]:
    """The cells of one finding, one for each of ``HEADINGS``."""
    metric, estimate = finding.metric, finding.estimate
    return (
        finding.case_id or "all cases",
        "" if metric is None else metric.name,
        finding.verdict,
        "" if estimate is None else _change(finding, estimate.value),
        "" if estimate is None else _interval(finding, estimate.low, estimate.high),
        finding.reason,
    )


def print_table(judgement: Judgement) -> None:
    """Print to standard output, in colours if that is a terminal."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    # A log file has no width: rich's default of 80 columns would break case ids in the middle.
    console = Console(soft_wrap=True) if Console().is_terminal else Console(width=200)
    colours = {"regression": "red", "inconclusive": "yellow", "fine": "green"}
    findings = notable(judgement)
    if findings:
        table = Table(*HEADINGS, box=box.SIMPLE_HEAD)
        for finding in findings:
            cells = [escape(one_line(cell)) for cell in row(finding)]
            cells[2] = f"[{colours[finding.weight]}]{cells[2]}[/]"
            table.add_row(*cells)
        console.print(table)
    for difference in judgement.differences:
        console.print(f"difference between the runs: {one_line(difference)}", markup=False)
    for note in judgement.notes:
        console.print(f"note: {one_line(note)}", markup=False)
    console.print(summary(judgement), markup=False)


def markdown(judgement: Judgement) -> str:
    """A comment for a pull request: the outcome with all verdicts counted, and a row for each notable finding.

    It has at most ``COMMENT_BYTES``. What does not fit is left out from the end, where the least important findings
    are, and a sentence counts it.
    """
    names = [markdown_text(name[:CELL_LENGTH]) for name in (judgement.base, judgement.head)]
    head = [MARKER, f"### Gate: {markdown_text(summary(judgement))}", "", f"base: {names[0]}, head: {names[1]}"]
    lists = [
        ("Differences between the two runs:", judgement.differences),
        ("Notes:", judgement.notes),
    ]
    findings = notable(judgement)
    rows = [_table_line(markdown_text(_shortened(cell)) for cell in row(finding)) for finding in findings]
    room = COMMENT_BYTES - _bytes(head) - SENTENCE_BYTES
    parts: list[str] = []
    for heading, texts in lists:
        lines = [f"- {markdown_text(_shortened(text))}" for text in texts]
        fitting = _fitting(lines, min(room, COMMENT_BYTES // 8))
        if texts:
            parts += ["", heading, "", *fitting]
            parts += [f"- and {len(lines) - len(fitting):,} more"] if len(fitting) < len(lines) else []
    fitting = _fitting(rows, room - _bytes(parts))
    table = ["", _table_line(HEADINGS), _table_line(["---"] * len(HEADINGS)), *fitting] if findings else []
    left_out = Counter(finding.weight for finding in findings[len(fitting) :])
    if left_out:
        counts = ", ".join(f"{count:,} {NAMES_OF_WEIGHTS[weight]}" for weight, count in left_out.items())
        table += ["", f"The table is shortened to the length of a comment: it leaves out {counts}."]
    return "\n".join([*head, *table, *parts]) + "\n"


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
            message = _xml(" ".join(cell for cell in row(finding)[2:] if cell))
            ElementTree.SubElement(test, kind, message=message, type=finding.verdict)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def as_json(judgement: Judgement) -> str:
    """Everything, for programs; docs/gating.md lists the keys."""
    return json.dumps(
        {
            "version": JSON_VERSION,
            "outcome": summary(judgement),
            "exit_code": judgement.exit_code,
            "base": judgement.base,
            "head": judgement.head,
            "differences": list(judgement.differences),
            "notes": list(judgement.notes),
            "findings": [_fields(finding) for finding in judgement.findings],
        },
        indent=1,
    )


def _change(finding: GateFinding, value: float) -> str:
    """The change of the metric itself: ``+10.0%`` for a ratio, ``-0.013`` for a difference; ``any`` if unbounded."""
    assert finding.metric is not None
    signed = value if finding.metric.higher_is_worse else -value
    if finding.metric.scale == "difference":
        return f"{signed:+.3g}"
    return f"{math.expm1(signed):+.1%}" if signed < LARGEST else "any"


def _interval(finding: GateFinding, low: float, high: float) -> str:
    ends = [_change(finding, end) for end in (low, high)]
    assert finding.metric is not None
    return " to ".join(ends if finding.metric.higher_is_worse else ends[::-1])


def _fields(finding: GateFinding) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "case": finding.case_id,
        "metric": finding.metric.name if finding.metric else None,
        "verdict": finding.verdict,
        "weight": finding.weight,
        "reason": finding.reason,
    }
    if finding.estimate is not None and finding.metric is not None:
        estimate = finding.estimate
        fields |= {
            "scale": "log ratio" if finding.metric.scale == "ratio" else f"difference in {finding.metric.unit}",
            "effect, above 0 where worse": estimate.value,
            "interval": [estimate.low, estimate.high],
            "floor": finding.floor,
            "standard_error": estimate.standard_error,
            "rounds": estimate.rounds,
        }
    return fields


def _fitting(lines: Sequence[str], room: int) -> list[str]:
    """The first lines, as many as fit into so many bytes."""
    ends = accumulate(_bytes([line]) for line in lines)
    return [line for line, end in zip(lines, ends, strict=True) if end <= room]


def _bytes(lines: Iterable[str]) -> int:
    """Bytes of the lines with their line breaks: at least as many as characters, which GitHub counts."""
    return sum(len(line.encode()) + 1 for line in lines)


def _shortened(cell: str) -> str:
    return (
        cell if len(cell) <= CELL_LENGTH else f"{cell[:CELL_LENGTH]}... ({len(cell) - CELL_LENGTH:,} more characters)"
    )


def _table_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _xml(text: str) -> str:
    """``text`` with the control characters that XML cannot hold replaced by question marks."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text)
