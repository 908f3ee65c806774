"""What was found: one record a case, whatever happened to it. Raw samples only; statistics are the reader's."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.core.spec import AnySpec, Scalar

SCHEMA_VERSION = 1
Status = Literal["ok", "unsupported", "incorrect", "oom", "timeout", "crashed", "diverged"]
NOT_BEGUN = "not begun"
"""How the reason of a case begins that the deadline of its run left out; its status is timeout."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Check(_Strict):
    """One comparison with the float64 oracle: ``error`` must not pass ``allowed``.

    ``what`` is ``output``, ``grad_q``, ``grad_k``, ``grad_v`` or another named property; ``error`` is relative
    (Frobenius) unless ``what`` says otherwise.
    """

    what: str
    error: float | None = Field(description="None: not a finite number; the reason says so")
    allowed: float
    passed: bool


class Timing(_Strict):
    """Raw samples in seconds a call. On a CPU wall time is all there is; the fields that are None there are CUDA's.

    ``wall_seconds`` go from the call to the end of the synchronisation after it, ``submit_seconds`` to the call's own
    return. ``device_seconds`` are the device's, taken while it had other work to wait for: they hold no wait for the
    host, unless the call itself waits for the device.
    """

    wall_seconds: list[float] = Field(min_length=1)
    device_seconds: list[float] | None = None
    submit_seconds: list[float] | None = None
    warmup_calls: int
    calls_per_sample: int = 1
    threads: int | None = Field(default=None, description="torch.get_num_threads(), on a CPU")
    flushed_bytes: int | None = Field(default=None, description="written between samples, so that caches are cold")
    input_sets: int = Field(default=1, description="sets of inputs that the samples took in turn")
    turns: list[int] | None = Field(
        default=None, description="samples a turn, where they were taken in turns with another commit's (harness ab)"
    )


class Memory(_Strict):
    """Bytes at the allocator, never the process's resident set.

    ``peak_bytes`` is the high-water mark above what was allocated before the call; ``input_bytes`` were there before
    (inputs, weights). ``reserved_bytes`` is the most that torch's CUDA allocator held of the device, above what was
    allocated before; None on a CPU. ``source`` names the counter.
    """

    peak_bytes: int
    input_bytes: int
    reserved_bytes: int | None = None
    source: str


class Conditions(_Strict):
    """What a case ran under and did, as observed in one call.

    ``harness.report.questions.fairness`` says what must be equal in a comparison.

    What a fused or native kernel does inside is not seen. ``unseen`` says why nothing was: the fields that are None
    then, and ``dtypes`` is empty. ``layout_copies`` and ``all_pairs`` are None for a whole model, and ``all_pairs``
    for a sequence too short to tell. ``operators`` is the same on every machine that takes the same path through the
    code; a fused or native kernel is one.
    """

    parameters: int = Field(description="trainable numbers; shared ones count once")
    compiled: bool = Field(description="by torch.compile, all of it or a part")
    float32_matmul: str = Field(description="the least torch.get_float32_matmul_precision(); 'highest': no TF32")
    dtypes: list[str] = Field(default_factory=list, description="floating dtypes of results with a number a token")
    dropout: bool | None = Field(default=None, description="something was dropped at random")
    recomputes: bool | None = Field(default=None, description="backward ran forward operations again: checkpointing")
    layout_copies: int | None = Field(default=None, description="copies of an input's size into other strides")
    all_pairs: bool | None = Field(default=None, description="a result's last two sizes both reached the length")
    operators: int | None = Field(default=None, description="that torch dispatched in one call, without views")
    unseen: str | None = None


class Quality(_Strict):
    """Relative error against ``reference``, one value a draw: ``output``, ``grad_q``, ``grad_k``, ``grad_v``.

    ``squared_bias`` has for each draw the inner product of its deviation with the mean deviation of the others, over
    the reference's squared norm. The mean over draws estimates the squared relative bias without bias of its own, and
    may come out below 0.
    """

    reference: str
    errors: dict[str, list[float]]
    squared_bias: dict[str, list[float]] = Field(default_factory=dict, description="empty with a single draw")
    budget: str | None = Field(default="num_hash", description="the knob that buys accuracy; None: it has none")


class Swapped(_Strict):
    """Scores of the trained models with another attention in the place of the one they were trained in, one a seed.

    ``scores`` is empty where a model could not run it; the reason says why.
    """

    attention: str
    knobs: dict[str, Scalar] = Field(description="as they were used")
    scores: list[float]
    eval_seconds: list[float] = Field(description="over all held-out examples")
    reason: str | None = None

    @model_validator(mode="after")
    def _nothing_scored_has_a_reason(self) -> "Swapped":
        if not self.scores and not self.reason:
            raise ValueError(f"swap to {self.attention!r} has no scores and needs a reason; reason is empty")
        return self


class TaskResult(_Strict):
    """Held-out scores, one a seed, with the baselines that a score must beat.

    The best score is 1. Chance is guessing at random; the majority is one answer for every example, the most frequent.
    """

    metric: str
    scores: list[float]
    other_scores: dict[str, list[float]] = Field(default_factory=dict, description="by metric, one a seed")
    train_seconds: list[float] = Field(description="one a seed, over all its parts where it was interrupted")
    eval_seconds: list[float] = Field(default_factory=list, description="over all held-out examples, one a seed")
    steps: list[int]
    chance: float
    majority: float
    data: str = Field(description="which data was used, in words: generated, embedded or the real set")
    sources: dict[str, str] = Field(default_factory=dict, description="SHA-256 of the files that were read, by name")
    examples_sha256: str | None = Field(default=None, description="of the training and held-out examples as used")
    train_examples: int | None = None
    eval_examples: int | None = None
    parameters: int | None = Field(default=None, description="trainable parameters")
    train_memory: Memory | None = Field(default=None, description="of one forward and backward pass of a batch")
    evaluated_with: list[Swapped] = Field(default_factory=list)


class Divergence(_Strict):
    """Where a training's loss, or an output of the trained model, was no longer a finite number."""

    seed: int
    step: int = Field(description="optimizer step, from 1")


class Ceiling(_Strict):
    """What a device can do at most of one kind of work, measured: ``amount`` of it took ``seconds``, one a sample.

    Names: ``copy`` and ``cache read`` in bytes; ``matmul bfloat16``, ``matmul float16``, ``matmul float32`` (TF32 off)
    and ``vector float32`` in floating-point operations, a multiply-add being two.
    """

    name: str
    device: str
    unit: Literal["byte", "operation"]
    amount: float
    seconds: list[float] = Field(description="empty where it could not be measured; the reason says why")
    reason: str | None = None

    @model_validator(mode="after")
    def _nothing_measured_has_a_reason(self) -> "Ceiling":
        if not self.seconds and not self.reason:
            raise ValueError(f"ceiling {self.name!r} has no samples and needs a reason; reason is empty")
        return self


class Record(_Strict):
    """The result of one case in one process."""

    schema_version: int = SCHEMA_VERSION
    case_id: str
    spec: AnySpec
    status: Status
    reasons: list[str] = Field(default_factory=list, description="why not ok, in words; never empty then")
    knobs: dict[str, Scalar] = Field(default_factory=dict, description="the attention's parameters as they were used")
    kernel: str | None = Field(default=None, description="the implementation that was dispatched")
    parameters: int | None = Field(default=None, description="trainable parameters of a model or a task case")
    batch: int | None = Field(default=None, description="of a case at the largest batch: the one that was found")
    checks: list[Check] = Field(default_factory=list)
    timing: Timing | None = None
    memory: Memory | None = None
    work: dict[str, float] | None = Field(
        default=None,
        description="the least a call must do, by the ceiling that limits it; see harness.attentions.shared.cost",
    )
    conditions: Conditions | None = Field(default=None, description="None also in records of before they were taken")
    compile_seconds: float | None = Field(default=None, description="torch.compile's work in this case; None: none")
    kernel_launches: int | None = Field(
        default=None, description="kernels of one call on a CUDA device; see harness.measure.launches"
    )
    quality: Quality | None = None
    task: TaskResult | None = None
    divergence: Divergence | None = Field(default=None, description="of status diverged")
    started: str = Field(description="UTC, ISO 8601")
    took_seconds: float = Field(description="the whole case, verification and warm-up included")

    @model_validator(mode="after")
    def _a_failure_has_a_reason(self) -> "Record":
        if self.status != "ok" and not self.reasons:
            raise ValueError(f"status {self.status!r} of case {self.case_id!r} needs a reason; reasons is empty")
        if self.status != "ok" and self.timing is not None:
            raise ValueError(f"status {self.status!r} of case {self.case_id!r} must not carry a timing")
        return self

    @property
    def not_begun(self) -> bool:
        """Whether the deadline of its run left the case out."""
        return self.status == "timeout" and self.reasons[0].startswith(NOT_BEGUN)


class Run(_Strict):
    """One run of the suites: the top-level ``harness`` block of the benchmark JSON."""

    schema_version: int = SCHEMA_VERSION
    started: str = Field(description="UTC, ISO 8601")
    command: str = Field(description="what reproduces the run, typed from the project's root")
    profile: str
    commit: str | None = Field(description="git commit of the code, with '+dirty' where the tree had changes")
    machine: dict[str, Scalar | None] = Field(description="the fingerprint, see harness.measure.machine")
    ceilings: list[Ceiling] = Field(default_factory=list, description="see harness.measure.ceilings")
    session: str | None = Field(
        default=None, description="one harness ab has two runs, one a commit, with the same session; None: no ab"
    )
    records: list[Record] = Field(description="several of one case are rounds, each in a process of its own")
