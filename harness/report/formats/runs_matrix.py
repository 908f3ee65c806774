"""The matrix of the index: one row a device and profile, one column a length, and in each cell the winners there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from harness.report.model.amounts import format_length
from harness.report.model.facets import WORDS
from harness.report.model.page_data import OperationData
from harness.report.questions.best_methods import ALLOWED_ERROR, BestAtLength, best_by_length

_TRAINING = WORDS["forward_backward"]


@dataclass(frozen=True)
class RunWinners:
    """The winners of one run by length, and the place of the bar that they are at.

    Attributes:
        setting: the facets in words.
        pass_: the pass of most lengths; a cell names its own where it is another.
        inputs: the kind of inputs on which errors were measured; empty where there were none.
    """

    setting: str
    pass_: str
    inputs: str
    cells: dict[int, BestAtLength]
    facets: dict[str, str]
    headline: str

    def fragment(self, length: int) -> str:
        """The fragment of an address that opens the run's page at a cell; ``scripts/state.js`` reads it."""
        setting = self.cells[length].setting
        return urlencode(
            {
                **self.facets,
                "pass": "training" if setting.pass_ == _TRAINING else "forward",
                "length": str(length),
                **({"inputs": self.inputs} if self.inputs else {}),
                "allowed": f"{ALLOWED_ERROR:g}",
            },
            errors="replace",
        )


@dataclass(frozen=True)
class Column:
    """A length in tokens, and in words."""

    length: int
    words: str


def winners(operation: OperationData | None) -> RunWinners | None:
    """The winners of a run; None where the attention alone was not timed."""
    cells = {} if operation is None else best_by_length(operation)
    if operation is None or not cells:
        return None
    passes = [best.setting.pass_ for best in cells.values()]
    start = operation.start
    return RunWinners(
        setting=", ".join(start.facets.values()),
        pass_=max(operation.passes, key=passes.count),
        inputs=start.inputs,
        cells=cells,
        facets={name: value for name, value in start.facets.items() if len(operation.facets[name]) > 1},
        headline=str(cells.get(start.length, cells[max(cells)]).sentence),
    )


def columns(rows: Iterable[RunWinners]) -> Sequence[Column]:
    """The lengths of the rows, ascending."""
    lengths = sorted({length for row in rows for length in row.cells})
    return [Column(length, format_length(length)) for length in lengths]
