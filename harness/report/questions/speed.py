"""How fast is it? Times against length, how they grow, and where one attention becomes faster than another."""

from collections.abc import Mapping, Sequence
from math import inf

from harness.core.quantities import seconds_words
from harness.report.model.amounts import ABSENT, LEVEL_WORDS, Amount, Sentence, compose, counted, format_length, join
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
from harness.report.model.page_data import MethodRow, Setting, Tie
from harness.report.model.page_parts import Evidence, Plot, Section, build_section
from harness.report.model.records_table import (
    NO_ATTENTION,
    YOSO_SAMPLING,
    ReportRow,
    batch_note,
    by_facets,
    by_series,
    per_instance_suffix,
    times_by_length,
)
from harness.report.model.tables import Cell, Table, table_with_facets
from harness.report.questions.best_methods import order_words
from harness.report.questions.clear_order import (
    Times,
    clear_crossover,
    clear_lengths,
    order_word,
    partly_clear_words,
)
from harness.report.questions.reference_times import kernel_tie
from harness.report.questions.setting_errors import (
    SMALL_ERROR,
    SettingErrors,
    error_words,
    has_small_error,
    largest_error,
    longest_error_words,
)
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
_TIE = "no clear difference"


def fastest_sentences(settings: Sequence[Setting]) -> list[Sentence]:
    """The fastest exact attention at the longest length at which an exact attention was timed, and YOSO sampling at
    the same length, each with its error there; ``best_methods`` has the rule.

    Args:
        settings: of one line of lengths. Times that cannot be compared are given, but not compared.
    """
    with_exact = [setting for setting in settings if any(row.exact_softmax for row in setting.rows)]
    if not with_exact:
        return []
    setting = max(with_exact, key=lambda setting: setting.length)
    best = next(iter(setting.best.values())).exact
    assert best is not None
    exact = [row for row in setting.rows if row.exact_softmax]
    left_out = [row for row in exact if not row.is_comparable]
    is_disturbed = all(row.disturbance is not None for row in left_out)
    if not best.verdict and is_disturbed:
        template = (
            "At {} tokens other processes disturbed the times of all exact softmax attentions, so none is called the "
            "fastest; the shortest is that of {}: {} ({}), {}."
        )
    elif not best.verdict:
        template = (
            "At {} tokens no exact softmax attention was timed more than once and undisturbed, so none is called the "
            "fastest; the shortest time is that of {}: {} ({}), {}."
        )
    elif left_out and is_disturbed:
        template = (
            "At {} tokens the fastest exact softmax attention, of those whose times other processes did not disturb, "
            "is {}: {} ({}), {}."
        )
    elif left_out:
        template = (
            "At {} tokens the fastest exact softmax attention, of those timed more than once and undisturbed, "
            "is {}: {} ({}), {}."
        )
    else:
        template = "At {} tokens the fastest exact softmax attention is {}: {} ({}), {}."
    tied = f" ({_TIE} from {', '.join(row.series for row in best.tied)})" if best.tied else ""
    time, error = _time_words(best.row), error_words(best.row.errors)
    sentences = [
        compose(template, Amount(setting.length, "tokens"), best.row.series + tied, time, setting.pass_, error)
    ]
    sampled = [row for row in setting.rows if row.attention == YOSO_SAMPLING]
    if sampled:
        row = next((row for row in sampled if row.is_default), sampled[0])
        name = compose("{} with {}", row.attention, row.knob_sentence) if row.knob else Sentence(row.attention)
        order = _order(setting, row, best.row)
        template = "At the same length {} takes {}: {}, {}."
        sentences.append(compose(template, name, _time_words(row), order, error_words(row.errors)))
    return sentences


def _time_words(row: MethodRow) -> Amount | Sentence:
    return row.time if row.disturbance is None else compose("{} (disturbed)", row.time)


def _order(setting: Setting, row: MethodRow, other: MethodRow) -> Sentence:
    if row.disturbance is not None or other.disturbance is not None:
        return Sentence("no comparison, because other processes disturbed a time")
    if not (row.is_comparable and other.is_comparable):
        return Sentence("no comparison, because a time was taken only once")
    return order_words(setting, row, other)


def crossover_sentences(rows_by_pass: dict[str, list[ReportRow]], errors: SettingErrors) -> list[Sentence]:
    """From which length YOSO sampling is faster or slower than the exact references, with its error at the longest
    length where it is known; one sentence per pass."""
    sentences = []
    for pass_words, rows in rows_by_pass.items():
        times, tie = times_by_length(rows), kernel_tie(rows, pass_words)
        for series in (name for name in times if name.split(" (")[0] == YOSO_SAMPLING):
            parts = [
                part
                for reference in HEADLINE_REFERENCES
                if reference in times and (part := _crossover_words(times[series], times[reference], tie, reference))
            ]
            if parts:
                error = longest_error_words([row for row in rows if row.series == series], errors)
                order = join(parts, " and ")
                sentences.append(compose("{}: {} is {}, {}.", pass_words.capitalize(), series, order, error))
    return sentences


def _crossover_words(own: Times, others: Times, tie: Tie | None, reference: str) -> Sentence | None:
    crossover = clear_crossover(own, others, tie)
    if isinstance(crossover, growth.NoAnswer):
        return None
    lengths = sorted(set(own) & set(others))
    span = compose("{} to {}", Amount(lengths[0], "tokens"), Amount(lengths[-1], "tokens"))
    if crossover is None:
        return compose("neither clearly faster nor clearly slower than {} over the lengths from {}", reference, span)
    if crossover.crossings:
        verdict = crossover.verdict.split()[0]
        about = "about" if crossover.between is None else "somewhere"
        return compose("{} than {} from {} {} tokens", verdict, reference, about, crossover_length(crossover))
    clear = clear_lengths(own, others, tie)
    word = order_word(next(iter(clear.values())))
    where = "measured length" if len(clear) == len(lengths) else "measured length where the difference is clear"
    return compose("{} than {} at every {}, {}", word, reference, where, span)


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
    axis = log_axis(f"time{per_instance_suffix(rows) or ' per call'}", values, seconds_words, 10)
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
        "resamples with the same verdict; a pair below the level of the intervals has no clear order and is left out. "
        "Where one kernel was timed under two names, differences smaller than between the two are not clear either. "
        "Where lengths beside a crossing have no clear order, it is only known to lie between two that have."
        + (_LEFT_OUT if any(row.disturbance for row in evidence.rows) else ""),
        crossovers(evidence.rows),
    )  # fmt: skip


def growth_finding(rows: Sequence[ReportRow]) -> Sentence | None:
    """How many attentions grow nearly linearly in the setting with the most results, and how the best known grow."""
    for level in _LEVELS:
        for facets, group in by_facets(rows, level).items():
            fits = {
                series: fit
                for series, times in _times(group).items()
                if isinstance(fit := growth.scaling_exponent(times, EXPONENT_FROM), growth.Exponent)
            }
            if not fits:
                continue
            linear = sum(fit.high is not None and fit.high < NEARLY_LINEAR for fit in fits.values())
            named = [name for name in (*HEADLINE_REFERENCES, YOSO_SAMPLING) if name in fits] or list(fits)[:1]
            parts = [compose("{} {}", name, _exponent(fits[name])) for name in named]
            return compose(
                "{}: time of {} of {} grows nearly linearly (exponent clearly below {}); exponents: {}.",
                dict(facets)["Pass"].capitalize(), Amount(linear, "count"),
                counted(len(fits), "{} attention", "{} attentions"),
                Amount(NEARLY_LINEAR, "number", text=f"{NEARLY_LINEAR:g}"), join(parts),
            )  # fmt: skip
    return None


def _exponent(fit: growth.Exponent) -> Amount | Sentence:
    """An exponent with its interval, and with a word where it has none because some length was timed only once."""
    exponent = Amount(fit.value, "number", fit.low, fit.high)
    return exponent if fit.low is not None else compose("{} (timed only once)", exponent)


def _times(rows: Sequence[ReportRow]) -> dict[str, dict[int, intervals.Estimate]]:
    """The times of attentions by length: a call without attention is none."""
    return times_by_length(row for row in rows if row.base_series != NO_ATTENTION)


def crossover_finding(rows: Sequence[ReportRow]) -> Sentence | None:
    """How many attentions are clearly faster than the reference from some length on, in the setting with the most
    results, how many of them have a small error, and from where YOSO is."""
    errors = SettingErrors(rows)
    for facets, group in by_facets(rows, "operation").items():
        times, tie = _times(group), kernel_tie(group, dict(facets)["Pass"])
        reference = next((name for name in HEADLINE_REFERENCES if name in times), None)
        if reference is None or len(times) < 2:
            continue
        found = {name: clear_crossover(times[name], times[reference], tie) for name in times if name != reference}
        faster = {
            name: crossover
            for name, crossover in found.items()
            if isinstance(crossover, growth.Crossover) and crossover.verdict.startswith("faster")
        }
        template = "{}: {} of {} {} clearly faster than {} from some measured length on"
        counts = Amount(len(faster), "count"), Amount(len(found), "count"), "is" if len(faster) == 1 else "are"
        parts = [compose(template, dict(facets)["Pass"].capitalize(), *counts, reference)]
        rows_of = by_series(group)
        if faster:
            near = [name for name in faster if has_small_error(rows_of[name], errors)]
            of_them = Amount(len(near), "count") if near else "none"
            parts[0] = compose(
                "{}, {} of them with a measured error within {} of softmax", parts[0], of_them, SMALL_ERROR
            )
        named = next((name for name in found if name.split(" (")[0] == YOSO_SAMPLING), None)
        if named is not None:
            error = largest_error(rows_of[named], errors)
            parts.append(compose("{} {}, error {}", named, _where_faster(faster.get(named)), error))
        return compose("{}.", join(parts, "; "))
    clear = sum(len(table.rows) for table in crossovers(rows))
    pairs = counted(clear, "{} pair has", "{} pairs have")
    return compose("{} a clear order; the error of whole models was not measured.", pairs) if clear else None


def _where_faster(crossover: growth.Crossover | None) -> Sentence:
    if crossover is None:
        return Sentence("is not")
    if not crossover.crossings:
        return Sentence("at every length with a clear order")
    return compose("from {}{} tokens", "" if crossover.between is None else "somewhere ", crossover_length(crossover))


def exponents(rows: Sequence[ReportRow]) -> list[Table]:
    """Fitted slopes of log(time) on log(length), one table per level; series with too few lengths are only counted."""
    tables = []
    for level in _LEVELS:
        cells: list[tuple[Facets, list[Cell]]] = []
        missing = 0
        for facets, group in by_facets(rows, level).items():
            for series, times in _times(group).items():
                fit = growth.scaling_exponent(times, EXPONENT_FROM)
                if isinstance(fit, growth.NoAnswer):
                    missing += 1
                    continue
                cells.append((facets, [series, _exponent(fit), _span(fit.lengths)]))
        note = compose(
            "Series without an exponent, because they were timed{} at fewer than {} lengths from {} on: {}.",
            _undisturbed(rows, level), Amount(growth.MIN_EXPONENT_LENGTHS, "count"), Amount(EXPONENT_FROM, "tokens"),
            Amount(missing, "count"),
        )  # fmt: skip
        columns = ["Attention", f"Exponent [{LEVEL_WORDS}]", "Lengths"]
        tables.append(table_with_facets(level.capitalize(), columns, cells, note=note if missing else None))
    return [table for table in tables if table.rows]


def _undisturbed(rows: Sequence[ReportRow], level: str) -> str:
    """The word that a reason for missing times needs only where a disturbance took some of them away."""
    return " undisturbed" if any(row.kind == level and row.disturbance is not None for row in rows) else ""


def crossovers(rows: Sequence[ReportRow]) -> list[Table]:
    """Where each attention becomes faster than each reference, one table per level. Pairs without a clear order are
    only counted, and each pair is listed once."""
    errors = SettingErrors(rows)
    tables = []
    for level in _LEVELS:
        cells: list[tuple[Facets, list[Cell]]] = []
        unclear = too_short = 0
        for facets, group in by_facets(rows, level).items():
            times, tie = _times(group), kernel_tie(group, dict(facets)["Pass"])
            rows_of = by_series(group)
            for series, reference in _pairs(times):
                crossover = clear_crossover(times[series], times[reference], tie)
                if crossover is None:
                    unclear += 1
                elif isinstance(crossover, growth.NoAnswer):
                    too_short += 1
                else:
                    clear = clear_lengths(times[series], times[reference], tie)
                    own = _crossover_cells(crossover, clear)
                    if level == "operation":
                        own.append(largest_error(rows_of[series], errors))
                    cells.append((facets, [series, reference, *own]))
        undisturbed = _undisturbed(rows, level)
        counts = [
            compose(words, Amount(count, "count"))
            for words, count in (
                ("{} without a clear order", unclear),
                (f"{{}} without two lengths at which both were timed{undisturbed} several times", too_short),
            )
            if count
        ]
        notes = [compose("Pairs that are left out: {}.", join(counts))] if counts else []
        columns = ["Attention", "Against", "Verdict", f"Length [{LEVEL_WORDS}]", "Agreement", "Measured"]
        if level == "operation":
            columns.append("Largest error of the first")
        else:
            notes.append(Sentence("The error of whole models was not measured, only that of the attention alone."))
        note = join(notes, " ") if notes else None
        tables.append(table_with_facets(level.capitalize(), columns, cells, note=note))
    return [table for table in tables if table.rows]


def _pairs(times: Mapping[str, Times]) -> list[tuple[str, str]]:
    """Each series with each reference; of two references one is listed against the other once."""
    references = [name for name in TABLE_REFERENCES if name in times]
    return [
        (series, reference)
        for place, reference in enumerate(references)
        for series in times
        if series != reference and series not in references[:place]
    ]


def is_undecided(crossover: growth.Crossover) -> bool:
    """Whether the interval of a crossing extends beyond both ends of the measured lengths."""
    return crossover.low == -inf and crossover.high == inf


def crossover_length(crossover: growth.Crossover) -> Cell:
    """The length of a crossing with its interval, or the two lengths between which it lies; a bound outside the
    measured lengths is written as such."""
    if crossover.between is not None:
        return compose("between {} and {}", *(Amount(length, "tokens") for length in crossover.between))
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


def _crossover_cells(crossover: growth.Crossover, clear: Mapping[int, bool]) -> list[Cell]:
    verdict: Cell = partly_clear_words(crossover, clear) or crossover.verdict
    if crossover.crossings > 1:
        verdict = compose("{} (changes {} times)", verdict, Amount(crossover.crossings, "count"))
    return [verdict, crossover_length(crossover), Amount(crossover.agreement, "fraction"), _span(crossover.lengths)]


def _span(lengths: tuple[int, ...]) -> Sentence:
    first, last = Amount(lengths[0], "tokens"), Amount(lengths[-1], "tokens")
    return compose("{} from {} to {}", Amount(len(lengths), "count"), first, last)


SECTIONS = {20: growth_section, 30: crossover_section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
