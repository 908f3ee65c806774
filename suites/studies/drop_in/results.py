"""The study's results as they are stored: one JSON file, which is complete after every attention."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.spec import Scalar, Swap
from suites.studies import results_file

RESULTS = "drop-in.json"
WHAT = (
    "pretrained encoders with another attention in place of softmax, compared with the original over held-out texts, "
    "before and during a distillation; agreement and layer_cosine are 1 for a model that does what the original does"
)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Settings(_Stored):
    """How students are distilled and compared; it is the same for all attentions of a results file."""

    steps: int = Field(default=160, ge=0, description="distillation steps; 0: the swap alone")
    learning_rate: float = Field(default=2e-4, gt=0)
    batch: int = Field(default=4, gt=0, description="texts in a step")
    held_out: int = Field(default=24, gt=0, description="held-out texts, at most")
    max_tokens: int = Field(default=256, ge=8, description="longer texts are left out, or cut where they are prose")
    seed: int = Field(default=0, ge=0, description="of the training texts, and of the attention's random numbers")

    @property
    def recorded_steps(self) -> list[int]:
        """The steps after which the student is compared: 0, an eighth, a quarter and a half of all, and the last."""
        return sorted({0, self.steps // 8, self.steps // 4, self.steps // 2, self.steps})


class Source(_Stored):
    """A pretrained model and the texts that it was compared on."""

    package: str
    sha256: Mapping[str, str]
    """Of each file that was read."""
    texts: str
    texts_sha256: str
    """Of the held-out texts as tokens."""
    held_out: int
    longest: int
    task: str
    measures: tuple[str, ...]


class Comparison(_Stored):
    """A student against the original after ``step`` steps; step 0 is the swap without any training."""

    step: int
    train_seconds: float
    layer_cosine: list[float]
    """For each layer, the mean cosine of a real token's hidden state with the original's."""
    agreement: Mapping[str, float]


class Outcome(_Stored):
    """One attention in one model."""

    model: str
    attention: str
    knobs: Mapping[str, Scalar]
    """As they were asked for; ``all_knobs`` has the defaults as well."""
    all_knobs: Mapping[str, Scalar] = Field(default_factory=dict)
    status: Literal["ok", "unsupported", "diverged"]
    reason: str | None = None
    comparisons: list[Comparison] = Field(default_factory=list)
    seconds: float = 0.0
    commit: str | None = None

    @property
    def swap(self) -> Swap:
        """The attention and the knobs that were asked for."""
        return Swap(attention=self.attention, knobs=self.knobs)


class Study(_Stored):
    """Everything that was measured so far."""

    what: str = WHAT
    settings: Settings
    sources: Mapping[str, Source]
    """By the name of the model."""
    machine: Mapping[str, Scalar | None]
    outcomes: list[Outcome] = Field(default_factory=list)

    def has(self, model: str, swap: Swap) -> bool:
        """Whether this attention in this model needs no further run. What could not run is tried again."""
        return any(
            (found.model, found.swap) == (model, swap) and found.status != "unsupported" for found in self.outcomes
        )

    def with_outcome(self, outcome: Outcome) -> "Study":
        """The same study with this outcome, in place of an earlier one of the same attention and model."""
        others = [found for found in self.outcomes if (found.model, found.swap) != (outcome.model, outcome.swap)]
        return self.model_copy(update={"outcomes": [*others, outcome]})


def save(study: Study, folder: Path) -> Path:
    """Write the results, all or nothing: an interruption leaves the file of before."""
    return results_file.save(study, folder / RESULTS)


def resumed(new: Study, folder: Path) -> Study:
    """``new`` with the finished outcomes of the folder's results, if it has any.

    Raises:
        ValueError: the file cannot be read, or has results with other settings, weights or texts.
    """
    path = folder / RESULTS
    if not path.exists():
        return new
    before = results_file.read(Study, path)
    if before.settings != new.settings:
        raise ValueError(
            f"{path} has results with {before.settings!r}, not with {new.settings!r}; choose another --out, or give "
            "the same options"
        )
    for name, source in new.sources.items():
        if name in before.sources and before.sources[name] != source:
            raise ValueError(
                f"{path} has results of {name} with other weights or texts than those here; choose another --out"
            )
    return new.model_copy(update={"sources": {**before.sources, **new.sources}, "outcomes": before.outcomes})
