"""Accuracies that others have published: beside a run's own, marked as theirs, and never compared with it in words."""

from harness.report.model.tables import Cell, Table
from harness.report.model.units import Amount

SOURCE = (
    "Xiong et al., Nyströmformer, AAAI 2021 (arXiv 2102.03902; github.com/mlpen/Nystromformer): Long Range Arena as "
    "re-implemented by the YOSO authors' group. It has no row for YOSO"
)
_TASKS = ("ListOps", "Text", "Retrieval", "Image", "Pathfinder", "Average")
_PERCENT = {
    "softmax": (37.10, 65.02, 79.35, 38.20, 74.16, 58.77),
    "Reformer": (19.05, 64.88, 78.64, 43.29, 69.36, 55.04),
    "Linformer": (37.25, 55.91, 79.37, 37.84, 67.60, 55.59),
    "Performer": (18.80, 63.81, 78.62, 37.07, 69.87, 53.63),
    "Nyströmformer": (37.15, 65.52, 79.56, 41.58, 70.94, 58.95),
}


def long_range_arena() -> Table:
    """Held-out accuracy as it was published, by attention and task."""
    rows: list[list[Cell]] = [
        [name, *(Amount(value / 100, "fraction", text=f"{value:.2f}%") for value in values)]
        for name, values in _PERCENT.items()
    ]
    return Table("Published elsewhere, not measured here", ["Attention", *_TASKS], rows, SOURCE)
