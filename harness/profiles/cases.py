"""The cases of a run: a profile, and what the user's selection replaces in it."""

from collections.abc import Sequence
from itertools import product
from typing import get_args

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
from harness.profiles import profile as profiles
from harness.profiles.profile import MODELS_OF_TRANSFORMERS, AnyCase, FixedCases, ModelSize
from harness.profiles.selection import Selection

OPERATION_MODES: tuple[OperationMode, ...] = get_args(OperationMode)
MODEL_MODES: tuple[ModelMode, ...] = get_args(ModelMode)
TASK_HEADS: tuple[Head, ...] = tuple(head for head in get_args(Head) if head != "encoder")
HASH_FAMILIES = ("gaussian", "hadamard", "hadamard_authors")
BUDGETS = (8, 16, 32, 64, 128, 256)
"""Hashes, features or landmarks of quality cases."""
APPROXIMATIONS = ("performer_softmax", "nystromformer")
"""The approximations of softmax whose error by budget every profile with a quality sweep measures, beside sampled
YOSO's of YOSO-E."""
EXACT = ("softmax", "sdpa", "yoso_e")
"""Attentions whose error in a quality case is their rounding."""
QUALITY_INPUTS: tuple[QualityInputs, ...] = get_args(QualityInputs)


def operation(selection: Selection) -> list[OperationSpec]:
    """The attention alone."""
    sweep = profiles.get(selection.profile).operation
    if sweep is None:
        return []
    if isinstance(sweep, FixedCases):
        return _selected(selection, sweep.on(selection.device))
    specs = [
        OperationSpec(attention=name, seq_len=n, device=selection.device, dtype=dtype, mode=mode, padding=padding)
        for dtype in selection.dtypes
        for padding in sweep.paddings
        for n in selection.lengths(sweep.lengths)
        for mode in OPERATION_MODES
        for name in selection.chosen(registry.names())
    ]
    asked_for = selection.seq_lens or selection.attentions
    return specs if asked_for else [spec for spec in specs if sweep.keeps(spec)]


def quality(selection: Selection) -> list[QualitySpec]:
    """On each kind of inputs: approximations by budget, sampled YOSO also by hash family, and exact attentions.

    Without the user's choice the approximations are ``APPROXIMATIONS``; of the attentions that the user names, every
    one whose plugin declares what it estimates and a budget.
    """
    sweep = profiles.get(selection.profile).quality
    if sweep is None:
        return []
    if isinstance(sweep, FixedCases):
        return _selected(selection, sweep.on(selection.device))

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

    budgets = {name: _budget(name) for name in selection.chosen(APPROXIMATIONS) if name != "yoso"}
    specs = []
    for n, inputs in product(selection.lengths(sweep.lengths), QUALITY_INPUTS):
        if "yoso" in selection.chosen(("yoso",)):
            specs += [
                spec("yoso", n, inputs, sweep.draws, {"hash_family": family, "num_hash": hashes})
                for family in HASH_FAMILIES
                for hashes in BUDGETS
            ]
        for name, knob in budgets.items():
            if knob is not None:
                specs += [spec(name, n, inputs, sweep.draws, {knob: budget}) for budget in BUDGETS if budget <= n]
        specs += [spec(name, n, inputs, 1, {}) for name in EXACT if name in selection.chosen(EXACT)]
    return specs


def _budget(name: str) -> str | None:
    """The knob that buys an approximation's accuracy; None where the plugin declares none, or does not load.

    A plugin that does not load becomes a record with that reason in the operation's cases.
    """
    try:
        plugin = registry.get(name)
    except registry.RegistryError:
        return None
    return plugin.budget if plugin.estimates else None


def task(selection: Selection) -> list[TaskSpec]:
    """One task, trained from scratch with some attentions, and then evaluated with others."""
    training = profiles.get(selection.profile).task
    if training is None:
        return []
    return [
        TaskSpec(
            task=training.task,
            attention=name,
            seq_len=n,
            device=selection.device,
            dtype=selection.dtypes[0],
            steps=training.steps,
            seeds=training.seeds,
            train_examples=training.train_examples,
            eval_examples=training.eval_examples,
            evaluate_with=training.swaps(name),
        )
        for n in selection.lengths((training.seq_len,))
        for name in selection.chosen(training.attentions)
    ]


def model(selection: Selection) -> list[ModelSpec]:
    """The encoder alone, the encoder under task heads, and transformers' models of the same size."""
    sweep = profiles.get(selection.profile).model
    if sweep is None:
        return []
    if isinstance(sweep, FixedCases):
        return _selected(selection, sweep.on(selection.device))

    def spec(family: Family, attention: str, head: Head, n: int, dtype: Dtype, mode: ModelMode) -> ModelSpec:
        return _model(sweep.size, selection.device, family, attention, head, n, dtype, mode)

    attentions = sweep.encoder_attentions
    encoders = [
        spec("yoso", name, "encoder", n, dtype, mode)
        for dtype in selection.dtypes
        for n in selection.lengths(sweep.encoder_lengths)
        for mode in MODEL_MODES
        for name in selection.chosen(registry.names() if attentions is None else attentions(n, mode))
    ]
    heads = [
        spec("yoso", name, head, n, dtype, mode)
        for dtype in selection.dtypes
        for head in TASK_HEADS
        for n in selection.lengths(sweep.head_lengths)
        for mode in MODEL_MODES
        for name in selection.chosen(sweep.head_attentions)
    ]
    rivals = [
        spec(family, attention, "encoder", n, selection.dtypes[0], mode)
        for family, attention in MODELS_OF_TRANSFORMERS
        if attention in selection.chosen((attention,))
        for n in selection.lengths(sweep.encoder_lengths)
        for mode in MODEL_MODES
    ]
    return [*encoders, *heads, *(rival for rival in rivals if sweep.keeps_rival(rival))]


def _model(
    size: ModelSize, device: str, family: Family, attention: str, head: Head, n: int, dtype: Dtype, mode: ModelMode
) -> ModelSpec:
    return ModelSpec(
        family=family,
        attention=attention,
        head=head,
        seq_len=n,
        device=device,
        dtype=dtype,
        mode=mode,
        layers=size.layers,
        hidden_size=size.hidden_size,
        heads=size.heads,
    )


def _selected(selection: Selection, specs: Sequence[AnyCase]) -> list[AnyCase]:
    """The cases of a fixed list that fit the user's choice."""
    return [
        spec
        for spec in specs
        if spec.seq_len in selection.lengths((spec.seq_len,))
        and spec.attention in selection.chosen((spec.attention,))
        and selection.dtype in (None, spec.dtype)
    ]
