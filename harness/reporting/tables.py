"""The report's tables: exponents, crossover lengths, rivals, verification, settings, and what did not run and why."""

from dataclasses import dataclass
from math import inf

import pandas as pd

from harness import stats
from harness.record import Check, Run
from harness.reporting import units
from harness.reporting.frame import Facets, each, times_by_length, views
from harness.reporting.plots import STATUS_WORDS
from harness.spec import TaskSpec

EXPONENT_FROM = 512
REFERENCES = ("softmax", "sdpa", "bert · sdpa")
_KINDS = ("operation", "model")


@dataclass(frozen=True)
class Table:
    """A table of words; the columns named in ``right`` hold numbers. ``note`` says what is the same in every row."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    right: frozenset[str] = frozenset()
    note: str = ""

    def __post_init__(self) -> None:
        uneven = [row for row in self.rows if len(row) != len(self.columns)]
        if uneven:
            raise ValueError(
                f"rows must have {len(self.columns)} cells, one for each of {self.columns}, got {uneven[0]}"
            )


@dataclass(frozen=True)
class Failure:
    """Cases of one attention that failed alike."""

    status: str
    attention: str
    reasons: tuple[str, ...]
    cases: list[str]


def exponents(table: pd.DataFrame) -> list[Table]:
    """Fitted slopes of log(time) on log(length), one table a level; too few lengths are said, not hidden."""
    found = []
    for kind in _KINDS:
        rows = []
        for facets, view in views(table, kind).items():
            fits = {
                series: stats.scaling_exponent(times, EXPONENT_FROM) for series, times in times_by_length(view).items()
            }
            reasons = {fit.reason if isinstance(fit, stats.NoAnswer) else None for fit in fits.values()}
            if len(fits) > 1 and len(reasons) == 1 and (reason := reasons.pop()):
                rows.append((facets, ["every attention", units.ABSENT, units.ABSENT, reason]))
                continue
            for series, fit in fits.items():
                if isinstance(fit, stats.NoAnswer):
                    rows.append((facets, [series, units.ABSENT, units.ABSENT, fit.reason]))
                    continue
                interval = units.interval(fit.low, fit.high, units.number)
                span = f"{len(fit.lengths)} from {units.length(fit.lengths[0])} to {units.length(fit.lengths[-1])}"
                rows.append((facets, [series, units.number(fit.value), interval, span]))
        columns = ["Attention", "Exponent", f"{units.LEVEL_WORDS} interval", "Lengths"]
        found.append(with_facets(kind.capitalize(), columns, rows, frozenset(columns[1:3])))
    return [one for one in found if one.rows]


def crossovers(table: pd.DataFrame) -> list[Table]:
    """Where each attention becomes faster than each reference, one table a level."""
    found = []
    for kind in _KINDS:
        rows = []
        for facets, view in views(table, kind).items():
            times = times_by_length(view)
            for reference in (name for name in REFERENCES if name in times):
                for series in (name for name in times if name != reference):
                    answer = stats.crossover(times[series], times[reference])
                    rows.append((facets, [series, reference, *_crossover_cells(answer)]))
        columns = [
            "Attention",
            "Against",
            "Verdict",
            f"Length [{units.LEVEL_WORDS}]",
            "Agreement",
            "Measured",
        ]
        found.append(with_facets(kind.capitalize(), columns, rows, frozenset(columns[3:5])))
    return [one for one in found if one.rows]


def rivals(table: pd.DataFrame) -> Table:
    """Bare encoders of equal size: every family and attention, with its time as a multiple of BERT's."""
    rows = []
    for facets, view in views(table, "model").items():
        if dict(facets)["Model"] != "encoder" or not view["base"].str.contains("·", regex=False).any():
            continue
        bert = {row.seq_len: row.time for row in each(view) if row.base.startswith("bert ·") and row.time is not None}
        for row in sorted(each(view), key=lambda row: (row.seq_len, row.series)):
            parameters = f"{row.record.parameters:,}" if row.record.parameters else units.ABSENT
            memory = units.bytes_(row.peak_bytes) if row.peak_bytes == row.peak_bytes else units.ABSENT
            if row.time is None:
                cells = [STATUS_WORDS.get(row.status, "not timed"), units.ABSENT, units.ABSENT, memory, parameters]
            else:
                base = bert.get(row.seq_len)
                times = [units.seconds(row.time.value), units.interval(row.time.low, row.time.high, units.seconds)]
                cells = [*times, _multiple(row.time, base) if base else "BERT has no time", memory, parameters]
            rows.append((facets, [units.length(row.seq_len), row.series, *cells]))
    columns = ["Length", "Model", "Time", "Interval", "Multiple of BERT's time", "Peak memory", "Parameters"]
    return with_facets("", columns, rows, frozenset({"Length", *columns[2:]}))


def verification(run: Run) -> Table:
    """The worst error of each attention, as a share of what was allowed."""
    worst: dict[str, tuple[float, Check]] = {}
    counts: dict[str, list[int]] = {}
    for record in run.records:
        for check in record.checks:
            share = _share(check)
            name = record.spec.attention
            count = counts.setdefault(name, [0, 0])
            count[0] += 1
            count[1] += not check.passed
            if name not in worst or share > worst[name][0]:
                worst[name] = (share, check)
    rows = [
        [
            name,
            check.what,
            units.number(check.error) if check.error is not None else "not finite",
            units.number(check.allowed),
            units.number(share),
            f"{counts[name][0]:,}",
            f"{counts[name][1]:,}",
        ]
        for name, (share, check) in sorted(worst.items())
    ]
    columns = ["Attention", "Worst check", "Error", "Allowed", "Error / allowed", "Checks", "Failed"]
    return Table("", columns, rows, frozenset(columns[2:]))


def failures(table: pd.DataFrame) -> list[Failure]:
    """Every record that is not ok, grouped by attention, status and reasons."""
    found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for row in each(table[table["status"] != "ok"]):
        found.setdefault((row.status, row.base, tuple(row.record.reasons)), []).append(row.case_id)
    order = list(STATUS_WORDS)[::-1]
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1]))
    return [Failure(STATUS_WORDS[key[0]], key[1], key[2], found[key]) for key in keys]


def settings(run: Run) -> list[tuple[str, str]]:
    """What was held or varied over the run, by name."""
    specs = [record.spec for record in run.records]
    timings = [record.timing for record in run.records if record.timing is not None]
    found: dict[str, list[int | str]] = {
        "dtype": [spec.dtype for spec in specs],
        "device": [spec.device for spec in specs],
        "sequence length": [spec.seq_len for spec in specs],
        "batch": [spec.batch for spec in specs],
        "heads": [spec.heads for spec in specs],
        "seed": [spec.seed for spec in specs],
        "training seeds": [spec.seeds for spec in specs if isinstance(spec, TaskSpec)],
        "threads": [timing.threads for timing in timings if timing.threads is not None],
        "samples a case": [len(timing.wall_seconds) for timing in timings],
        "warm-up calls": [timing.warmup_calls for timing in timings],
        "input sets in turn": [timing.input_sets for timing in timings],
        "cache flush between samples, bytes": [t.flushed_bytes for t in timings if t.flushed_bytes is not None],
        "memory counted by": [record.memory.source for record in run.records if record.memory],
        "task data": [record.task.data for record in run.records if record.task],
    }
    return [(name, _values(values)) for name, values in found.items() if values]


def _values(values: list[int | str]) -> str:
    numbers = sorted({value for value in values if isinstance(value, int)})
    if len(numbers) > 12:
        return f"{numbers[0]:,} to {numbers[-1]:,} ({len(numbers)} values)"
    return ", ".join([*(f"{value:,}" for value in numbers), *sorted({v for v in values if isinstance(v, str)})])


def _share(check: Check) -> float:
    if check.error is None:
        return inf
    if check.allowed == 0:
        return inf if check.error > 0 else 0.0
    return check.error / check.allowed


def _multiple(time: stats.Estimate, base: stats.Estimate) -> str:
    if time is base:
        return "1"
    found = stats.ratio(time, base)
    if found.low is None or found.high is None:
        return units.number(found.value)
    return f"{units.number(found.value)} [{units.number(found.low)}, {units.number(found.high)}]"


def _crossover_cells(answer: stats.Crossover | stats.NoAnswer) -> list[str]:
    if isinstance(answer, stats.NoAnswer):
        return [answer.reason, units.ABSENT, units.ABSENT, units.ABSENT]
    verdict = "no clear order" if undecided(answer) else answer.verdict
    changes = f" (changes {answer.crossings} times)" if answer.crossings > 1 else ""
    span = f"{len(answer.lengths)} from {units.length(answer.lengths[0])} to {units.length(answer.lengths[-1])}"
    return [verdict + changes, crossing_length(answer), units.percent(answer.agreement), span]


def undecided(answer: stats.Crossover) -> bool:
    """Whether the interval of a crossing reaches past both ends of the measured lengths."""
    return answer.low == -inf and answer.high == inf


def crossing_length(answer: stats.Crossover) -> str:
    """Where the crossing is, with its interval; a bound outside the measured lengths is said to be there."""
    if answer.length is None or undecided(answer):
        return units.ABSENT
    if answer.low is None or answer.high is None:
        return units.length(answer.length)
    low = f"below {units.length(answer.lengths[0])}" if answer.low == -inf else units.length(answer.low)
    high = f"above {units.length(answer.lengths[-1])}" if answer.high == inf else units.length(answer.high)
    return f"{units.length(answer.length)} [{low}, {high}]"


def with_facets(title: str, columns: list[str], rows: list[tuple[Facets, list[str]]], right: frozenset[str]) -> Table:
    """A table of rows from several settings: facets that differ become columns, the others the note."""
    values: dict[str, list[str]] = {}
    for facets, _ in rows:
        for name, value in facets:
            if value not in values.setdefault(name, []):
                values[name].append(value)
    varying = [name for name, seen in values.items() if len(seen) > 1]
    cells = [[dict(facets)[name] for name in varying] + own for facets, own in rows]
    note = ", ".join(seen[0] for seen in values.values() if len(seen) == 1)
    return Table(title, varying + columns, cells, right, note)
