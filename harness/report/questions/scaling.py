"""How time grows with length, and where one attention becomes faster than another."""

from math import inf

import pandas as pd

from harness.report.model import units
from harness.report.model.records_table import Facets, times_by_length, views
from harness.report.model.sentence import Sentence, say
from harness.report.model.tables import Cell, Table, with_facets
from harness.report.model.units import Amount
from harness.statistics import growth

EXPONENT_FROM = 512
REFERENCES = ("softmax", "sdpa", "bert · sdpa")
_KINDS = ("operation", "model")


def exponents(table: pd.DataFrame) -> list[Table]:
    """Fitted slopes of log(time) on log(length), one table a level; too few lengths are said, not hidden."""
    found = []
    for kind in _KINDS:
        rows: list[tuple[Facets, list[Cell]]] = []
        without: list[list[growth.NoAnswer]] = []
        for facets, view in views(table, kind).items():
            fits = {
                series: growth.scaling_exponent(times, EXPONENT_FROM) for series, times in times_by_length(view).items()
            }
            missing = [fit for fit in fits.values() if isinstance(fit, growth.NoAnswer)]
            if missing and len(missing) == len(fits):
                without.append(missing)
                continue
            for series, fit in fits.items():
                if isinstance(fit, growth.NoAnswer):
                    rows.append((facets, [series, units.ABSENT, _reason(fit)]))
                else:
                    exponent = Amount(fit.value, "number", fit.low, fit.high)
                    rows.append((facets, [series, exponent, _span(fit.lengths)]))
        if without:
            rows.append(((), _nowhere(without)))
        columns = ["Attention", f"Exponent [{units.LEVEL_WORDS}]", "Lengths"]
        found.append(with_facets(kind.capitalize(), columns, rows))
    return [one for one in found if one.rows]


def _nowhere(settings: list[list[growth.NoAnswer]]) -> list[Cell]:
    """One row for all settings in which no attention has a slope: each on its own would bury those that have."""
    lengths, first, needed = max(one.numbers for missing in settings for one in missing)
    where = say("every attention (settings: {})", Amount(len(settings), "count"))
    why = say(
        "not enough lengths: at most {} from {} on, {} are needed",
        *(Amount(number, "count") for number in (lengths, first, needed)),
    )
    return [where, units.ABSENT, why]


def crossovers(table: pd.DataFrame) -> list[Table]:
    """Where each attention becomes faster than each reference, one table a level."""
    found = []
    for kind in _KINDS:
        rows: list[tuple[Facets, list[Cell]]] = []
        for facets, view in views(table, kind).items():
            times = times_by_length(view)
            for reference in (name for name in REFERENCES if name in times):
                for series in (name for name in times if name != reference):
                    answer = growth.crossover(times[series], times[reference])
                    rows.append((facets, [series, reference, *_crossover_cells(answer)]))
        columns = ["Attention", "Against", "Verdict", f"Length [{units.LEVEL_WORDS}]", "Agreement", "Measured"]
        found.append(with_facets(kind.capitalize(), columns, rows))
    return [one for one in found if one.rows]


def undecided(answer: growth.Crossover) -> bool:
    """Whether the interval of a crossing reaches past both ends of the measured lengths."""
    return answer.low == -inf and answer.high == inf


def crossing_length(answer: growth.Crossover) -> Cell:
    """Where the crossing is, with its interval; a bound outside the measured lengths is said to be there."""
    if answer.length is None or undecided(answer):
        return units.ABSENT
    if answer.low is None or answer.high is None:
        return Amount(answer.length, "tokens")
    low = f"below {units.length(answer.lengths[0])}" if answer.low == -inf else units.length(answer.low)
    high = f"above {units.length(answer.lengths[-1])}" if answer.high == inf else units.length(answer.high)
    return Amount(
        answer.length,
        "tokens",
        None if answer.low == -inf else answer.low,
        None if answer.high == inf else answer.high,
        f"{units.length(answer.length)} [{low}, {high}]",
    )


def _crossover_cells(answer: growth.Crossover | growth.NoAnswer) -> list[Cell]:
    if isinstance(answer, growth.NoAnswer):
        return [_reason(answer), units.ABSENT, units.ABSENT, units.ABSENT]
    verdict: Cell = "no clear order" if undecided(answer) else answer.verdict
    if answer.crossings > 1:
        verdict = say("{} (changes {} times)", verdict, Amount(answer.crossings, "count"))
    return [verdict, crossing_length(answer), Amount(answer.agreement, "fraction"), _span(answer.lengths)]


def _span(lengths: tuple[int, ...]) -> Sentence:
    first, last = Amount(lengths[0], "tokens"), Amount(lengths[-1], "tokens")
    return say("{} from {} to {}", Amount(len(lengths), "count"), first, last)


def _reason(missing: growth.NoAnswer) -> Sentence:
    return Sentence(missing.reason, tuple(Amount(number, "count") for number in missing.numbers))
