"""What was found: one record a case, whatever happened to it. Raw samples only; statistics are the reader's."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.spec import AnySpec, Scalar

SCHEMA_VERSION = 1
Status = Literal["ok", "unsupported", "incorrect", "oom", "timeout", "crashed"]


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
    """What a case ran under and did in one call, observed; see ``harness.fairness`` for what must be equal.

    What a fused or native kernel does inside is not seen. ``unseen`` says why nothing was: the fields that are None
    then, and ``dtypes`` is empty. ``layout_copies`` and ``all_pairs`` are None for a whole model, and ``all_pairs``
    for a sequence too short to tell.
    """

    parameters: int = Field(description="trainable numbers; shared ones count once")
    compiled: bool = Field(description="by torch.compile, all of it or a part")
    float32_matmul: str = Field(description="the least torch.get_float32_matmul_precision(); 'highest': no TF32")
    dtypes: list[str] = Field(default_factory=list, description="floating dtypes of results with a number a token")
    dropout: bool | None = Field(default=None, description="something was dropped at random")
    recomputes: bool | None = Field(default=None, description="backward ran forward operations again: checkpointing")
    layout_copies: int | None = Field(default=None, description="copies of an input's size into other strides")
    all_pairs: bool | None = Field(default=None, description="a result's last two sizes both reached the length")
    unseen: str | None = None


class Quality(_Strict):
    """Relative error against ``reference``, one value a draw: ``output``, ``grad_q``, ``grad_k``, ``grad_v``."""

    reference: str
    errors: dict[str, list[float]]


class TaskResult(_Strict):
    """Held-out scores, one a seed, with the baselines that a score must beat. All are fractions of 1."""

    metric: str
    scores: list[float]
    train_seconds: list[float]
    steps: list[int]
    chance: float
    majority: float
    data: str = Field(description="which data was used, in words: generated, embedded or the real set")


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
    """The result of one case."""

    schema_version: int = SCHEMA_VERSION
    case_id: str
    spec: AnySpec
    status: Status
    reasons: list[str] = Field(default_factory=list, description="why not ok, in words; never empty then")
    knobs: dict[str, Scalar] = Field(default_factory=dict, description="the attention's parameters as they were used")
    kernel: str | None = Field(default=None, description="the implementation that was dispatched")
    parameters: int | None = Field(default=None, description="trainable parameters of a model case")
    checks: list[Check] = Field(default_factory=list)
    timing: Timing | None = None
    memory: Memory | None = None
    work: dict[str, float] | None = Field(
        default=None, description="the least a call must do, by the ceiling that limits it; see harness.cost"
    )
    conditions: Conditions | None = Field(default=None, description="None also in records of before they were taken")
    quality: Quality | None = None
    task: TaskResult | None = None
    started: str = Field(description="UTC, ISO 8601")
    took_seconds: float = Field(description="the whole case, verification and warm-up included")

    @model_validator(mode="after")
    def _a_failure_has_a_reason(self) -> "Record":
        if self.status != "ok" and not self.reasons:
            raise ValueError(f"status {self.status!r} of case {self.case_id!r} needs a reason; reasons is empty")
        if self.status != "ok" and self.timing is not None:
            raise ValueError(f"status {self.status!r} of case {self.case_id!r} must not carry a timing")
        return self


class Run(_Strict):
    """One run of the suites: the top-level ``harness`` block of the benchmark JSON."""

    schema_version: int = SCHEMA_VERSION
    started: str = Field(description="UTC, ISO 8601")
    command: str = Field(description="what reproduces the run, typed from the project's root")
    profile: str
    commit: str | None = Field(description="git commit of the code, with '+dirty' where the tree had changes")
    machine: dict[str, Scalar | None] = Field(description="the fingerprint, see harness.measuring.machine")
    ceilings: list[Ceiling] = Field(default_factory=list, description="see harness.measuring.ceilings")
    records: list[Record]
