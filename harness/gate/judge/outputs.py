"""A judgement in a terminal, as a comment of a pull request, as JUnit and as JSON."""

import json
from typing import Any
from xml.etree import ElementTree

from harness.gate.judge.finding_rows import HEADINGS, row, shown, summary
from harness.gate.judge.judgement import Finding, Judgement

MARKER = "<!-- harness gate -->"
"""The first line of the Markdown, by which CI finds its own comment again."""
JSON_VERSION = 1


def print_table(judgement: Judgement) -> None:
    """To standard output, in colours where that is a terminal."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    # A log has no width: 80 columns would break case ids in the middle.
    console = Console(soft_wrap=True) if Console().is_terminal else Console(width=200)
    colours = {"regression": "red", "cannot judge": "yellow", "fine": "green"}
    rows = shown(judgement)
    if rows:
        table = Table(*HEADINGS, box=box.SIMPLE_HEAD)
        for finding in rows:
            words = [escape(word) for word in row(finding)]
            words[2] = f"[{colours[finding.weight]}]{words[2]}[/]"
            table.add_row(*words)
        console.print(table)
    for difference in judgement.differences:
        console.print(f"not the same: {difference}", markup=False)
    console.print(summary(judgement), markup=False)


def markdown(judgement: Judgement) -> str:
    """For a comment: the outcome, what is worth a row, and the rest counted."""
    lines = [MARKER, f"### Gate: {_plain(summary(judgement))}", "", f"`{judgement.base}` against `{judgement.head}`"]
    rows = shown(judgement)
    if rows:
        lines += ["", _bar(HEADINGS), _bar(["---"] * len(HEADINGS))]
        lines += [_bar([_plain(word) for word in row(one)]) for one in rows]
    if judgement.differences:
        lines += ["", "Not the same about the two runs:", ""]
        lines += [f"- {_plain(one)}" for one in judgement.differences]
    return "\n".join(lines) + "\n"


def junit(judgement: Judgement) -> str:
    """One test a finding: a regression is a failure, what cannot be judged an error."""
    regressions, unknown = (len(judgement.with_weight(weight)) for weight in ("regression", "cannot judge"))
    suite = ElementTree.Element(
        "testsuite",
        name="harness gate",
        tests=str(len(judgement.findings)),
        failures=str(regressions),
        errors=str(unknown),
    )
    for finding in judgement.findings:
        name = f"{finding.case_id or 'all cases'} {finding.metric.name if finding.metric else 'status'}"
        test = ElementTree.SubElement(suite, "testcase", classname="harness.gate", name=_xml(name))
        if finding.weight != "fine":
            kind = "failure" if finding.weight == "regression" else "error"
            words = _xml(" ".join(word for word in row(finding)[2:] if word))
            ElementTree.SubElement(test, kind, message=words, type=finding.verdict)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def as_json(judgement: Judgement) -> str:
    """Everything, for programs."""
    return json.dumps(
        {
            "version": JSON_VERSION,
            "outcome": summary(judgement),
            "exit_code": judgement.exit_code,
            "base": judgement.base,
            "head": judgement.head,
            "differences": list(judgement.differences),
            "findings": [_fields(one) for one in judgement.findings],
        },
        indent=1,
    )


def _fields(finding: Finding) -> dict[str, Any]:
    found: dict[str, Any] = {
        "case": finding.case_id,
        "metric": finding.metric.name if finding.metric else None,
        "verdict": finding.verdict,
        "weight": finding.weight,
        "reason": finding.reason,
    }
    if finding.effect is not None and finding.metric is not None:
        effect = finding.effect
        found |= {
            "scale": "log ratio" if finding.metric.scale == "ratio" else f"difference in {finding.metric.unit}",
            "effect, above 0 where worse": effect.value,
            "interval": [effect.low, effect.high],
            "floor": finding.floor,
            "standard_error": effect.standard_error,
            "rounds": effect.rounds,
        }
    return found


def _bar(words: Any) -> str:
    return f"| {' | '.join(words)} |"


def _plain(word: str) -> str:
    """Nothing in it is Markdown or HTML, and it is one line."""
    word = " ".join(word.split())
    for sign in "\\`*_{}[]<>|#@":
        word = word.replace(sign, f"\\{sign}" if sign not in "<>@" else f"&#{ord(sign)};")
    return word


def _xml(word: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in word)
