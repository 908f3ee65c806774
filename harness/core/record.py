"""Results: one record per case, whether it succeeded or not, with raw samples and no statistics."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.record_text import encodable
from harness.core.spec import AnySpec, Scalar

SCHEMA_VERSION = 1
Status = Literal["ok", "unsupported", "incorrect", "oom", "timeout", "crashed", "diverged"]
NOT_BEGUN = "not begun"
"""Prefix of the reason of a case that was not started before its run's deadline; its status is timeout."""


class _Strict(BaseModel):
    """What is written can be read again: numbers are finite, because JSON has no others, and text can be encoded.

    ``harness.core.stored_values`` has the limits of each number.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _texts_are_encodable(cls, fields: object) -> object:
        return encodable(fields)


WORST_ROW = ", worst row"
WORST_HEAD = ", worst head"
MEAN_DEVIATION = ", mean deviation"
TIMED_CALL = "timed call"
CHANGED_INPUTS = "share of input numbers that the call changed"
NEIGHBOUR = "neighbour"
NEIGHBOURS = "neighbours"


class Check(_Strict):
    """One comparison with the float64 oracle, passed where ``error`` is at most ``allowed``.

    ``what`` is ``output``, ``grad_q``, ``grad_k``, ``grad_v`` or another named property; ``error`` is the relative
    Frobenius norm of the difference unless ``what`` says otherwise. A ``what`` that ends with ``WORST_ROW``,
    ``WORST_HEAD`` or ``MEAN_DEVIATION`` is about the one row or head that ``where`` names; see
    ``harness.measure.worst_rows``. A ``what`` that begins with ``TIMED_CALL`` is about a call that was timed. One that
    starts with ``NEIGHBOUR`` and a space is about one neighbour of the case, and one that starts with ``NEIGHBOURS``
    sums them up; see ``harness.measure.neighbours``.
    """

    what: str
    error: float | None = Field(description="None: not a finite number, as a reason of the record says")
    allowed: float
    passed: bool
    where: str | None = Field(default=None, description="the row or head, counted from 0; None: the whole tensor")
    equals: str | None = Field(
        default=None, description="what a wrong result equals instead, where that is a known mistake"
    )
    rows_seed: int | None = Field(
        default=None,
        description="seed of the random sample of query rows, for harness.measure.verify.check; "
        "None: every row was compared, or the record is older than this field",
    )

    @property
    def is_extreme(self) -> bool:
        """Whether this is the worst of many rows, heads or neighbours, instead of one comparison of a whole tensor."""
        return self.what.endswith((WORST_ROW, WORST_HEAD, MEAN_DEVIATION)) or self.what.startswith(NEIGHBOURS)

    @property
    def is_of_timed_call(self) -> bool:
        """Whether it is about a timed call, whose inputs no other run has, so that its error differs between runs."""
        return self.what.startswith(f"{TIMED_CALL}: ")

    def inside(self, name: str, where: str) -> "Check":
        """The same check, of a part ``where`` of something larger, after which it is named."""
        within = where if self.where is None else f"{where}, {self.where}"
        return self.model_copy(update={"what": f"{name}: {self.what}", "where": within})

    @field_validator("error", mode="before")
    @classmethod
    def _not_finite_is_none(cls, error: object) -> object:
        return None if isinstance(error, float) and not math.isfinite(error) else error


class Clocks(_Strict):
    """Clock frequencies and power, read once, right after the last sample of a timing; see ``harness.measure.clocks``.

    A field is None where the machine does not tell. A virtual machine often tells one fixed frequency.
    """

    core_mhz: list[float] | None = Field(default=None, description="of each CPU core, in the kernel's order, on a CPU")
    sm_mhz: float | None = Field(default=None, description="of the GPU's multiprocessors, on CUDA")
    gpu_watts: float | None = Field(
        default=None, description="power that the whole GPU draws, as its driver averages it"
    )
    gpu_limits: list[str] | None = Field(
        default=None,
        description="what kept the GPU's clock below its maximum, by NVML's names, such as HwThermalSlowdown; "
        "empty: nothing did",
    )


class Timing(_Strict):
    """Raw samples in seconds per call. On a CPU there is wall time only; device and submit times exist on CUDA only.

    ``wall_seconds`` end with the synchronisation after the call, ``submit_seconds`` with the return of the call itself.
    ``device_seconds`` are measured by the device while it still has earlier work queued, so they include no waiting for
    the host, unless the call itself synchronises with the device.
    """

    wall_seconds: list[float] = Field(min_length=1)
    device_seconds: list[float] | None = None
    submit_seconds: list[float] | None = None
    warmup_calls: int
    calls_per_sample: int = 1
    threads: int | None = Field(default=None, description="torch.get_num_threads(), on a CPU")
    flushed_bytes: int | None = Field(
        default=None, description="bytes written between samples, so that caches are cold"
    )
    input_sets: int = Field(default=1, description="number of input sets that the samples use in rotation")
    inputs_seed: int | None = Field(
        default=None,
        description="seed of the inputs, which differ from call to call, for harness.measure.inputs.FreshInputs; "
        "None: all samples used the same numbers",
    )
    cpu_seconds: list[float] | None = Field(
        default=None,
        description="CPU time of all threads of the process per call, one per sample, on a CPU",
    )
    involuntary_switches: list[int] | None = Field(
        default=None, description="how often a thread of the process was taken off its core in each sample, on a CPU"
    )
    load_before: float | None = Field(
        default=None, description="the machine's load average over one minute, before the first sample"
    )
    foreign_gpu_processes: int | None = Field(
        default=None,
        description="processes on the CUDA device before the first sample, without those of this run; None also where "
        "the driver does not tell, as in most containers",
    )
    disturbed: bool | None = Field(
        default=None,
        description="other processes took the cores from too many samples, see harness.statistics.disturbance; "
        "None: not judged, as on CUDA and in records that are older than this field",
    )
    disturbance: str | None = Field(default=None, description="how it was disturbed, as part of a sentence")
    process: str | None = Field(
        default=None,
        description="a random name of the process that took the samples, equal in all its records; None: the record is "
        "older than this field, and alone in its process as far as is known",
    )
    attempts: int = Field(
        default=1, description="how often the case was sampled until it was undisturbed; only the best is recorded"
    )
    clocks: Clocks | None = Field(default=None, description="None also in records that are older than this field")
    turns: list[int] | None = Field(
        default=None, description="samples per turn, where two commits were timed in alternating turns (harness ab)"
    )


class Memory(_Strict):
    """Memory of one call in bytes, as counted by torch's allocator, and what that count does not show.

    ``peak_bytes`` is the peak above what was allocated before the call; ``input_bytes`` were allocated before it
    (inputs and weights). ``reserved_bytes`` is the peak that torch's CUDA allocator reserved on the device, above what
    was allocated before; None on a CPU. ``source`` names the counter.

    The other fields are None where they were not measured, and in records that are older than them. Each is measured
    in calls of its own. ``peak_bytes`` contains none of them: memory that is there before the call, and memory that
    torch did not allocate.
    """

    peak_bytes: int
    input_bytes: int
    reserved_bytes: int | None = None
    source: str
    outside_torch_bytes: int | None = Field(
        default=None,
        description="on a CPU: peak during a call of memory that torch did not allocate, above what was there before; "
        "on CUDA: device memory that a call leaves allocated outside torch. See harness.measure.outside_torch",
    )
    outside_torch_source: str | None = Field(default=None, description="the counter of outside_torch_bytes")
    resident_bytes: int | None = Field(
        default=None,
        description="peak of the resident set size during a call above that before it, on Linux: torch's memory, all "
        "other memory, and what the C library keeps of freed memory",
    )
    kept_bytes: int | None = Field(
        default=None,
        description="memory that is still allocated after the first calls of a new module, without its parameters; "
        "None also for a whole model. See harness.measure.kept_memory",
    )
    growth_bytes: int | None = Field(
        default=None, description="by how much that memory grows with each further call; negative: it shrinks"
    )


class Conditions(_Strict):
    """The settings of a case and the torch operations it dispatched, as observed in one call.

    ``harness.report.questions.fairness`` compares them between the cases of a comparison.

    Operations inside a fused or native kernel are not observed. ``unseen`` is the reason where nothing was observed;
    then the optional fields are None and ``dtypes`` is empty. ``layout_copies`` and ``all_pairs`` are None for a whole
    model, and ``all_pairs`` also for a sequence that is too short to tell. ``operators`` counts a fused or native
    kernel as one, and is the same on every machine that runs the same code path.
    """

    parameters: int = Field(description="number of trainable parameters; shared ones count once")
    compiled: bool = Field(description="torch.compile compiled the module or a part of it")
    float32_matmul: str = Field(description="lowest torch.get_float32_matmul_precision() seen; 'highest': no TF32")
    dtypes: list[str] = Field(
        default_factory=list, description="floating dtypes of results with at least one value per token"
    )
    dropout: bool | None = Field(default=None, description="dropout was active")
    recomputes: bool | None = Field(
        default=None, description="backward ran forward operations again (activation checkpointing)"
    )
    layout_copies: int | None = Field(default=None, description="copies of an input-sized tensor to other strides")
    all_pairs: bool | None = Field(
        default=None, description="a result's last two sizes were both at least the sequence length"
    )
    operators: int | None = Field(
        default=None, description="operators that torch dispatched in one call, without views"
    )
    unseen: str | None = None


class Quality(_Strict):
    """Relative errors against ``reference``, one per draw, for ``output``, ``grad_q``, ``grad_k`` and ``grad_v``.

    ``squared_bias`` has one value per draw: the inner product of the draw's deviation with the mean deviation of the
    other draws, divided by the squared norm of the reference. The mean over draws is an unbiased estimate of the
    squared relative bias, and can be negative.
    """

    reference: str
    errors: dict[str, list[float]]
    squared_bias: dict[str, list[float]] = Field(default_factory=dict, description="empty where there is only one draw")
    budget: str | None = Field(
        default="num_hash", description="the knob that trades cost for accuracy; None: there is none"
    )


class Swapped(_Strict):
    """Scores of the trained models, one per seed, with another attention than the one they were trained with.

    ``scores`` is empty where a model could not run with it; ``reason`` says why.
    """

    attention: str
    knobs: dict[str, Scalar] = Field(description="the attention's parameters, defaults included")
    scores: list[float]
    eval_seconds: list[float] = Field(description="per seed, over all held-out examples")
    reason: str | None = None

    @model_validator(mode="after")
    def _missing_scores_have_a_reason(self) -> "Swapped":
        if not self.scores and not self.reason:
            raise ValueError(f"swap to {self.attention!r} has no scores and needs a reason; reason is empty")
        return self


class TaskResult(_Strict):
    """Scores, one per seed, with the baselines that a score must exceed. The spec says on which examples.

    The best score is 1. ``chance`` is the expected score of a random guess; ``majority`` is the score of giving every
    example the most frequent answer.
    """

    metric: str
    scores: list[float]
    other_scores: dict[str, list[float]] = Field(
        default_factory=dict, description="scores in other metrics, by metric, one per seed"
    )
    train_seconds: list[float] = Field(description="one per seed; the sum over all parts of an interrupted training")
    pretrain_seconds: list[float] = Field(
        default_factory=list,
        description="one per seed, of the denoising before the training; empty where there is none",
    )
    eval_seconds: list[float] = Field(default_factory=list, description="one per seed, over all held-out examples")
    steps: list[int]
    chance: float
    majority: float
    data: str = Field(description="the data used, as text: generated, embedded or the real data set")
    sources: dict[str, str] = Field(default_factory=dict, description="SHA-256 of each data file, by name")
    examples_sha256: str | None = Field(default=None, description="hash of the training and held-out examples")
    train_examples: int | None = None
    eval_examples: int | None = None
    parameters: int | None = Field(default=None, description="number of trainable parameters")
    train_memory: Memory | None = Field(
        default=None, description="memory of the forward and backward pass of one batch"
    )
    rows_below_one_collision: list[float] | None = Field(
        default=None,
        description="one per seed, of a YOSO attention: the share of its rows that expect less than one collision, see "
        "harness.training.expected_collisions; None also in records that are older than this field",
    )
    evaluated_with: list[Swapped] = Field(default_factory=list)


class Divergence(_Strict):
    """The seed and step at which the training loss, or an output of the trained model, was not finite."""

    seed: int
    step: int = Field(description="optimizer step, counted from 1")


class Ceiling(_Strict):
    """The measured peak throughput of a device for one kind of work: ``amount`` took ``seconds``, one per sample.

    Names: ``copy`` and ``cache read`` in bytes; ``matmul bfloat16``, ``matmul float16``, ``matmul float32`` (TF32 off)
    and ``vector float32`` in floating-point operations, where a multiply-add counts as two.
    """

    name: str
    device: str
    unit: Literal["byte", "operation"]
    amount: float
    seconds: list[float] = Field(description="empty where it was not measured; the reason says why")
    reason: str | None = None

    @model_validator(mode="after")
    def _missing_samples_have_a_reason(self) -> "Ceiling":
        if not self.seconds and not self.reason:
            raise ValueError(f"ceiling {self.name!r} has no samples and needs a reason; reason is empty")
        return self


class MachineUse(_Strict):
    """Who used the machine while a case was measured: differences of counters that were read before and after it.

    Only the cores count that the run may use. Of the run are pytest's process and all that it started. See
    ``harness.measure.machine_use``.
    """

    elapsed_seconds: float = Field(description="between the two readings")
    cores: int = Field(description="logical cores that the run may use")
    own_cpu_seconds: float = Field(description="CPU time of the processes of the run")
    foreign_cpu_seconds: float | None = Field(
        description="CPU time of everything else on these cores; None where the system does not count it"
    )
    stolen_cpu_seconds: float | None = Field(
        description="time in which a virtual machine wanted a core and its host used it; None where it is not counted"
    )
    load: float = Field(description="the machine's load average over one minute, after the case")
    thermal_throttles: int | None = Field(
        description="how often a core was slowed down because it was too hot; None where the kernel does not count it"
    )


class Record(_Strict):
    """The result of one case, measured in one process."""

    schema_version: int = SCHEMA_VERSION
    case_id: str
    spec: AnySpec
    status: Status
    reasons: list[str] = Field(default_factory=list, description="why the status is not ok; empty only with status ok")
    knobs: dict[str, Scalar] = Field(default_factory=dict, description="the attention's parameters, defaults included")
    exact_softmax: bool | None = Field(
        default=None,
        description="the attention computes softmax attention exactly, up to rounding, as its plugin declares; "
        "None: the record is older than this field, or the plugin did not load or its process ended",
    )
    kernel: str | None = Field(default=None, description="name of the implementation that ran")
    parameters: int | None = Field(default=None, description="number of trainable parameters of a model or task case")
    batch: int | None = Field(default=None, description="the largest batch that fits, where the spec asks for it")
    checks: list[Check] = Field(default_factory=list)
    unverified: list[str] = Field(
        default_factory=list,
        description="what of this case no check covers, and why; empty also in records that are older than this field",
    )
    timing: Timing | None = None
    memory: Memory | None = None
    work: dict[str, float] | None = Field(
        default=None,
        description="least work of one call, by the ceiling that limits it; see harness.attentions.shared.cost",
    )
    conditions: Conditions | None = Field(
        default=None, description="None also in records that are older than this field"
    )
    compile_seconds: float | None = Field(
        default=None, description="time torch.compile took in this case; None: it did not run"
    )
    kernel_launches: int | None = Field(
        default=None,
        description="number of kernels that one call launches on a CUDA device; see harness.measure.launches",
    )
    quality: Quality | None = None
    task: TaskResult | None = None
    divergence: Divergence | None = Field(default=None, description="present with status diverged")
    machine_use: MachineUse | None = Field(
        default=None,
        description="None also in records of harness ab, in records that are older than this field, and where the case "
        "was not begun",
    )
    findings: list[str] = Field(
        default_factory=list,
        description="what the attention changed in its process, or what else a reader must know; "
        "the status is not affected",
    )
    started: str = Field(description="UTC, ISO 8601")
    took_seconds: float = Field(description="duration of the whole case, with verification and warm-up")

    @model_validator(mode="after")
    def _failure_has_a_reason(self) -> "Record":
        if self.status != "ok" and not self.reasons:
            raise ValueError(f"status {self.status!r} of case {self.case_id!r} needs a reason; reasons is empty")
        if self.status != "ok" and self.timing is not None:
            raise ValueError(f"status {self.status!r} of case {self.case_id!r} must not carry a timing")
        return self

    @property
    def not_begun(self) -> bool:
        """Whether the case was not started before the deadline of its run."""
        return self.status == "timeout" and self.reasons[0].startswith(NOT_BEGUN)

    @property
    def is_exact_softmax(self) -> bool:
        """Whether the case's attention computes softmax attention exactly, as its plugin declared when it was measured.

        Records that are older than the field ``exact_softmax`` have None there. For them the attention's name decides,
        by the rule from when they were published, so that published runs render unchanged. That rule lacks
        ``flash_attn``, ``flex`` and all attentions of other packages.
        """
        if self.exact_softmax is not None:
            return self.exact_softmax
        attention = self.spec.attention
        return attention in {"softmax", "sdpa"} or attention.startswith(("sdpa_", "xformers_"))


class Run(_Strict):
    """One run of the suites: the top-level ``harness`` block of the benchmark JSON."""

    schema_version: int = SCHEMA_VERSION
    started: str = Field(description="UTC, ISO 8601")
    command: str = Field(description="command that reproduces the run, from the project's root")
    profile: str
    commit: str | None = Field(description="git commit of the code, with '+dirty' where the working tree had changes")
    machine: dict[str, Scalar | None] = Field(description="fingerprint of the machine, see harness.measure.machine")
    ceilings: list[Ceiling] = Field(default_factory=list, description="see harness.measure.ceilings")
    session: str | None = Field(
        default=None, description="id shared by the two runs of one harness ab, one per commit; None: not from ab"
    )
    records: list[Record] = Field(
        description="several records of one case are rounds, each measured in its own process"
    )
