"""The study's results as they are stored: one JSON file, which is complete after every kind of inputs and length."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from harness.core.record import Timing
from harness.core.spec import Scalar, Swap
from suites.studies import results_file

RESULTS = "estimators.json"
WHAT = (
    "seconds of whole calls, forward and forward with backward, of YOSO's estimators and of exact attention on a CPU, "
    "and the relative Frobenius errors of the estimators' outputs and input gradients against YOSO-E; entry i of every "
    "list is of round i, whose random numbers have the seed i"
)
SAME_MACHINE = ("cpu", "logical_cores", "torch", "torch_threads", "torch_cpu_capability")
"""Facts of the machine that must not change within a results file, because times are compared."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Outcome(_Stored):
    """One setting: the times of its calls in every round, and the errors of their results."""

    attention: str
    knobs: Mapping[str, Scalar]
    all_knobs: Mapping[str, Scalar]
    """With the defaults."""
    forward: Timing
    training: Timing
    """Of forward with backward."""
    errors: Mapping[str, list[float]] = Field(default_factory=dict)
    """``output``, ``grad_q``, ``grad_k`` and ``grad_v``, relative to YOSO-E; empty for exact attention."""

    @property
    def setting(self) -> Swap:
        """The attention and the knobs that were asked for."""
        return Swap(attention=self.attention, knobs=self.knobs)


class Point(_Stored):
    """All settings on one kind of inputs of one length."""

    inputs: str
    seq_len: int
    heads: int
    head_dim: int
    about: str
    """What the inputs are."""
    reference_errors: Mapping[str, float]
    """Of YOSO-E in float32, to which errors are relative, against its float64 definition at some rows."""
    outcomes: list[Outcome]
    seconds: float
    commit: str | None = None

    @property
    def rounds(self) -> int:
        """The number of rounds, which is the number of draws as well."""
        return len(self.outcomes[0].forward.wall_seconds)

    def outcome(self, setting: Swap) -> Outcome | None:
        """The outcome of a setting; None if it was not measured."""
        return next((found for found in self.outcomes if found.setting == setting), None)


class Study(_Stored):
    """Everything that was measured so far."""

    what: str = WHAT
    settings: list[Swap]
    machine: Mapping[str, Scalar | None]
    points: list[Point] = Field(default_factory=list)

    def has(self, inputs: str, seq_len: int) -> bool:
        """Whether this kind of inputs of this length was measured."""
        return any((point.inputs, point.seq_len) == (inputs, seq_len) for point in self.points)

    def with_point(self, point: Point) -> "Study":
        """The same study with this point as its last."""
        return self.model_copy(update={"points": [*self.points, point]})


def save(study: Study, folder: Path) -> Path:
    """Write the results, all or nothing: an interruption leaves the file of before."""
    return results_file.save(study, folder / RESULTS)


def resumed(new: Study, folder: Path) -> Study:
    """``new`` with the points of the folder's results, if it has any.

    Raises:
        ValueError: the file cannot be read, or has results of other settings or of another machine.
    """
    path = folder / RESULTS
    if not path.exists():
        return new
    before = results_file.read(Study, path)
    if before.settings != new.settings:
        raise ValueError(
            f"{path}: expected results of the settings {_labels(new)}, got {_labels(before)}; choose another --out"
        )
    for fact in SAME_MACHINE:
        if before.machine.get(fact) != new.machine.get(fact):
            raise ValueError(
                f"{path}: expected times of a machine with {fact} {new.machine.get(fact)!r}, as this one, got "
                f"{before.machine.get(fact)!r}; choose another --out"
            )
    return new.model_copy(update={"machine": before.machine, "points": before.points})


def _labels(study: Study) -> str:
    return ", ".join(setting.label for setting in study.settings)
