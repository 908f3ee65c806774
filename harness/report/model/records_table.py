"""The records of one run or several as a table: one typed row per record, failures included."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.core.record import Memory, Record, Run, Status
from harness.core.spec import ModelSpec, Scalar, TaskSpec
from harness.report.model.amounts import Amount, Sentence, compose, join
from harness.report.model.facets import Facets, facets_of
from harness.statistics import intervals
from harness.statistics.rounds import over_processes

STATUS_WORDS: dict[Status, str] = {
    "ok": "ok",
    "unsupported": "unsupported",
    "incorrect": "incorrect",
    "oom": "out of memory",
    "timeout": "timed out",
    "crashed": "crashed",
    "diverged": "diverged",
}
YOSO_SAMPLING = "yoso"
"""The base series of YOSO with sampled hashes, the attention that the headline is about."""
NO_ATTENTION = "none"
"""The attention that mixes no tokens: what takes time and memory with it is not attention."""
Clock = Literal["device", "wall"]


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One record, with the labels that the report groups it by and the values that it draws.

    Attributes:
        run: index of the record's run.
        record: the record itself.
        facets: the settings that must be equal in one plot.
        base_series: the attention, preceded by the family where a model brings its own attention.
        series: the base series, with the knobs that tell apart two rows with the same facets and length.
        exact: whether the attention computes softmax attention exactly.
        per: what ``time`` and ``peak_bytes`` refer to. ``call``; or ``instance`` at the largest batch that fits, where
            the batches of attentions differ: the value of the call divided by its batch, as in the YOSO paper's
            protocol. Equal in rows with equal facets.
        time: in seconds, None where the case was not timed.
        clock: the clock of ``time``, the same in all rows with equal facets; None without a time.
        peak_bytes: peak memory, None where it was not measured.
        input_bytes: memory allocated before the whole call, None where it was not measured.
    """

    run: int
    record: Record
    facets: Facets
    base_series: str
    series: str
    exact: bool
    per: Literal["call", "instance"]
    time: intervals.Estimate | None
    clock: Clock | None
    peak_bytes: float | None
    input_bytes: float | None

    @property
    def kind(self) -> str:
        """The level of the case: ``operation``, ``model``, ``quality`` or ``task``."""
        return self.record.spec.kind

    @property
    def case_id(self) -> str:
        """The id of the case."""
        return self.record.case_id

    @property
    def seq_len(self) -> int:
        """The sequence length in tokens."""
        return self.record.spec.seq_len

    @property
    def status(self) -> Status:
        """The outcome of the case."""
        return self.record.status

    @property
    def disturbance(self) -> str | None:
        """How other processes disturbed the time, as part of a sentence; None where they did not or it is not known."""
        timing = self.record.timing
        return timing.disturbance if timing is not None and timing.disturbed else None

    @property
    def is_ok(self) -> bool:
        """Whether the case gave a result."""
        return self.record.status == "ok"


def report_rows(*runs: Run) -> list[ReportRow]:
    """The rows of one run or several.

    Of several runs the first facet of each row is the label of its run, so that no plot mixes two runs.
    """
    labels = run_labels(runs) if len(runs) > 1 else [""]
    records: list[Record] = []
    run_indices: list[int] = []
    facets: list[Facets] = []
    for index, (run, label) in enumerate(zip(runs, labels, strict=True)):
        for record in run.records:
            own_facets = facets_of(record)
            records.append(record)
            run_indices.append(index)
            facets.append(tuple(({"Run": label, **own_facets} if label else own_facets).items()))
    rows = []
    for record, index, row_facets, series, time, clock in zip(
        records, run_indices, facets, _series(records, facets), *_times(records, facets), strict=True
    ):
        batch = _divisor(record)
        memory = call_memory(record) if record.status == "ok" else None
        rows.append(
            ReportRow(
                run=index,
                record=record,
                facets=row_facets,
                base_series=_base_series(record),
                series=series,
                exact=record.is_exact_softmax,
                per="instance" if _is_at_largest_batch(record) else "call",
                time=time,
                clock=clock,
                peak_bytes=memory.peak_bytes / batch if memory and batch else None,
                input_bytes=float(memory.input_bytes) if memory else None,
            )
        )
    return rows


def run_labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run: machine, time and commit. Equal labels are numbered."""
    plain = [f"{machine_name(run)}, {run.started[:16]}, {(run.commit or 'commit not known')[:10]}" for run in runs]
    return [f"{name} ({plain[: i + 1].count(name)})" if plain.count(name) > 1 else name for i, name in enumerate(plain)]


def machine_name(run: Run) -> str:
    """The name of the device that a run measured."""
    return str(run.machine.get("cuda_device") or run.machine.get("cpu") or "machine not named")


def call_memory(record: Record) -> Memory | None:
    """The memory of one call; for a trained task, the memory of one forward and backward pass of a batch."""
    return record.task.train_memory if record.task else record.memory


def time_words(row: ReportRow, time: intervals.Estimate) -> Amount | Sentence:
    """The time of a row with its interval, and a word where other processes disturbed it."""
    seconds = Amount.of_estimate(time, "s")
    return seconds if row.disturbance is None else compose("{} (disturbed)", seconds)


def per_instance_suffix(rows: Iterable[ReportRow]) -> str:
    """What a title adds to time and memory where they are per instance; empty where they are per call."""
    return " per instance" if any(row.per == "instance" for row in rows) else ""


def batch_note(row: ReportRow) -> str:
    """What a hover text adds to a value per instance: the batch of the call. Empty for a value per call."""
    return "" if row.per == "call" else f" per instance in a call of {row.record.batch:,}"


def series_with_batch(row: ReportRow) -> str | Sentence:
    """The series, with the batch that was found for it where there is one; for values of whole calls."""
    batch = row.record.batch
    return row.series if batch is None else compose("{}, batch {}", row.series, Amount(batch, "count"))


def by_facets(rows: Iterable[ReportRow], kind: str, without: str | None = None) -> dict[Facets, list[ReportRow]]:
    """The rows of one level, grouped by their facets, ignoring the facet ``without``.

    The setting with the most results comes first. Within a setting, the bare encoder and the forward pass come first.
    """
    groups: dict[Facets, list[ReportRow]] = {}
    for row in rows:
        if row.kind == kind:
            facets = row.facets if without is None else tuple(pair for pair in row.facets if pair[0] != without)
            groups.setdefault(facets, []).append(row)
    results: dict[Facets, int] = {}
    for facets, group in groups.items():
        results[_setting(facets)] = results.get(_setting(facets), 0) + sum(row.is_ok for row in group)

    def order(facets: Facets) -> tuple[object, ...]:
        words = dict(facets)
        model, pass_ = words.get("Model", ""), words.get("Pass", "")
        return (-results[_setting(facets)], _setting(facets), model != "encoder", model, pass_ != "forward", pass_)

    return {facets: groups[facets] for facets in sorted(groups, key=order)}


def by_series(rows: Iterable[ReportRow]) -> dict[str, list[ReportRow]]:
    """The rows of each series in order of length, sorted by series."""
    groups: dict[str, list[ReportRow]] = {}
    for row in sorted(rows, key=lambda row: row.seq_len):
        groups.setdefault(row.series, []).append(row)
    return dict(sorted(groups.items()))


def sequence_lengths(rows: Iterable[ReportRow]) -> list[int]:
    """The sequence lengths of the rows, ascending."""
    return sorted({row.seq_len for row in rows})


def times_by_length(rows: Iterable[ReportRow]) -> dict[str, dict[int, intervals.Estimate]]:
    """The time at each length, by series, of rows with equal facets, without times that other processes disturbed. Of
    two rows with one series and length the first counts."""
    times: dict[str, dict[int, intervals.Estimate]] = {}
    for row in rows:
        if row.time is not None and row.disturbance is None:
            times.setdefault(row.series, {}).setdefault(row.seq_len, row.time)
    return times


def undisturbed_first(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """The rows with a time, those that were not disturbed first: of several records of one case the first counts."""
    return sorted((row for row in rows if row.time is not None), key=lambda row: row.disturbance is not None)


def _setting(facets: Facets) -> Facets:
    return tuple(pair for pair in facets if pair[0] not in {"Model", "Pass"})


def _base_series(record: Record) -> str:
    spec = record.spec
    if isinstance(spec, ModelSpec) and spec.family != "yoso":
        return f"{spec.family} · {spec.attention}"
    return spec.attention


def _is_at_largest_batch(record: Record) -> bool:
    return isinstance(record.spec, ModelSpec) and record.spec.largest_batch


def _divisor(record: Record) -> int | None:
    """What the time and memory of a call are divided by; None where the largest batch was not recorded."""
    return record.batch if _is_at_largest_batch(record) else 1


def _knobs(record: Record) -> dict[str, Scalar | None]:
    spec = record.spec
    window = {"conv_window": spec.conv_window} if isinstance(spec, ModelSpec) else {}
    # Attentions may be trained with the rate that is best for each, and are compared nevertheless.
    rate = {"learning_rate": spec.learning_rate} if isinstance(spec, TaskSpec) else {}
    return {**window, **rate, **spec.knobs, **record.knobs, "seed": spec.seed}


def _is_set(record: Record, knob: str) -> bool:
    """Whether the case itself set the knob, and not the default of the attention."""
    return knob in record.spec.knobs or knob == "seed" or knob not in record.knobs


def _series(records: Sequence[Record], facets: Sequence[Facets]) -> list[str]:
    """The base series, with the knobs in which records with equal facets and length differ.

    A model's ``conv_window`` counts as a knob, and is in the label of the models that have a convolution; so does the
    learning rate of a training.
    A knob that only follows the length, such as ``hash_code_len`` = log2(n), does not split a series. Records that
    leave a knob to the attention's default stay one series beside those that set it. The budget of a quality record
    does not split a series either, because it is the axis of that plot.
    """
    base_series = [_base_series(record) for record in records]
    all_values: dict[tuple[object, ...], set[Scalar | None]] = {}
    default_values: dict[tuple[object, ...], set[Scalar | None]] = {}
    for record, base, row_facets in zip(records, base_series, facets, strict=True):
        for name, value in _knobs(record).items():
            place = (record.spec.kind, base, name, row_facets, record.spec.seq_len)
            all_values.setdefault(place, set()).add(value)
            if not _is_set(record, name):
                default_values.setdefault(place, set()).add(value)
    differing = {place[:3] for place, values in all_values.items() if len(values) > 1}
    differing_defaults = {place[:3] for place, values in default_values.items() if len(values) > 1}
    labels = []
    for record, base in zip(records, base_series, strict=True):
        words = [
            f"{name}={value}"
            for name, value in sorted(_knobs(record).items())
            if (record.spec.kind, base, name) in (differing if _is_set(record, name) else differing_defaults)
            and not (record.quality and name == record.quality.budget)
            and value is not None
        ]
        labels.append(f"{base} ({', '.join(words)})" if words else base)
    return labels


def _times(
    records: Sequence[Record], facets: Sequence[Facets]
) -> tuple[list[intervals.Estimate | None], list[Clock | None]]:
    """The time and the clock of each record: device time where all timed records with equal facets have it, wall time
    otherwise. Records of one case from several processes have the time over all of these."""
    groups = [(record.spec.kind, row_facets) for record, row_facets in zip(records, facets, strict=True)]
    wall_only = {
        group
        for record, group in zip(records, groups, strict=True)
        if record.timing is not None and record.timing.device_seconds is None
    }
    rng = np.random.default_rng(0)
    times: list[intervals.Estimate | None] = []
    clocks: list[Clock | None] = []
    for record, group in zip(records, groups, strict=True):
        timing, batch = record.timing, _divisor(record)
        if timing is None or batch is None:
            times.append(None)
            clocks.append(None)
            continue
        on_wall = group in wall_only or timing.device_seconds is None
        seconds = timing.wall_seconds if on_wall else timing.device_seconds or []
        times.append(intervals.bootstrap_median([sample / batch for sample in seconds], rng))
        clocks.append("wall" if on_wall else "device")
    of_case: dict[tuple[object, ...], list[int]] = {}
    for number, (record, row_facets) in enumerate(zip(records, facets, strict=True)):
        if times[number] is not None:
            of_case.setdefault((row_facets, record.case_id), []).append(number)
    for numbers in of_case.values():
        timings = [timing for number in numbers if (timing := records[number].timing) is not None]
        own = [time for number in numbers if (time := times[number]) is not None]
        for number, time in zip(numbers, over_processes(timings, own, rng), strict=True):
            times[number] = time
    return times, clocks


def interval_scope(rows: Iterable[ReportRow]) -> Sentence:
    """What the intervals of the times are between, as part of a sentence: ``within one process``."""
    counts = {row.time.processes for row in rows if row.time is not None}
    several = sorted(counts - {1})
    if not several:
        return Sentence("within one process")
    numbers = join([Amount(count, "count") for count in several], " or ")
    if 1 in counts:
        return compose("between {} processes, or within one where a case was measured in one only", numbers)
    return compose("between {} processes", numbers)
