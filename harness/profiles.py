"""Which cases a profile has. quick runs in minutes on two cores (``harness.quick_profile``); standard adds lengths,
attentions in the encoder, padding and a base-like model; full adds bfloat16 and n = 65536. gpu is for a CUDA device
(``harness.gpu_profile``); paper is the efficiency protocol of the YOSO paper (``harness.paper_profile``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

from harness import gpu_profile, paper_profile, quick_profile, registry
from harness.measuring.timing import Effort
from harness.spec import (
    Dtype,
    Family,
    Head,
    ModelMode,
    ModelSpec,
    OperationMode,
    OperationSpec,
    QualitySpec,
    Scalar,
    TaskSpec,
)

Profile = Literal["quick", "standard", "full", "gpu", "paper"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
Asked = TypeVar("Asked", OperationSpec, ModelSpec, QualitySpec)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
OPERATION_MODES: tuple[OperationMode, ...] = get_args(OperationMode)
MODEL_MODES: tuple[ModelMode, ...] = get_args(ModelMode)
TASK_HEADS: tuple[Head, ...] = tuple(head for head in get_args(Head) if head != "encoder")

# Verification has called every case three times before its warm-up begins.
EFFORTS = {
    "quick": Effort(min_samples=3, max_samples=30, seconds=0.25, warmup_calls=1, warmup_seconds=0.05),
    "standard": Effort(min_samples=10, max_samples=100, seconds=2.0, warmup_calls=3, warmup_seconds=0.3),
    "full": Effort(min_samples=20, max_samples=200, seconds=5.0, warmup_calls=5, warmup_seconds=0.5),
    # A device's clock is steady: half a second gives a short call its 60 samples, and a call of a second three.
    "gpu": Effort(min_samples=3, max_samples=60, seconds=0.5, warmup_calls=1, warmup_seconds=0.05),
    "paper": Effort(min_samples=10, max_samples=10, seconds=0.0, warmup_calls=1, warmup_seconds=0.0),
}
OPERATION_LENGTHS = {
    "quick": (128, 512, 1024, 2048, 4096),
    "standard": (128, 256, 512, 1024, 2048, 4096, 8192, 16384),
    "full": (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536),
}
ENCODER_LENGTHS = {
    "quick": (128, 1024, 4096),
    "standard": (128, 512, 1024, 4096),
    "full": (128, 512, 1024, 4096, 16384),
}
HEAD_LENGTHS = {"quick": (128, 1024), "standard": (128, 512, 1024), "full": (128, 512, 1024, 4096)}
REPRESENTATIVES = ("softmax", "sdpa", "yoso", "yoso_e")
"""The attentions under task heads: a head costs the same with every kernel of one attention."""
HASH_FAMILIES = ("gaussian", "hadamard", "hadamard_authors")
HASHES = (8, 16, 32, 64, 128, 256)
EXACT = ("softmax", "sdpa", "yoso_e")
QUALITY_LENGTHS = {"quick": (512,), "standard": (512, 2048), "full": (512, 2048, 4096)}
QUALITY_DRAWS = {"quick": 4, "standard": 16, "full": 32}
RIVALS: tuple[tuple[Family, str], ...] = (("bert", "sdpa"), ("transformers_yoso", "yoso_e"))


class TaskBudget(NamedTuple):
    """The task of a profile: how long it is trained, and on how much."""

    task: str
    seq_len: int
    steps: int
    seeds: int
    train_examples: int
    eval_examples: int


TASK_BUDGETS = {
    "quick": TaskBudget("needle", seq_len=64, steps=400, seeds=2, train_examples=4000, eval_examples=500),
    "standard": TaskBudget("listops", seq_len=256, steps=2000, seeds=3, train_examples=20000, eval_examples=2000),
    "full": TaskBudget("listops", seq_len=2000, steps=5000, seeds=5, train_examples=96000, eval_examples=2000),
}


@dataclass(frozen=True)
class Selection:
    """What the user asked for; None takes the profile's own.

    Raises:
        ValueError: an unknown profile, dtype or attention (the message lists the known ones), or a length below 1.
    """

    profile: str = "quick"
    device: str = "cpu"
    dtype: str | None = None
    seq_lens: tuple[int, ...] | None = None
    attentions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"unknown profile {self.profile!r}; known: {', '.join(PROFILES)}")
        if self.profile == "gpu" and not self.device.startswith("cuda"):
            raise ValueError(f"profile 'gpu' takes a CUDA device, got device {self.device!r}: add --device cuda")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}; known: {', '.join(DTYPES)}")
        known = registry.names()
        unknown = [name for name in self.attentions or () if name not in known]
        if unknown:
            raise ValueError(f"unknown attention {', '.join(unknown)}; known: {', '.join(known)}")
        if any(length < 1 for length in self.seq_lens or ()):
            raise ValueError(f"seq_lens must be 1 or more, got {self.seq_lens}")

    @property
    def effort(self) -> Effort:
        """How long each case is sampled."""
        return EFFORTS[self.profile]

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """float32, and bfloat16 in the full profile; or the one that was asked for."""
        if self.dtype is not None:
            return tuple(dtype for dtype in DTYPES if dtype == self.dtype)
        return ("float32", "bfloat16") if self.profile == "full" else ("float32",)

    def lengths(self, of_profile: Sequence[int]) -> tuple[int, ...]:
        """The lengths that were asked for, or the profile's."""
        return tuple(of_profile) if self.seq_lens is None else self.seq_lens

    def chosen(self, of_profile: Sequence[str]) -> tuple[str, ...]:
        """The attentions that were asked for, or the profile's."""
        return tuple(of_profile) if self.attentions is None else self.attentions


def _asked(selection: Selection, specs: Sequence[Asked]) -> list[Asked]:
    """Those of a fixed list that the user asked for."""
    return [
        spec
        for spec in specs
        if spec.seq_len in selection.lengths((spec.seq_len,))
        and spec.attention in selection.chosen((spec.attention,))
        and selection.dtype in (None, spec.dtype)
    ]


def operation(selection: Selection) -> list[OperationSpec]:
    """The attention alone: every attention and mode; from standard on at every length, also with a quarter padded."""
    if selection.profile == "gpu":
        return _asked(selection, gpu_profile.operation(selection.device))
    if selection.profile == "paper":
        return []
    paddings = (0.0,) if selection.profile == "quick" else (0.0, 0.25)
    return [
        OperationSpec(attention=name, seq_len=n, device=selection.device, dtype=dtype, mode=mode, padding=padding)
        for dtype in selection.dtypes
        for padding in paddings
        for n in selection.lengths(OPERATION_LENGTHS[selection.profile])
        for mode in OPERATION_MODES
        for name in selection.chosen(registry.names())
        if selection.seq_lens or selection.attentions or selection.profile != "quick" or quick_profile.has(name, n)
    ]


def quality(selection: Selection) -> list[QualitySpec]:
    """Sampled YOSO by hash family and number of hashes, and exact attentions against their own oracles."""
    if selection.profile == "gpu":
        return _asked(selection, gpu_profile.quality(selection.device))
    if selection.profile == "paper":
        return []
    draws = QUALITY_DRAWS[selection.profile]

    def spec(name: str, n: int, draws: int, knobs: dict[str, Scalar]) -> QualitySpec:
        dtype = selection.dtypes[0]
        return QualitySpec(attention=name, seq_len=n, device=selection.device, dtype=dtype, draws=draws, knobs=knobs)

    specs = []
    for n in selection.lengths(QUALITY_LENGTHS[selection.profile]):
        if "yoso" in selection.chosen(("yoso",)):
            specs += [
                spec("yoso", n, draws, {"hash_family": family, "num_hash": hashes})
                for family in HASH_FAMILIES
                for hashes in HASHES
            ]
        specs += [spec(name, n, 1, {}) for name in EXACT if name in selection.chosen(EXACT)]
    return specs


def task(selection: Selection) -> list[TaskSpec]:
    """One task, trained from scratch with eager and fused softmax and both YOSO; none in the profiles gpu and paper."""
    if selection.profile not in TASK_BUDGETS:
        return []
    budget = TASK_BUDGETS[selection.profile]
    return [
        TaskSpec(
            task=budget.task,
            attention=name,
            seq_len=n,
            device=selection.device,
            dtype=selection.dtypes[0],
            steps=budget.steps,
            seeds=budget.seeds,
            train_examples=budget.train_examples,
            eval_examples=budget.eval_examples,
        )
        for n in selection.lengths((budget.seq_len,))
        for name in selection.chosen(REPRESENTATIVES)
    ]


def model(selection: Selection) -> list[ModelSpec]:
    """The bare encoder, from standard on with every attention; task heads with one of each kind; rival models."""
    profile = selection.profile
    if profile == "gpu":
        return _asked(selection, gpu_profile.model(selection.device))
    if profile == "paper":
        return _asked(selection, paper_profile.model(selection.device))
    encoders = [
        _model(selection, "yoso", name, "encoder", n, dtype, mode)
        for dtype in selection.dtypes
        for n in selection.lengths(ENCODER_LENGTHS[profile])
        for mode in MODEL_MODES
        for name in selection.chosen(quick_profile.ENCODERS if profile == "quick" else registry.names())
    ]
    heads = [
        _model(selection, "yoso", name, head, n, dtype, mode)
        for dtype in selection.dtypes
        for head in TASK_HEADS
        for n in selection.lengths(HEAD_LENGTHS[profile])
        for mode in MODEL_MODES
        for name in selection.chosen(REPRESENTATIVES)
    ]
    rivals = [
        _model(selection, family, attention, "encoder", n, selection.dtypes[0], mode)
        for family, attention in RIVALS
        if attention in selection.chosen((attention,))
        for n in selection.lengths(ENCODER_LENGTHS[profile])
        for mode in MODEL_MODES
        if profile != "quick" or not quick_profile.too_slow(family, n, mode)
    ]
    return [*encoders, *heads, *rivals]


def _model(
    selection: Selection, family: Family, attention: str, head: Head, n: int, dtype: Dtype, mode: ModelMode
) -> ModelSpec:
    small = selection.profile == "quick"
    return ModelSpec(
        family=family,
        attention=attention,
        head=head,
        seq_len=n,
        device=selection.device,
        dtype=dtype,
        mode=mode,
        layers=2 if small else 12,
        hidden_size=256 if small else 768,
        heads=4 if small else 12,
    )
