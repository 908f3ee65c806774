"""Memory taken apart: what must be there before a call, what it must write, and what it needs on top."""

from typing import NamedTuple

import pandas as pd

from harness.core.record import Record
from harness.core.spec import ModelSpec, OperationSpec
from harness.report.model import units
from harness.report.model.records_table import Facets, at_batch, each, views
from harness.report.model.tables import Cell, Table, with_facets
from harness.report.model.units import Amount

_ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}


class Parts(NamedTuple):
    """Bytes. ``weights`` and ``inputs`` are there before the call; ``results`` and ``rest`` make up its peak."""

    weights: int
    inputs: int
    results: int
    rest: int
    reserved: int | None


def parts(record: Record) -> Parts | None:
    """The memory of a case by its use; None where none was measured.

    Results are what the call must hand back: an operation's output or its three gradients, a training step's gradient
    of every weight. The forward pass of a model hands back a tensor that the record does not tell the size of: it is in
    ``rest``, with activations and workspace.
    """
    memory, spec = record.memory, record.spec
    if memory is None:
        return None
    item = _ITEM[spec.dtype]
    weights = (record.parameters or 0) * item
    results = 0
    if isinstance(spec, OperationSpec):
        tensor = spec.batch * spec.heads * spec.seq_len * spec.head_dim * item
        results = tensor * (3 if spec.mode == "forward_backward" else 1)
    elif isinstance(spec, ModelSpec) and spec.mode == "training_step":
        results = weights
    results = min(results, memory.peak_bytes)
    weights = min(weights, memory.input_bytes)
    return Parts(
        weights, memory.input_bytes - weights, results, memory.peak_bytes - results, memory.reserved_bytes
    )  # fmt: skip


def memory_parts(table: pd.DataFrame) -> list[Table]:
    """The parts of every series' whole call at its longest measured length, one table a level."""
    found = []
    for kind in ("operation", "model"):
        rows: list[tuple[Facets, list[Cell]]] = []
        for facets, view in views(table, kind).items():
            measured = view[view["peak_bytes"].notna()]
            for _, line in measured.groupby("series"):
                row = max(each(line), key=lambda row: row.seq_len)
                split = parts(row.record)
                if split is None:
                    continue
                cells: list[Cell] = [at_batch(row), Amount(row.seq_len, "tokens")]
                cells += [Amount(value, "B") for value in split[:4]]
                cells.append(units.ABSENT if split.reserved is None else Amount(split.reserved, "B"))
                rows.append((facets, cells))
        columns = [
            "Attention", "Length", "Weights before", "Inputs before", "Results", "Activations and workspace",
            "Reserved by the allocator",
        ]  # fmt: skip
        found.append(with_facets(kind.capitalize(), columns, rows))
    return [one for one in found if one.rows]
