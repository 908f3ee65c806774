"""The roofline: operations a second against operations a byte, under the ceilings that this device was measured at."""

from collections.abc import Sequence

import pandas as pd

from harness.core.record import Ceiling, Record
from harness.report.model import units
from harness.report.model.figures import Figure, Styles, Trace, figure, hover, line, log_axis, text
from harness.report.model.records_table import each
from harness.report.questions.bounds import bound, rate


def work(record: Record) -> tuple[float, float] | None:
    """Floating-point operations and bytes through memory that a call must do at least; None where not counted."""
    counted = record.work or {}
    operations = sum(amount for name, amount in counted.items() if name.startswith(("matmul", "vector")))
    moved = counted.get("copy", 0.0)
    return (operations, moved) if operations > 0 and moved > 0 else None


def roofline_figure(rows: pd.DataFrame, ceilings: Sequence[Ceiling], styles: Styles) -> Figure | None:
    """Operations of one view; None where nothing was counted or no ceiling measured."""
    data: list[Trace] = []
    devices = {row.record.spec.device for row in each(rows)}
    dtypes = {row.record.spec.dtype for row in each(rows)}
    roofs = [one for one in ceilings if one.seconds and one.device in devices and _fits(one.name, dtypes)]
    intensities: list[float] = []
    for label, its in rows[rows["time"].notna()].sort_values("seq_len").groupby("series"):
        found = [(row, counted) for row in each(its) if (counted := work(row.record))]
        if not found:
            continue
        x = [operations / moved for _, (operations, moved) in found]
        y = [operations / row.time.value for row, (operations, _) in found]
        texts = []
        for (row, _), intensity, speed in zip(found, x, y, strict=True):
            floor = bound(row.record, list(ceilings))
            of_bound = (
                f"<br>{units.percent(floor.seconds / row.time.value)} of the bound by {floor.ceiling}" if floor else ""
            )
            texts.append(
                hover(row, f"{units.operation_rate(speed)} at {units.number(intensity)} operations a byte{of_bound}")
            )
        data.append(line(str(label), styles, x, y, texts, [row.seq_len for row, _ in found]))
        intensities += x
    if not data or not roofs:
        return None
    left, right = min(intensities) / 2, max(intensities) * 2
    speeds = [value for trace in data for value in trace["y"]]
    for roof in roofs:
        height = [rate(roof) * (x if roof.unit == "byte" else 1) for x in (left, right)]
        speeds += height
        words = units.byte_rate if roof.unit == "byte" else units.operation_rate
        data.append(
            {"type": "scatter", "mode": "lines", "x": [left, right], "y": height, "meta": {"series": None},
             "line": {"color": "#8a8f98", "dash": "dash", "width": 1.5}, "hoverinfo": "text", "name": roof.name,
             "hovertext": [f"{text(roof.name)}: {words(rate(roof))}"] * 2}
        )  # fmt: skip
    return figure(
        data, xaxis=log_axis("operations a byte through memory", intensities, units.number, 10),
        yaxis=log_axis("operations a second", speeds, units.operation_rate, 10),
    )  # fmt: skip


def _fits(name: str, dtypes: set[str]) -> bool:
    return name in {"copy", "vector float32"} or any(name == f"matmul {dtype}" for dtype in dtypes)
