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
from harness.profiles.approximations import approximations, budget_of
from harness.profiles.profile import (
    MODELS_OF_TRANSFORMERS,
    AnyCase,
    FixedCases,
    ModelSize,
    OperationSweep,
    QualitySweep,
)
from harness.profiles.selection import Selection

OPERATION_MODES: tuple[OperationMode, ...] = get_args(OperationMode)
MODEL_MODES: tuple[ModelMode, ...] = get_args(ModelMode)
TASK_HEADS: tuple[Head, ...] = tuple(head for head in get_args(Head) if head != "encoder")
HASH_FAMILIES = ("gaussian", "hadamard", "hadamard_authors")
BUDGETS = (8, 16, 32, 64, 128, 256)
"""Hashes, features or landmarks of quality cases."""
YOSO_SAMPLING = "yoso"
EXACT = ("softmax", "sdpa", "yoso_e")
"""Attentions whose error in a quality case is their rounding."""
QUALITY_INPUTS: tuple[QualityInputs, ...] = ("matched", "clustered", "recorded")
"""The inputs of errors by budget."""
TIMED_INPUTS: tuple[QualityInputs, ...] = ("normal", "recorded")
"""The inputs of the errors of timed settings."""
IN_PLACE_OF_RECORDED: QualityInputs = "matched"
"""The inputs of these where the user's heads have another size than those of the recorded model."""
MOST_PAIRS = 2 * 4096**2
"""Pairs of a query and a key in a quality case of the user's batch and heads. Beyond, the float64 reference and its
gradients take gigabytes: fewer heads are compared. Each is computed independently, so their errors are those of all."""
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
    paddings = sweep.paddings if selection.shape.padding is None else (selection.shape.padding,)
    specs = [
        _operation(selection, name, n, mode, dtype, padding)
        for dtype in selection.dtypes
        for padding in paddings
        for n in selection.lengths(_lengths(selection, sweep))
        for mode in OPERATION_MODES
        for name in selection.measured(registry.names())
    ]
    if selection.seq_lens is None:
        specs = [spec for spec in specs if spec.attention in (selection.attentions or ()) or _is_kept(spec, selection)]
    return specs + _timed_by_budget(selection, () if selection.seq_lens else sweep.budget_lengths)


def _lengths(selection: Selection, sweep: OperationSweep) -> Sequence[int]:
    """The profile's lengths for what the user asked for."""
    if selection.is_comparison and sweep.compared_lengths is not None:
        return sweep.compared_lengths
    return sweep.lengths


def _is_kept(spec: OperationSpec, selection: Selection) -> bool:
    """Whether the profile keeps the case; a padding that the user asked for is no reason to leave it out."""
    sweep = profiles.get(selection.profile).operation
    assert isinstance(sweep, OperationSweep)
    return sweep.keeps(spec if selection.shape.padding is None else spec.model_copy(update={"padding": 0.0}))


def _operation(
    selection: Selection, name: str, n: int, mode: OperationMode, dtype: Dtype, padding: float = 0.0
) -> OperationSpec:
    fields: dict[str, Any] = {
        "attention": name, "seq_len": n, "device": selection.device, "dtype": dtype, "mode": mode, "padding": padding,
    }  # fmt: skip
    return OperationSpec(**fields | selection.shape.sizes)


def _timed_by_budget(selection: Selection, lengths: Sequence[int]) -> list[OperationSpec]:
    """The approximations, or those that the user names, with each budget of ``_by_budget`` that is not the default."""
    specs = []
    for name in selection.chosen(approximations(selection.device)):
        knob = budget_of(name)
        if knob is None:
            continue
        for n in lengths:
            for mode in OPERATION_MODES:
                timed = _operation(selection, name, n, mode, selection.dtypes[0])
                default = registry.get(name).knobs(timed).get(knob)
                budgets = [budget for budget in BUDGETS if budget <= n and budget != default]
                specs += [timed.model_copy(update={"knobs": {knob: budget}}) for budget in budgets]
    return specs


def quality(selection: Selection) -> list[QualitySpec]:
    """The errors of all timed settings of the attention alone, and of approximations by budget.

    Timed settings have a case with standard normal inputs, as the timed calls, and one with recorded ones. By budget,
    on ``QUALITY_INPUTS`` or those that the user chooses: every attention whose plugin declares what it estimates and a
    budget, sampled YOSO also by hash family, and exact attentions. Of attentions that the user names, these alone, at
    the longest length only and YOSO in one family. The user's file is measured by budget at its own length, unless the
    user names lengths.
    """
    sweep = profiles.get(selection.profile).quality
    if sweep is None:
        return []
    if isinstance(sweep, FixedCases):
        return _selected(selection, sweep.on(selection.device))
    lengths = selection.lengths(sweep.lengths)
    if selection.is_comparison:
        lengths = (max(lengths),)
    specs = _timed_settings(selection, sweep)
    for inputs in selection.inputs or QUALITY_INPUTS:
        if inputs == "recorded" and not _fits_recording(selection):
            continue
        own = selection.recording.seq_len if selection.recording and inputs == "recorded" else None
        for n in lengths if own is None or selection.seq_lens else (own,):
            specs += _by_budget(selection, sweep, n, inputs)
    return list({spec.case_id: spec for spec in specs}.values())


def _by_budget(selection: Selection, sweep: QualitySweep, n: int, inputs: QualityInputs) -> list[QualitySpec]:
    def spec(name: str, draws: int, knobs: dict[str, Scalar]) -> QualitySpec:
        return _quality(selection, sweep, name, n, inputs, draws, knobs)

    specs, draws = [], sweep.draws
    by_family = not selection.is_comparison
    if by_family and YOSO_SAMPLING in selection.chosen((YOSO_SAMPLING,)):
        families = [(family, hashes) for family in HASH_FAMILIES for hashes in BUDGETS]
        specs += [
            spec(YOSO_SAMPLING, draws, {"hash_family": family, "num_hash": hashes}) for family, hashes in families
        ]
    for name in selection.chosen(approximations(selection.device)):
        knob = None if name == YOSO_SAMPLING and by_family else budget_of(name)
        if knob is not None:
            specs += [spec(name, draws, {knob: budget}) for budget in BUDGETS if budget <= n]
    return specs + [spec(name, 1, {}) for name in EXACT if name in selection.chosen(EXACT)]


def _timed_settings(selection: Selection, sweep: QualitySweep) -> list[QualitySpec]:
    """The error at every attention and length that ``operation`` times; padding does not change it.

    Those with another budget than the default have theirs from ``_by_budget``."""
    specs = []
    by_budget = _timed_by_budget(selection, sweep.lengths)
    for timed in (spec for spec in operation(selection) if spec not in by_budget):
        is_first = timed.mode == "forward" and timed.padding in (0, selection.shape.padding)
        if is_first and sweep.leaves_out(timed) is None:
            specs += [_timed_setting(selection, sweep, timed, inputs) for inputs in _timed_inputs(selection)]
    return specs


def _timed_inputs(selection: Selection) -> Sequence[QualityInputs]:
    if selection.inputs is not None:
        return selection.inputs
    if _fits_recording(selection):
        return TIMED_INPUTS
    return [IN_PLACE_OF_RECORDED if inputs == "recorded" else inputs for inputs in TIMED_INPUTS]


def _fits_recording(selection: Selection) -> bool:
    """Whether the recorded heads have the size that the user asked for."""
    file = selection.recording
    return selection.shape.head_dim in (None, RXNMAPPER.head_dim if file is None else file.head_dim)


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
    sizes = _recorded(selection.recording, sweep, n) if inputs == "recorded" else _sizes(selection, n)
    return QualitySpec(**fields, **sizes)


def _sizes(selection: Selection, n: int) -> dict[str, int]:
    """The sizes that the user asked for, so that the error is of the very shape that is timed, up to ``MOST_PAIRS``."""
    sizes = dict(selection.shape.sizes)
    left = MOST_PAIRS // n**2
    for name in ("heads", "batch"):
        if name in sizes:
            sizes[name] = max(1, min(sizes[name], left))
            left //= sizes[name]
    return sizes


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


def task(selection: Selection) -> list[TaskSpec]:
    """One task, trained from scratch with some attentions, and then evaluated with others."""
    training = profiles.get(selection.profile).task
    if training is None or not selection.includes("task"):
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
        for name in selection.measured(training.attentions)
    ]


def model(selection: Selection) -> list[ModelSpec]:
    """The encoder alone, the encoder under task heads, and transformers' models of the same size."""
    sweep = profiles.get(selection.profile).model
    if sweep is None or not selection.includes("model"):
        return []
    if isinstance(sweep, FixedCases):
        return _selected(selection, sweep.on(selection.device))

    def spec(family: Family, attention: str, head: Head, n: int, dtype: Dtype, mode: ModelMode) -> ModelSpec:
        return _model(sweep.size, selection, family, attention, head, n, dtype, mode)

    attentions = sweep.encoder_attentions
    encoders = [
        spec("yoso", name, "encoder", n, dtype, mode)
        for dtype in selection.dtypes
        for n in selection.lengths(sweep.encoder_lengths)
        for mode in MODEL_MODES
        for name in selection.measured(registry.names() if attentions is None else attentions(n, mode))
    ]
    heads = [
        spec("yoso", name, head, n, dtype, mode)
        for dtype in selection.dtypes
        for head in TASK_HEADS
        for n in selection.lengths(sweep.head_lengths)
        for mode in MODEL_MODES
        for name in selection.measured(sweep.head_attentions)
    ]
    rivals = [
        spec(family, attention, "encoder", n, selection.dtypes[0], mode)
        for family, attention in MODELS_OF_TRANSFORMERS
        if attention in selection.measured((attention,))
        for n in selection.lengths(sweep.encoder_lengths)
        for mode in MODEL_MODES
    ]
    return [*encoders, *heads, *(rival for rival in rivals if sweep.keeps_rival(rival))]


def _model(
    size: ModelSize,
    selection: Selection,
    family: Family,
    attention: str,
    head: Head,
    n: int,
    dtype: Dtype,
    mode: ModelMode,
) -> ModelSpec:
    asked_for = selection.shape
    heads = asked_for.heads or size.heads
    fields: dict[str, Any] = {"batch": asked_for.batch} if asked_for.batch else {}
    return ModelSpec(
        family=family,
        attention=attention,
        head=head,
        seq_len=n,
        device=selection.device,
        dtype=dtype,
        mode=mode,
        layers=size.layers,
        hidden_size=heads * (asked_for.head_dim or size.hidden_size // size.heads),
        heads=heads,
        **fields,
    )


def _selected(selection: Selection, specs: Sequence[AnyCase]) -> list[AnyCase]:
    """The cases of a fixed list that fit the user's choice, with those of the companions at the same settings."""
    fitting = [
        spec
        for spec in specs
        if spec.seq_len in selection.lengths((spec.seq_len,)) and selection.dtype in (None, spec.dtype)
    ]
    named = [spec for spec in fitting if spec.attention in selection.chosen((spec.attention,))]
    settings = set(map(_setting, named)) if selection.companions else set()
    return [
        spec
        for spec in fitting
        if spec in named or (spec.attention in selection.companions and _setting(spec) in settings)
    ]


def _setting(spec: AnyCase) -> AnyCase:
    """All of a case but the attention and its own knobs."""
    return spec.model_copy(update={"attention": "", "knobs": {}})
