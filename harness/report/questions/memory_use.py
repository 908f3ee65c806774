"""How much memory does it need? The peak against length, and its parts: what is there before a call, what the call
returns, and the rest. The peak is that of one call at torch's allocator, so what it leaves out is named beside it."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from harness.core.quantities import bytes_words
from harness.core.record import Memory, Record
from harness.core.spec import ModelSpec, OperationSpec
from harness.report.model.amounts import ABSENT, Amount, Sentence, compose, join
from harness.report.model.facets import Facets
from harness.report.model.figures import (
    Figure,
    Styles,
    Trace,
    escape_text,
    figure_with_failures,
    hover_text,
    line_trace,
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
    call_memory,
    per_instance_suffix,
    series_with_batch,
)
from harness.report.model.tables import Cell, Table, table_with_facets

_BYTES_PER_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}
LEAST_SHARE = 0.01
LEAST_BYTES = 2**20
"""Memory beside the peak is named where it is more than this, and more than that share of the peak: the position
indices and hash planes that an attention keeps are less."""
LEAST_GROWTH_BYTES = 2**12
"""Growth with each call is named from a smaller size on, because it has no end."""
_EMPTY = "No peak above 0 was measured."


@dataclass(frozen=True)
class MemoryParts:
    """The memory of a call in bytes.

    ``weights`` and ``inputs`` are allocated before the call; ``results`` and ``rest`` add up to its peak.
    ``reserved`` is what the CUDA allocator reserved, None on a CPU.
    """

    weights: int
    inputs: int
    results: int
    rest: int
    reserved: int | None


def split_memory(record: Record) -> MemoryParts | None:
    """The memory of a case by its use; None where none was measured.

    Results are what the call must return: the output or the three gradients of an operation, the gradient of every
    weight in a training step. The forward pass of a model returns a tensor whose size the record does not contain: it
    is part of ``rest``, with activations and workspace.
    """
    memory, spec = record.memory, record.spec
    if memory is None:
        return None
    item = _BYTES_PER_NUMBER[spec.dtype]
    weights = (record.parameters or 0) * item
    results = 0
    if isinstance(spec, OperationSpec):
        tensor = spec.batch * spec.heads * spec.seq_len * spec.head_dim * item
        results = tensor * (3 if spec.mode == "forward_backward" else 1)
    elif isinstance(spec, ModelSpec) and spec.mode == "training_step":
        results = weights
    results = min(results, memory.peak_bytes)
    weights = min(weights, memory.input_bytes)
    return MemoryParts(
        weights, memory.input_bytes - weights, results, memory.peak_bytes - results, memory.reserved_bytes
    )


def beside_the_peak(memory: Memory) -> list[Sentence]:
    """What a user pays for in addition to the peak, where it is not negligible; empty in records without it."""
    least = max(LEAST_BYTES, LEAST_SHARE * memory.peak_bytes)
    template = "allocates {} outside torch"
    if memory.reserved_bytes is not None:  # on CUDA only what a call leaves allocated is known
        template = "leaves {} allocated outside torch"
    return [
        compose(words, Amount(size, "B"))
        for size, limit, words in (
            (memory.kept_bytes, least, "keeps {} between calls"),
            (memory.growth_bytes, LEAST_GROWTH_BYTES, "grows by {} a call"),
            (memory.outside_torch_bytes, least, template),
        )
        if size is not None and size > limit
    ]


def _row_beside_the_peak(row: ReportRow) -> Sentence | None:
    memory = call_memory(row.record) if row.is_ok else None
    parts = beside_the_peak(memory) if memory else []
    return join(parts) if parts else None


def _one_a_case(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """The rows without further rounds of a case: the first with a peak, undisturbed where there is one, stands for all,
    as it does in the ranking."""
    chosen: dict[tuple[object, ...], ReportRow] = {}
    for row in sorted(rows, key=lambda row: (row.peak_bytes is None, row.disturbance is not None)):
        chosen.setdefault((row.facets, row.series, row.seq_len, row.status), row)
    return list(chosen.values())


def sentences(rows: Sequence[ReportRow]) -> list[Sentence]:
    """The peak memory of every attention at the longest length where memory was measured."""
    measured = [(row, row.peak_bytes) for row in _one_a_case(rows) if row.peak_bytes is not None]
    if not measured:
        return []
    longest = max(row.seq_len for row, _ in measured)
    at_longest = sorted(((row, peak) for row, peak in measured if row.seq_len == longest), key=lambda pair: pair[1])
    parts = []
    for row, peak in at_longest:
        part = compose("{} {}", row.series, Amount(peak, "B"))
        beside = _row_beside_the_peak(row)
        parts.append(part if beside is None else compose("{} (and {})", part, beside))
    return [compose("Peak memory of one call at {} tokens: {}.", Amount(longest, "tokens"), join(parts))]


def memory_plot(rows: Sequence[ReportRow], styles: Styles) -> Plot:
    """Peak memory against length."""
    title = f"Peak memory{per_instance_suffix(rows)} against length"
    return Plot("memory", title, memory_figure(rows, styles), _memory_remarks(_one_a_case(rows)), _EMPTY)


def memory_figure(rows: Sequence[ReportRow], styles: Styles) -> Figure:
    """Peak bytes above what was allocated before the call, against length."""
    rows = _one_a_case(rows)
    data: list[Trace] = []
    values: list[float] = []
    for series, cases in by_series(rows).items():
        # a measured 0 cannot be drawn on a log axis: the remarks name those cases
        drawn = [
            (row, row.peak_bytes, row.input_bytes, memory.source)
            for row in cases
            if row.peak_bytes and row.input_bytes is not None and (memory := call_memory(row.record))
        ]
        if not drawn:
            continue
        texts = [
            hover_text(
                row,
                f"{bytes_words(peak)}{batch_note(row)} at the peak"
                f"<br>{bytes_words(before)} before the call<br>counted by {escape_text(source)}"
                + (f"<br>not in the peak: {beside}" if (beside := _row_beside_the_peak(row)) else ""),
            )
            for row, peak, before, source in drawn
        ]
        lengths, peaks = [row.seq_len for row, *_ in drawn], [peak for _, peak, *_ in drawn]
        data.append(line_trace(series, styles, lengths, peaks, texts, lengths))
        values += peaks
    axis = log_axis(f"peak memory{per_instance_suffix(rows)}", values, bytes_words, 2)
    return figure_with_failures(data, rows, styles, yaxis=axis)


def _memory_remarks(rows: Sequence[ReportRow]) -> list[Sentence]:
    """Cases that cannot be drawn on a log axis, and cases without a measurement."""
    zero = sorted(row.case_id for row in rows if row.peak_bytes == 0)
    unmeasured = sum(row.is_ok for row in rows) - sum(row.peak_bytes is not None for row in rows)
    remarks = []
    beside = [
        compose("{} at {} tokens {}", row.series, Amount(row.seq_len, "tokens"), words)
        for row in rows
        if (words := _row_beside_the_peak(row))
    ]
    if beside:
        remarks.append(compose("Not in the peak: {}.", join(beside, "; ")))
    if zero:
        template = "A peak of {} bytes cannot be drawn on a log axis: {}."
        remarks.append(compose(template, Amount(0, "count"), ", ".join(zero)))
    if unmeasured:
        template = "Cases with a result but no memory measurement: {}."
        remarks.append(compose(template, Amount(unmeasured, "count")))
    return remarks


def section(evidence: Evidence) -> Section:
    """Memory by its use."""
    return build_section(
        "memory", "Memory", memory_finding(evidence.rows),
        "At the longest measured length of each attention. Results are what the call must return: the output or the "
        "gradients. The rest of the peak is activations and workspace.",
        memory_parts(evidence.rows),
    )  # fmt: skip


def memory_finding(rows: Sequence[ReportRow]) -> Sentence | None:
    """The least and the most peak memory at the longest length of the setting with the most results, and YOSO's."""
    rows = _one_a_case(rows)
    attentions = [row for row in rows if row.base_series != NO_ATTENTION and row.peak_bytes is not None]
    for level in ("operation", "model"):
        for facets, group in by_facets(attentions or rows, level).items():
            measured = [(row.peak_bytes, row) for row in group if row.peak_bytes is not None]
            if not measured:
                continue
            longest = max(row.seq_len for _, row in measured)
            at_longest = sorted((peak, row.series) for peak, row in measured if row.seq_len == longest)
            (least, least_series), (most, most_series) = at_longest[0], at_longest[-1]
            parts = [compose("{} needs {}", least_series, Amount(least, "B"))]
            if len(at_longest) > 1:
                parts.append(compose("{} {}", most_series, Amount(most, "B")))
            parts += [compose("{} {}", name, Amount(peak, "B")) for peak, name in at_longest[1:-1]
                      if name == YOSO_SAMPLING]  # fmt: skip
            where = Amount(longest, "tokens"), dict(facets)["Pass"]
            return compose("Peak of one call at {} tokens, {}: {}.", *where, join(parts))
    return None


def memory_parts(rows: Sequence[ReportRow]) -> list[Table]:
    """The parts of the whole call of every series at its longest measured length, one table per level."""
    tables = []
    for level in ("operation", "model"):
        cells: list[tuple[Facets, list[Cell]]] = []
        besides: list[Sentence | None] = []
        for facets, group in by_facets(rows, level).items():
            for cases in by_series(row for row in group if row.peak_bytes is not None).values():
                row = max(cases, key=lambda row: row.seq_len)
                parts = split_memory(row.record)
                if parts is None:
                    continue
                amounts = [ABSENT if size is None else Amount(size, "B") for size in astuple(parts)]
                cells.append((facets, [series_with_batch(row), Amount(row.seq_len, "tokens"), *amounts]))
                besides.append(_row_beside_the_peak(row))
        columns = [
            "Attention", "Length", "Weights before", "Inputs before", "Results", "Activations and workspace",
            "Reserved by the allocator",
        ]  # fmt: skip
        if any(besides):
            columns.append("Not in the peak")
            cells = [(facets, [*own, beside or ABSENT]) for (facets, own), beside in zip(cells, besides, strict=True)]
        tables.append(table_with_facets(level.capitalize(), columns, cells))
    return [table for table in tables if table.rows]


SECTIONS = {90: section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
