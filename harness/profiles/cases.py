"""The cases of a run: a profile, and what the user's selection replaces in it."""

from collections.abc import Sequence
from typing import Any, get_args

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
from harness.measure.recordings import RecordingFile
from harness.models.packaged_weights import RXNMAPPER
from harness.profiles import profile as profiles
from harness.profiles.profile import MODELS_OF_TRANSFORMERS, AnyCase, FixedCases, ModelSize, QualitySweep
from harness.profiles.selection import Selection

OPERATION_MODES: tuple[OperationMode, ...] = get_args(OperationMode)
MODEL_MODES: tuple[ModelMode, ...] = get_args(ModelMode)
TASK_HEADS: tuple[Head, ...] = tuple(head for head in get_args(Head) if head != "encoder")
HASH_FAMILIES = ("gaussian", "hadamard", "hadamard_authors")
BUDGETS = (8, 16, 32, 64, 128, 256)
"""Hashes, features or landmarks of quality cases."""
YOSO_SAMPLING = "yoso"
APPROXIMATIONS = ("performer_softmax", "nystromformer")
"""The approximations of softmax whose error by budget every profile with a quality sweep measures, beside sampled
YOSO's of YOSO-E."""
EXACT = ("softmax", "sdpa", "yoso_e")
"""Attentions whose error in a quality case is their rounding."""
QUALITY_INPUTS: tuple[QualityInputs, ...] = ("matched", "clustered", "recorded")
"""The inputs of errors by budget."""
TIMED_INPUTS: tuple[QualityInputs, ...] = ("normal", "recorded")
"""The inputs of the errors of timed settings."""
RECORDED_IN_FULL = 1024
"""Up to so many tokens a case has as many layers of the recording as the profile asks for."""
FEW_RECORDED = 2
"""Beyond, so many layers with one head each, because a quadratic attention's gradients take gigabytes there."""


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
    if not asked_for:
        specs = [spec for spec in specs if sweep.keeps(spec)]
    return specs + _timed_by_budget(selection, () if selection.seq_lens else sweep.budget_lengths)


def _timed_by_budget(selection: Selection, lengths: Sequence[int]) -> list[OperationSpec]:
    """The approximations, or those that the user names, with each budget of ``_by_budget`` that is not the default."""
    specs = []
    for name in selection.chosen((YOSO_SAMPLING, *APPROXIMATIONS)):
        knob = _budget(name)
        if knob is None:
            continue
        for n in lengths:
            for mode in OPERATION_MODES:
                timed = OperationSpec(
                    attention=name, seq_len=n, device=selection.device, dtype=selection.dtypes[0], mode=mode
                )
                default = registry.get(name).knobs(timed).get(knob)
                budgets = [budget for budget in BUDGETS if budget <= n and budget != default]
                specs += [timed.model_copy(update={"knobs": {knob: budget}}) for budget in budgets]
    return specs


def quality(selection: Selection) -> list[QualitySpec]:
    """The errors of all timed settings of the attention alone, and of approximations by budget.

    Timed settings have a case with standard normal inputs, as the timed calls, and one with recorded ones. By budget,
    on ``QUALITY_INPUTS``: approximations, sampled YOSO also by hash family, and exact attentions. Without the user's
    choice the approximations are ``APPROXIMATIONS``; of the attentions that the user names, every one whose plugin
    declares what it estimates and a budget. The user's file is measured by budget at its own length, unless the user
    names lengths.
    """
    sweep = profiles.get(selection.profile).quality
    if sweep is None:
        return []
    if isinstance(sweep, FixedCases):
        return _selected(selection, sweep.on(selection.device))
    lengths = selection.lengths(sweep.lengths)
    specs = _timed_settings(selection, sweep)
    for inputs in QUALITY_INPUTS:
        own = selection.recording.seq_len if selection.recording and inputs == "recorded" else None
        for n in lengths if own is None or selection.seq_lens else (own,):
            specs += _by_budget(selection, sweep, n, inputs)
    return list({spec.case_id: spec for spec in specs}.values())


def _by_budget(selection: Selection, sweep: QualitySweep, n: int, inputs: QualityInputs) -> list[QualitySpec]:
    def spec(name: str, draws: int, knobs: dict[str, Scalar]) -> QualitySpec:
        return _quality(selection, sweep, name, n, inputs, draws, knobs)

    specs, draws = [], sweep.draws
    if YOSO_SAMPLING in selection.chosen((YOSO_SAMPLING,)):
        families = [(family, hashes) for family in HASH_FAMILIES for hashes in BUDGETS]
        specs += [
            spec(YOSO_SAMPLING, draws, {"hash_family": family, "num_hash": hashes}) for family, hashes in families
        ]
    for name in selection.chosen(APPROXIMATIONS):
        knob = None if name == YOSO_SAMPLING else _budget(name)
        if knob is not None:
            specs += [spec(name, draws, {knob: budget}) for budget in BUDGETS if budget <= n]
    return specs + [spec(name, 1, {}) for name in EXACT if name in selection.chosen(EXACT)]


def _timed_settings(selection: Selection, sweep: QualitySweep) -> list[QualitySpec]:
    """The error at every attention and length that ``operation`` times; padding does not change it.

    Those with another budget than the default have theirs from ``_by_budget``."""
    specs = []
    by_budget = _timed_by_budget(selection, sweep.lengths)
    for timed in (spec for spec in operation(selection) if spec not in by_budget):
        if timed.mode == "forward" and not timed.padding and sweep.leaves_out(timed) is None:
            for inputs in TIMED_INPUTS:
                specs.append(_timed_setting(selection, sweep, timed, inputs))
    return specs


def _timed_setting(
    selection: Selection, sweep: QualitySweep, timed: OperationSpec, inputs: QualityInputs
) -> QualitySpec:
    spec = _quality(selection, sweep, timed.attention, timed.seq_len, inputs, 1, {})
    return at_timed_setting(spec, timed, sweep.timed_draws)


def at_timed_setting(spec: QualitySpec, timed: OperationSpec, draws: int) -> QualitySpec:
    """The error at a timed setting: with exactly its knobs, without gradients where it has none on this device.

    An attention that estimates no other is compared with its own definition, which one draw shows. So it is where a
    knob of timed cases keeps the draw from call to call, as Performer's ``redraw``.

    Args:
        spec: a case of the same attention with one draw and without knobs.
        timed: the timed case.
        draws: of an attention that estimates another.
    """
    try:
        plugin = registry.get(timed.attention)
        defaults = plugin.knobs(spec)
        knobs = {name: value for name, value in plugin.knobs(timed).items() if value != defaults.get(name)}
        backward = plugin.capabilities.backward in (True, timed.device.split(":")[0])
        of_plugin = {"knobs": knobs, "draws": draws if plugin.estimates and not knobs else 1}
    except KeyboardInterrupt:
        raise
    except BaseException:  # the case is kept, and its record says what the plugin raised
        return spec
    return spec.model_copy(update=of_plugin if backward else of_plugin | {"mode": "forward"})


def _quality(
    selection: Selection,
    sweep: QualitySweep,
    name: str,
    n: int,
    inputs: QualityInputs,
    draws: int,
    knobs: dict[str, Scalar],
) -> QualitySpec:
    fields: dict[str, Any] = {
        "attention": name, "seq_len": n, "device": selection.device, "dtype": selection.dtypes[0], "inputs": inputs,
        "draws": draws, "knobs": knobs,
    }  # fmt: skip
    return QualitySpec(**fields, **_recorded(selection.recording, sweep, n) if inputs == "recorded" else {})


def _recorded(file: RecordingFile | None, sweep: QualitySweep, n: int) -> dict[str, Any]:
    """The recording of a case, and its sizes: all that the profile asks for, or everything in the user's file, up to
    ``RECORDED_IN_FULL`` tokens or the file's; few beyond."""
    if file is None:
        sizes = {"batch": sweep.recorded_layers, "heads": 1, "head_dim": RXNMAPPER.head_dim}
        name: dict[str, Any] = {"recording": RXNMAPPER.name}
    else:
        sizes = {"batch": file.batch, "heads": file.heads, "head_dim": file.head_dim}
        name = {"recording": file.name, "recording_sha256": file.sha256}
    if n > RECORDED_IN_FULL and (file is None or n > file.seq_len):
        sizes |= {"batch": min(sizes["batch"], FEW_RECORDED), "heads": 1}
    return sizes | name


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
