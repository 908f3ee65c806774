"""What a judgement says in words and rows; the terminal, Markdown, JUnit and JSON all show these."""

import math
from collections import Counter

from harness.gate.judge.judgement import Finding, Judgement
from harness.statistics.meta_analysis import Effect

HEADINGS = ("case", "metric", "verdict", "change", "interval", "why")
LARGEST = math.log(1e6)
"""Beyond a ratio of a million, which only an interval that nobody can bound has, the number says nothing."""
SUMMARY = {0: "PASS: no regression", 1: "REGRESSION", 2: "CANNOT JUDGE"}


def summary(judgement: Judgement) -> str:
    """One line: the outcome and the verdicts counted."""
    counts = Counter(one.verdict for one in judgement.findings)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f"{SUMMARY[judgement.exit_code]} ({verdicts})"


def row(finding: Finding) -> tuple[str, ...]:
    """The words of one finding, as many as ``HEADINGS``."""
    metric, effect = finding.metric, finding.effect
    return (
        finding.case_id or "all cases",
        "" if metric is None else metric.name,
        finding.verdict,
        "" if effect is None else change(finding, effect.value),
        "" if effect is None else _interval(finding, effect),
        finding.reason,
    )


def shown(judgement: Judgement) -> list[Finding]:
    """Every finding that is worth a row: all but SAME and the like of cases that never ran."""
    return [one for one in judgement.findings if one.verdict != "SAME" and not one.verdict.startswith("STILL")]


def change(finding: Finding, value: float) -> str:
    """An effect as a reader wants it: ``+10.0%`` of a ratio, ``-0.013`` of a difference, signs as in the figures."""
    assert finding.metric is not None
    signed = value if finding.metric.higher_is_worse else -value
    if finding.metric.scale == "difference":
        return f"{signed:+.3g}"
    return f"{math.expm1(signed):+.1%}" if signed < LARGEST else "any"


def _interval(finding: Finding, effect: Effect) -> str:
    ends = [change(finding, one) for one in (effect.low, effect.high)]
    assert finding.metric is not None
    return " to ".join(ends if finding.metric.higher_is_worse else ends[::-1])
