"""Specs: immutable descriptions of one case each. A spec has everything that a case needs and nothing of its result."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.core.record_text import encodable

Scalar = bool | int | float | str
Dtype = Literal["float32", "bfloat16", "float16"]
OperationMode = Literal["forward", "forward_backward"]
ModelMode = Literal["forward", "training_step"]
Head = Literal[
    "encoder",
    "masked_lm",
    "sequence_classification",
    "multiple_choice",
    "token_classification",
    "question_answering",
]
Family = Literal["yoso", "bert", "transformers_yoso", "lra"]
TaskFamily = Literal["yoso", "lra"]
Schedule = Literal["linear", "one_cycle"]
ScoredOn = Literal["held_out", "development"]
QualityInputs = Literal["matched", "clustered", "normal", "recorded"]

_ABBREVIATIONS = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "forward": "fwd",
    "forward_backward": "fwdbwd",
    "training_step": "step",
}


SEED_BITS = 47
"""Bits of a seed from entropy: many readers hold a number of JSON exactly up to 53 bits only."""


def seed_from_entropy() -> int:
    """A seed that nobody can know in advance, and that a record can store."""
    return secrets.randbits(SEED_BITS)


class _Storable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _texts_are_encodable(cls, fields: object) -> object:
        return encodable(fields)


class Spec(_Storable):
    """The fields that every kind of case has.

    ``knobs`` are parameters of the attention itself (for YOSO ``num_hash``, ``hash_code_len``, ...); those left out
    have the plugin's defaults. ``seed`` is the seed of the inputs, the weights and the attention's own random numbers.
    """

    attention: str
    seq_len: int = Field(gt=0)
    device: str = "cpu"
    dtype: Dtype = "float32"
    knobs: Mapping[str, Scalar] = Field(default_factory=dict)
    seed: int = 0

    def _id(self, *parts: str) -> str:
        knobs = [f"{name}={value}" for name, value in sorted(self.knobs.items())]
        seed = [f"seed{self.seed}"] if self.seed else []
        all_parts = [self.attention, f"n{self.seq_len}", *parts, _ABBREVIATIONS[self.dtype], self.device, *knobs, *seed]
        return "-".join(all_parts)

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class OperationSpec(Spec):
    """The attention alone on random inputs ``[batch, heads, seq_len, head_dim]``.

    ``padding`` is the fraction of each sequence that is padding; 0 passes no mask at all.
    """

    kind: Literal["operation"] = "operation"
    batch: int = Field(default=1, gt=0)
    heads: int = Field(default=8, gt=0)
    head_dim: int = Field(default=64, gt=0)
    mode: OperationMode = "forward"
    padding: float = Field(default=0.0, ge=0.0, lt=1.0)

    @property
    def case_id(self) -> str:
        """The test id of this case; cases with equal ids are the same case."""
        pad = [f"pad{self.padding:g}"] if self.padding else []
        shape = f"b{self.batch}-h{self.heads}-d{self.head_dim}"
        return "operation/" + self._id(shape, *pad, _ABBREVIATIONS[self.mode])


class ModelSpec(Spec):
    """A whole model with the attention inside: an encoder, alone or with one of the task heads.

    ``family`` is the architecture: ``yoso``, this project's model; ``bert`` and ``transformers_yoso``, transformers'
    models as rivals; or ``lra``, the YOSO authors' Long Range Arena model, which shares one layer's weights between all
    layers. transformers' models have their own attention, which ``attention`` then names: ``sdpa`` for BERT, ``yoso_e``
    for YOSO.

    With ``largest_batch`` the case is measured at the largest batch that fits in memory, and ``batch`` has no effect.
    """

    kind: Literal["model"] = "model"
    family: Family = "yoso"
    head: Head = "encoder"
    mode: ModelMode = "forward"
    batch: int = Field(default=1, gt=0)
    largest_batch: bool = False
    layers: int = Field(default=2, gt=0)
    hidden_size: int = Field(default=256, gt=0)
    heads: int = Field(default=4, gt=0)
    vocab_size: int = Field(default=1024, gt=0)
    conv_window: int | None = Field(
        default=None,
        description="window of the convolution in parallel to the attention, in tokens; None: no convolution",
    )

    @property
    def case_id(self) -> str:
        """The test id of this case; cases with equal ids are the same case."""
        batch = "max" if self.largest_batch else self.batch
        shape = f"b{batch}-l{self.layers}-w{self.hidden_size}-h{self.heads}-v{self.vocab_size}"
        conv = [f"conv{self.conv_window}"] if self.conv_window else []
        return f"model/{self.family}-{self.head}-" + self._id(shape, *conv, _ABBREVIATIONS[self.mode])


class QualitySpec(Spec):
    """The error of an approximate attention relative to the attention that it estimates, over several random draws.

    Errors are relative Frobenius norms of the forward output and the input gradients, one value per draw. A case has
    one kind of inputs, because an approximation that is accurate on one kind can be useless on the other
    (docs/errors.md). ``matched`` inputs give sharp attention: each query is similar to the key at its own position.
    ``clustered`` inputs give smooth attention: tokens lie around the centres of a few clusters. ``similarity`` is the
    cosine of each query with that key, or of each row with its cluster's centre. ``normal`` inputs are standard
    normal, as those of timed calls. ``recorded`` inputs are query, key and value of a trained model: ``batch`` of its
    layers, and ``heads`` heads of each (``harness.measure.recordings``).

    With mode ``forward`` only the error of the output is measured, for attentions without a backward pass.
    """

    kind: Literal["quality"] = "quality"
    batch: int = Field(default=1, gt=0)
    heads: int = Field(default=2, gt=0)
    head_dim: int = Field(default=64, gt=0)
    draws: int = Field(default=8, gt=0)
    inputs: QualityInputs = "matched"
    similarity: float = Field(default=0.9, ge=0.0, le=1.0)
    mode: OperationMode = "forward_backward"
    recording: str | None = Field(default=None, description="a packaged model, or the name of the user's file")
    recording_sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="of the user's file; None: a packaged model"
    )

    @model_validator(mode="after")
    def _only_recorded_inputs_have_a_recording(self) -> "QualitySpec":
        if (self.inputs == "recorded") != (self.recording is not None):
            raise ValueError(
                f"recording must be given with inputs 'recorded' and only then, got {self.recording!r} with inputs "
                f"{self.inputs!r}"
            )
        if self.recording is None and self.recording_sha256 is not None:
            raise ValueError("recording_sha256 is given without recording; give the name of the file as well")
        return self

    @property
    def case_id(self) -> str:
        """The test id of this case; cases with equal ids are the same case."""
        kind: list[str] = [] if self.inputs == "matched" else [self.inputs]
        kind += [f"cos{self.similarity:g}"] if self.inputs in ("matched", "clustered") else []
        kind += [self.recording] if self.recording else []
        kind += [self.recording_sha256[:8]] if self.recording_sha256 else []
        kind += [_ABBREVIATIONS[self.mode]] if self.mode == "forward" else []
        shape = f"b{self.batch}-h{self.heads}-d{self.head_dim}-draws{self.draws}"
        return "quality/" + self._id(shape, *kind)


class Swap(_Storable):
    """An attention that replaces a trained model's own for an evaluation; the model's weights are unchanged."""

    attention: str
    knobs: Mapping[str, Scalar] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """The attention and its knobs, in the format of a case id."""
        return "-".join([self.attention, *(f"{name}={value}" for name, value in sorted(self.knobs.items()))])

    def __hash__(self) -> int:
        return hash(self.label)


class TaskSpec(Spec):
    """A model with the attention inside, trained from scratch on a task and scored on held-out data.

    ``family`` is the model: ``yoso``, this project's model with the task's head, or ``lra``, the YOSO authors' Long
    Range Arena model. Training ends after ``steps``, or after the first step that ends later than ``seconds``. Each
    trained model is also scored with the attentions in ``evaluate_with``.

    A learning rate, or anything else that is chosen by its score, is chosen with ``scored_on="development"``: then no
    held-out example is read. The model is scored on training examples that it was not trained on.
    """

    kind: Literal["task"] = "task"
    task: str = "listops"
    family: TaskFamily = "yoso"
    seeds: int = Field(default=2, gt=0, description="independent trainings: seed, seed + 1, ...")
    steps: int = Field(default=200, gt=0)
    pretrain_steps: int = Field(
        default=0, ge=0, description="steps of denoising the training examples before; see harness.training.pretraining"
    )
    seconds: float | None = Field(default=None, gt=0, description="training time limit of one seed")
    batch: int = Field(default=32, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int | None = Field(default=None, ge=0, description="None: a tenth of the steps")
    schedule: Schedule = "linear"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    train_examples: int = Field(default=4000, gt=0)
    eval_examples: int = Field(default=500, gt=0)
    layers: int = Field(default=2, gt=0)
    hidden_size: int = Field(default=64, gt=0)
    intermediate_size: int | None = Field(default=None, gt=0, description="None: twice the hidden size")
    heads: int = Field(default=2, gt=0)
    evaluate_with: tuple[Swap, ...] = ()
    scored_on: ScoredOn = "held_out"

    @model_validator(mode="after")
    def _warmup_fits_in_steps(self) -> "TaskSpec":
        if self.warmup_steps is not None and self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps must be at most steps={self.steps}, got {self.warmup_steps}; lower it or raise steps"
            )
        warmup = self.steps // 10 if self.warmup_steps is None else self.warmup_steps
        if self.schedule == "one_cycle" and not 2 <= warmup < self.steps:
            raise ValueError(
                f"schedule 'one_cycle' needs at least 2 warmup_steps and a step after them, got {warmup} of "
                f"{self.steps} steps; raise steps"
            )
        return self

    @property
    def case_id(self) -> str:
        """The test id of this case; cases with equal ids are the same case."""
        shape = f"b{self.batch}-l{self.layers}-w{self.hidden_size}-h{self.heads}"
        budget = f"steps{self.steps}-lr{self.learning_rate:g}-of{self.train_examples}-eval{self.eval_examples}"
        non_default = {
            "": None if self.family == "yoso" else self.family,
            "ffn": self.intermediate_size,
            "drop": self.dropout or None,
            "pretrain": self.pretrain_steps or None,
            "warmup": self.warmup_steps,
            "sec": None if self.seconds is None else f"{self.seconds:g}",
            "schedule": None if self.schedule == "linear" else self.schedule,
            "scored": None if self.scored_on == "held_out" else f"-{self.scored_on}",
            "swap": "+".join(swap.label for swap in self.evaluate_with) or None,
        }
        parts = [f"{name}{value}" for name, value in non_default.items() if value is not None]
        return f"task/{self.task}-" + self._id(shape, budget, *parts, f"seeds{self.seeds}")


AnySpec = Annotated[OperationSpec | ModelSpec | QualitySpec | TaskSpec, Field(discriminator="kind")]


@dataclass(frozen=True)
class Effort:
    """How long one case is warmed up and timed.

    The call is warmed up at least ``warmup_calls`` times and for at least ``warmup_seconds``. Then at least
    ``min_samples`` samples are taken, and more until ``seconds`` have passed or there are ``max_samples``.
    """

    min_samples: int
    max_samples: int
    seconds: float
    warmup_calls: int
    warmup_seconds: float
