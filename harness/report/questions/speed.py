"""How fast is it? Times against length, how they grow, and where one attention becomes faster than another."""

from collections.abc import Sequence
from math import inf

from harness.report.model.amounts import (
    ABSENT,
    LEVEL_WORDS,
    Amount,
    Sentence,
    compose,
    format_length,
    format_seconds,
    join,
)
from harness.report.model.facets import Facets
from harness.report.model.figures import (
    Figure,
    Styles,
    Trace,
    estimate_traces,
    figure_with_failures,
    hover_text,
    log_axis,
)
from harness.report.model.page_parts import Evidence, Plot, Section, build_section
from harness.report.model.records_table import (
    NO_ATTENTION,
    YOSO_SAMPLING,
    ReportRow,
    batch_note,
    by_facets,
    by_series,
    per_instance_suffix,
    time_words,
    times_by_length,
)
from harness.report.model.tables import Cell, Table, table_with_facets
from harness.report.questions.setting_errors import SettingErrors, error_beside
from harness.statistics import growth, intervals

EXPONENT_FROM = 512
"""Shorter lengths, in tokens, are left out of the fit of an exponent, because fixed costs dominate them."""
NEARLY_LINEAR = 1.3
"""Below this exponent a finding says that time grows nearly linearly."""
TABLE_REFERENCES = ("softmax", "sdpa", "bert · sdpa")
HEADLINE_REFERENCES = ("sdpa", "softmax")
"""The series that the others are compared with, in the table of crossovers and in the headline."""
_LEVELS = ("operation", "model")
_LEFT_OUT = " Times that other processes disturbed are left out."
_TIE = "no significant difference"


def fastest_sentences(rows: Sequence[ReportRow], pass_words: str) -> list[Sentence]:
    """The fastest exact attention at the longest length at which an exact attention was timed, and YOSO sampling at
    the same length."""
    exact = [(row, row.time) for row in rows if row.exact and row.time is not None]
    if not exact:
        return []
    longest = max(row.seq_len for row, _ in exact)
    at_longest = [(row, time) for row, time in exact if row.seq_len == longest]
    best, best_time = min(at_longest, key=lambda pair: pair[1].value)
    ties = [row.series for row, time in at_longest if row is not best and str(_comparison(time, best_time)) == _TIE]
    tied = f" ({_TIE} from {', '.join(ties)})" if ties else ""
    sentences = [
        compose(
            "At {} tokens the fastest exact softmax attention is {}: {} ({}).",
            Amount(longest, "tokens"), best.series + tied, time_words(best, best_time), pass_words,
        )
    ]  # fmt: skip
    sampled = [
        (row, row.time)
        for row in rows
        if row.base_series == YOSO_SAMPLING and row.seq_len == longest and row.time is not None
    ]
    if sampled:
        row, time = min(sampled, key=lambda pair: pair[1].value)
        words = time_words(row, time)
        sentences.append(
            compose("At the same length {} takes {}: {}.", row.series, words, _comparison(time, best_time))
        )
    return sentences


def _comparison(time: intervals.Estimate, other: intervals.Estimate) -> Sentence:
    speedup = intervals.ratio(other, time)
    if speedup.low is not None and speedup.high is not None and speedup.low <= 1 <= speedup.high:
        return Sentence(_TIE)
    if speedup.value >= 1:
        return compose("{} times faster", Amount(speedup.value, "number"))
    return compose("{} times slower", Amount(1 / speedup.value, "number"))


def crossover_sentences(rows_by_pass: dict[str, list[ReportRow]]) -> list[Sentence]:
    """From which length YOSO sampling is faster or slower than the exact references, one sentence per pass."""
    sentences = []
    for pass_words, rows in rows_by_pass.items():
        times = times_by_length(rows)
        for series in (name for name in times if name.split(" (")[0] == YOSO_SAMPLING):
            parts = [
                part
                for reference in HEADLINE_REFERENCES
                if reference in times
                and (part := _crossover_words(growth.crossover(times[series], times[reference]), reference))
            ]
            if parts:
                sentences.append(compose("{}: {} is {}.", pass_words.capitalize(), series, join(parts, " and ")))
    return sentences


def _crossover_words(crossover: growth.Crossover | growth.NoAnswer, reference: str) -> Sentence | None:
    if isinstance(crossover, growth.NoAnswer):
        return None
    span = compose("{} to {}", Amount(crossover.lengths[0], "tokens"), Amount(crossover.lengths[-1], "tokens"))
    is_decided = not is_undecided(crossover) if crossover.length is not None else crossover.agreement >= intervals.LEVEL
    if not is_decided:
        return compose("neither clearly faster nor clearly slower than {} over the lengths from {}", reference, span)
    if crossover.length is not None:
        verdict = crossover.verdict.split()[0]
        return compose("{} than {} from about {} tokens", verdict, reference, crossover_length(crossover))
    word = "faster" if crossover.verdict == "faster everywhere" else "slower"
    return compose("{} than {} at every measured length, {}", word, reference, span)


def time_plot(rows: Sequence[ReportRow], styles: Styles) -> Plot:
    """Time against length."""
    clocks = " and ".join(sorted({row.clock for row in rows if row.clock is not None}))
    title = f"Time{per_instance_suffix(rows) or ' per call'} against length" + (f" ({clocks} time)" if clocks else "")
    return Plot("time", title, time_figure(rows, styles), _time_remarks(rows), "No case was timed.")


def time_figure(rows: Sequence[ReportRow], styles: Styles) -> Figure:
    """Median seconds against length, with intervals; failures in a strip above."""
    data: list[Trace] = []
    values: list[float] = []
    for series, cases in by_series(row for row in rows if row.time is not None).items():
        timed = [(row, row.time) for row in cases if row.time is not None]
        texts = [
            hover_text(
                row,
                f"{Amount.of_estimate(time, 's')}{batch_note(row)}<br>{time.samples} samples, {row.clock} time"
                + (f"<br>disturbed: {row.disturbance}" if row.disturbance else ""),
            )
            for row, time in timed
        ]
        data += estimate_traces(series, styles, [row.seq_len for row in cases], [time for _, time in timed], texts)
        values += [time.value for _, time in timed]
    axis = log_axis(f"time{per_instance_suffix(rows) or ' per call'}", values, format_seconds, 10)
    return figure_with_failures(data, rows, styles, yaxis=axis)


def _time_remarks(rows: Sequence[ReportRow]) -> list[Sentence]:
    """Attentions that are unsupported at every length, which the strip of failures leaves out; and untimed cases."""
    supported = {row.series for row in rows if row.status != "unsupported"}
    names = sorted({row.series for row in rows} - supported)
    remarks = [Sentence(f"Unsupported at every length (reasons below): {', '.join(names)}.")] if names else []
    untimed = sum(row.is_ok for row in rows) - sum(row.time is not None for row in rows)
    if untimed:
        remarks.append(compose("Cases with a result but no time: {}.", Amount(untimed, "count")))
    disturbed = [
        compose("{} at {} tokens ({})", row.series, Amount(row.seq_len, "tokens"), row.disturbance)
        for row in rows
        if row.disturbance
    ]
    if disturbed:
        template = "Disturbed by other processes, and so in no exponent and no crossover: {}."
        remarks.append(compose(template, join(disturbed, "; ")))
    return remarks


def growth_section(evidence: Evidence) -> Section:
    """How time grows with length."""
    return build_section(
        "exponents", "Scaling with length", growth_finding(evidence.rows),
        "The slope of log(time) against log(length), fitted by least squares over the measured lengths from "
        f"{EXPONENT_FROM} on: 1 is linear, 2 is quadratic. The {LEVEL_WORDS} interval is a bootstrap over samples: it "
        "covers the noise of this run, not the error of fitting a straight line to a curve."
        + (_LEFT_OUT if any(row.disturbance for row in evidence.rows) else ""),
        exponents(evidence.rows),
    )  # fmt: skip


def crossover_section(evidence: Evidence) -> Section:
    """From which length one attention is faster than another."""
    return build_section(
        "crossovers", "Crossovers", crossover_finding(evidence.rows),
        "Interpolated in log-log between measured lengths, never extrapolated. “not reached in range” means slower at "
        "every measured length, but closer at the longest than at the shortest. Agreement is the share of bootstrap "
        f"resamples with the same verdict; pairs that agree less often than a {LEVEL_WORDS} interval demands are "
        "counted instead. The error is that of the output, at the longest length where it was measured."
        + (_LEFT_OUT if any(row.disturbance for row in evidence.rows) else ""),
        crossovers(evidence.rows),
    )  # fmt: skip


def growth_finding(rows: Sequence[ReportRow]) -> Sentence | None:
    """How many attentions grow nearly linearly in the setting with the most results, and how the best known grow."""
    for level in _LEVELS:
        for facets, group in by_facets(rows, level).items():
            fits = {series: fit for series, fit in _fits(group).items() if isinstance(fit, growth.Exponent)}
            if not fits:
                continue
            linear = sum(fit.value < NEARLY_LINEAR for fit in fits.values())
            named = [name for name in (*HEADLINE_REFERENCES, YOSO_SAMPLING) if name in fits] or list(fits)[:1]
            parts = [compose("{} {}", name, Amount(fits[name].value, "number")) for name in named]
            return compose(
                "{}: time of {} of {} attentions grows nearly linearly (exponent below {}); exponents: {}.",
                dict(facets)["Pass"].capitalize(), Amount(linear, "count"), Amount(len(fits), "count"),
                Amount(NEARLY_LINEAR, "number", text=f"{NEARLY_LINEAR:g}"), join(parts),
            )  # fmt: skip
    return None


def _fits(rows: Sequence[ReportRow]) -> dict[str, growth.Exponent | growth.NoAnswer]:
    return {series: growth.scaling_exponent(times, EXPONENT_FROM) for series, times in _times(rows).items()}


def _times(rows: Sequence[ReportRow]) -> dict[str, dict[int, intervals.Estimate]]:
    """The times of attentions by length: a call without attention is none."""
    return times_by_length(row for row in rows if row.base_series != NO_ATTENTION)


def exponents(rows: Sequence[ReportRow]) -> list[Table]:
    """Fitted slopes of log(time) on log(length), one table per level; series with too few lengths are counted."""
    tables = []
    for level in _LEVELS:
        cells: list[tuple[Facets, list[Cell]]] = []
        missing = 0
        for facets, group in by_facets(rows, level).items():
            for series, fit in _fits(group).items():
                if isinstance(fit, growth.NoAnswer):
                    missing += 1
                    continue
                exponent = Amount(fit.value, "number", fit.low, fit.high)
                cells.append((facets, [series, exponent, _span(fit.lengths)]))
        columns = ["Attention", f"Exponent [{LEVEL_WORDS}]", "Lengths"]
        left_out = [_too_few(missing, growth.MIN_EXPONENT_LENGTHS, f" from {EXPONENT_FROM} tokens on")] * bool(missing)
        tables.append(table_with_facets(level.capitalize(), columns, cells, left_out=left_out))
    return [table for table in tables if table.rows]


def _too_few(count: int, needed: int, where: str) -> Sentence:
    template = "Left out: {} with fewer than {} lengths{}."
    return compose(template, Amount(count, "count"), Amount(needed, "count"), where)


def crossover_finding(rows: Sequence[ReportRow]) -> Sentence | None:
    """How many attentions become faster than the reference in the setting with the most results, and from where YOSO
    is."""
    errors = SettingErrors(rows)
    for facets, group in by_facets(rows, "operation").items():
        times = _times(group)
        reference = next((name for name in HEADLINE_REFERENCES if name in times), None)
        if reference is None:
            continue
        decided = {
            series: found
            for series in times
            if series != reference and (found := _decided(growth.crossover(times[series], times[reference])))
        }
        if not decided:
            continue
        faster = {name: found for name, found in decided.items() if found.verdict.startswith("faster")}
        counts = Amount(len(faster), "count"), Amount(len(times) - 1, "count")
        parts = [compose("{}: {} of {} are faster than {} from some measured length on",
                         dict(facets)["Pass"].capitalize(), *counts, reference)]  # fmt: skip
        named = next((name for name in faster if name.split(" (")[0] == YOSO_SAMPLING), None)
        if named is not None and (length := faster[named].length) is not None:
            error = error_beside(named, group, errors)
            parts.append(compose("{} from {} tokens, error {}", named, Amount(length, "tokens"), error))
        return compose("{}.", join(parts, "; "))
    return None


def _decided(found: growth.Crossover | growth.NoAnswer) -> growth.Crossover | None:
    """A crossover that is certain; None otherwise."""
    return found if isinstance(found, growth.Crossover) and is_certain(found) else None


def crossovers(rows: Sequence[ReportRow]) -> list[Table]:
    """Where each attention becomes faster than each reference, one table per level; a pair is listed once."""
    tables = []
    errors = SettingErrors(rows)
    for level in _LEVELS:
        cells: list[tuple[Facets, list[Cell]]] = []
        too_few = unclear = 0
        for facets, group in by_facets(rows, level).items():
            times = _times(group)
            references = [name for name in TABLE_REFERENCES if name in times]
            for nth, reference in enumerate(references):
                for series in (name for name in times if name not in references[: nth + 1]):
                    found = growth.crossover(times[series], times[reference])
                    decided = _decided(found)
                    if decided is None:
                        too_few += isinstance(found, growth.NoAnswer)
                        unclear += isinstance(found, growth.Crossover)
                        continue
                    error = error_beside(series, group, errors)
                    cells.append((facets, [series, reference, *_crossover_cells(decided), error]))
        columns = ["Attention", "Against", "Verdict", f"Length [{LEVEL_WORDS}]", "Agreement", "Measured", "Error"]
        left_out = [_too_few(too_few, 2, " in common with the other")] * bool(too_few)
        if unclear:
            template = "Left out: {} without an order that is at least {} certain."
            level_words = Amount(intervals.LEVEL, "fraction", text=LEVEL_WORDS)
            left_out.append(compose(template, Amount(unclear, "count"), level_words))
        tables.append(table_with_facets(level.capitalize(), columns, cells, left_out=left_out))
    return [table for table in tables if table.rows]


def is_undecided(crossover: growth.Crossover) -> bool:
    """Whether the interval of a crossing extends beyond both ends of the measured lengths."""
    return crossover.low == -inf and crossover.high == inf


def is_certain(crossover: growth.Crossover) -> bool:
    """Whether enough of the bootstrap resamples have the same verdict to write it."""
    return crossover.agreement >= intervals.LEVEL and not is_undecided(crossover)


def crossover_length(crossover: growth.Crossover) -> Cell:
    """The length of a crossing with its interval; a bound outside the measured lengths is written as such."""
    if crossover.length is None or is_undecided(crossover):
        return ABSENT
    if crossover.low is None or crossover.high is None:
        return Amount(crossover.length, "tokens")
    shortest, longest = crossover.lengths[0], crossover.lengths[-1]
    low = f"below {format_length(shortest)}" if crossover.low == -inf else format_length(crossover.low)
    high = f"above {format_length(longest)}" if crossover.high == inf else format_length(crossover.high)
    return Amount(
        crossover.length,
        "tokens",
        None if crossover.low == -inf else crossover.low,
        None if crossover.high == inf else crossover.high,
        interval_text=f"[{low}, {high}]",
    )


def _crossover_cells(crossover: growth.Crossover) -> list[Cell]:
    verdict: Cell = crossover.verdict
    if crossover.crossings > 1:
        verdict = compose("{} (changes {} times)", verdict, Amount(crossover.crossings, "count"))
    return [verdict, crossover_length(crossover), Amount(crossover.agreement, "fraction"), _span(crossover.lengths)]


def _span(lengths: tuple[int, ...]) -> Sentence:
    first, last = Amount(lengths[0], "tokens"), Amount(lengths[-1], "tokens")
    return compose("{} from {} to {}", Amount(len(lengths), "count"), first, last)


SECTIONS = {20: growth_section, 30: crossover_section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
