"""The cases of every profile, by kind; what one profile has for itself is in the module of its name."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, TypeVar, get_args

from harness.core import registry
from harness.core.spec import (
    Dtype,
    Family,
    Head,
    ModelMode,
    ModelSpec,
    OperationMode,
    OperationSpec,
    QualityInputs,
    QualitySpec,
    Scalar,
    TaskSpec,
)
from harness.profiles import gpu, paper, quick, standard
from harness.profiles.selection import Selection
from harness.profiles.swaps import swaps

Asked = TypeVar("Asked", OperationSpec, ModelSpec, QualitySpec)
OPERATION_MODES: tuple[OperationMode, ...] = get_args(OperationMode)
MODEL_MODES: tuple[ModelMode, ...] = get_args(ModelMode)
TASK_HEADS: tuple[Head, ...] = tuple(head for head in get_args(Head) if head != "encoder")

OPERATION_LENGTHS = {
    "quick": (128, 512, 1024, 2048, 4096),
    "standard": (128, 256, 512, 1024, 2048, 4096, 8192, 16384),
    "full": (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536),
}
ENCODER_LENGTHS = {
    "quick": (128, 1024, 4096),
    "standard": (128, 512, 1024, standard.LENGTH),
    "full": (128, 512, 1024, 4096, 16384),
}
HEAD_LENGTHS = {"quick": (128, 1024), "standard": standard.HEADS_AT, "full": (128, 512, 1024, 4096)}
REPRESENTATIVES = ("softmax", "sdpa", "yoso", "yoso_e")
UNDER_HEADS = {"quick": quick.HEADS, "standard": REPRESENTATIVES, "full": REPRESENTATIVES}
"""A head costs the same with every kernel of one attention."""
TRAINED = {"quick": quick.TRAINED, "standard": REPRESENTATIVES, "full": REPRESENTATIVES}
HASH_FAMILIES = ("gaussian", "hadamard", "hadamard_authors")
BUDGETS = (8, 16, 32, 64, 128, 256)
"""Hashes, features or landmarks."""
ESTIMATES = ("performer_softmax", "nystromformer")
"""Of softmax, beside sampled YOSO's of YOSO-E."""
EXACT = ("softmax", "sdpa", "yoso_e")
QUALITY_INPUTS: tuple[QualityInputs, ...] = get_args(QualityInputs)
QUALITY_LENGTHS = {"quick": (512,), "standard": (512, 2048), "full": (512, 2048, 4096)}
QUALITY_DRAWS = {"quick": 4, "standard": 16, "full": 32}
CUTS = {"quick": quick, "standard": standard}
"""What a profile leaves out; the others take all."""
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
    "quick": TaskBudget("needle", seq_len=64, steps=300, seeds=2, train_examples=4000, eval_examples=500),
    "standard": TaskBudget("needle", seq_len=128, steps=800, seeds=3, train_examples=10000, eval_examples=1000),
    "full": TaskBudget("listops", seq_len=2000, steps=5000, seeds=5, train_examples=96000, eval_examples=2000),
}


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
    """The attention alone: every attention and mode; from standard on also with a quarter padded."""
    if selection.profile == "gpu":
        return _asked(selection, gpu.operation(selection.device))
    if selection.profile == "paper":
        return []
    paddings = (0.0,) if selection.profile == "quick" else (0.0, 0.25)
    specs = [
        OperationSpec(attention=name, seq_len=n, device=selection.device, dtype=dtype, mode=mode, padding=padding)
        for dtype in selection.dtypes
        for padding in paddings
        for n in selection.lengths(OPERATION_LENGTHS[selection.profile])
        for mode in OPERATION_MODES
        for name in selection.chosen(registry.names())
    ]
    cut = CUTS.get(selection.profile)
    asked = selection.seq_lens or selection.attentions
    return specs if asked or cut is None else [spec for spec in specs if cut.has(spec)]


def quality(selection: Selection) -> list[QualitySpec]:
    """On each kind of inputs estimates by budget, sampled YOSO by hash family too; exact attentions against their own
    oracles."""
    if selection.profile == "gpu":
        return _asked(selection, gpu.quality(selection.device))
    if selection.profile == "paper":
        return []
    draws = QUALITY_DRAWS[selection.profile]

    def spec(name: str, n: int, inputs: QualityInputs, draws: int, knobs: dict[str, Scalar]) -> QualitySpec:
        return QualitySpec(
            attention=name,
            seq_len=n,
            device=selection.device,
            dtype=selection.dtypes[0],
            inputs=inputs,
            draws=draws,
            knobs=knobs,
        )

    specs = []
    for n, inputs in product(selection.lengths(QUALITY_LENGTHS[selection.profile]), QUALITY_INPUTS):
        if "yoso" in selection.chosen(("yoso",)):
            specs += [
                spec("yoso", n, inputs, draws, {"hash_family": family, "num_hash": hashes})
                for family in HASH_FAMILIES
                for hashes in BUDGETS
            ]
        for name in selection.chosen(ESTIMATES):
            if name in ESTIMATES:
                knob = str(registry.get(name).budget)
                specs += [spec(name, n, inputs, draws, {knob: budget}) for budget in BUDGETS if budget <= n]
        specs += [spec(name, n, inputs, 1, {}) for name in EXACT if name in selection.chosen(EXACT)]
    return specs


def task(selection: Selection) -> list[TaskSpec]:
    """One task, trained from scratch with softmax, from standard on fused too, and both YOSO, and then evaluated with
    others; none in the profiles gpu and paper."""
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
            evaluate_with=() if selection.profile == "quick" else swaps(name),
        )
        for n in selection.lengths((budget.seq_len,))
        for name in selection.chosen(TRAINED[selection.profile])
    ]


def model(selection: Selection) -> list[ModelSpec]:
    """The bare encoder, in full with every attention; task heads with one of each kind; rival models."""
    profile = selection.profile
    if profile == "gpu":
        return _asked(selection, gpu.model(selection.device))
    if profile == "paper":
        return _asked(selection, paper.model(selection.device))
    cut = CUTS.get(profile)
    encoders = [
        _model(selection, "yoso", name, "encoder", n, dtype, mode)
        for dtype in selection.dtypes
        for n in selection.lengths(ENCODER_LENGTHS[profile])
        for mode in MODEL_MODES
        for name in selection.chosen(registry.names() if cut is None else cut.encoders(n, mode))
    ]
    heads = [
        _model(selection, "yoso", name, head, n, dtype, mode)
        for dtype in selection.dtypes
        for head in TASK_HEADS
        for n in selection.lengths(HEAD_LENGTHS[profile])
        for mode in MODEL_MODES
        for name in selection.chosen(UNDER_HEADS[profile])
    ]
    rivals = [
        _model(selection, family, attention, "encoder", n, selection.dtypes[0], mode)
        for family, attention in RIVALS
        if attention in selection.chosen((attention,))
        for n in selection.lengths(ENCODER_LENGTHS[profile])
        for mode in MODEL_MODES
        if cut is None or not cut.too_slow(family, n, mode)
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
