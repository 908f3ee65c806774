"""Trains a task's model with an attention inside, for several seeds, and scores each on held-out data."""

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import PreTrainedModel, Trainer

from harness.core import registry
from harness.core.knobs import plain_knobs
from harness.core.record import Memory, Swapped, TaskResult
from harness.core.spec import ScoredOn, Swap, TaskSpec
from harness.measure import memory
from harness.measure.process_state import keep_python_generators
from harness.models import transformers_seam
from harness.tasks.data_files import DATA_DIR
from harness.tasks.task import LabelledSequences, Task, examples_sha256
from harness.training import Diverged, expected_collisions, ranks
from harness.training.checkpoints import SAVE_SECONDS, SavePeriodically, SeedFolder, SeedResult
from harness.training.model_verification import Verification
from harness.training.pretraining import Pretraining
from harness.training.step_counter import StepCounter
from harness.training.task_models import make_model
from harness.training.trainer import NOT_FINITE, ProgressCallback, ReportProgress, TrainingClock, make_trainer

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskData:
    """The examples of a case, and their checksum."""

    train: LabelledSequences
    eval: LabelledSequences
    sha256: str


@keep_python_generators()  # transformers' Trainer seeds Python's and numpy's generators
def train(
    spec: TaskSpec,
    progress: ProgressCallback | None = None,
    checkpoints: Path | None = None,
    save_seconds: float = SAVE_SECONDS,
    verification: Verification | None = None,
) -> TaskResult:
    """Train ``spec.seeds`` models from scratch and score each on examples that it was not trained on.

    The data comes from ``spec.seed``. Training s takes its initial weights and data order from seed ``spec.seed + s``,
    whatever the attention. Dtypes other than float32 run under autocast.

    Args:
        spec: the case.
        progress: called after every step.
        checkpoints: folder for checkpoints; an interrupted training is resumed from there, on a CPU to the same bits.
            None keeps nothing.
        save_seconds: time between two checkpoints.
        verification: verifies every trained model; None: nothing is verified.

    Raises:
        Diverged: the loss, or an output of the trained model, became NaN or infinite; it has the seed and the step.
        RegistryError: an attention or the task is unknown.
        ValueError: the task, its data, the model or the attention rejects a setting. Nothing was trained then.
    """
    if spec.device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {spec.device!r}; select a GPU with CUDA_VISIBLE_DEVICES")
    task: Task = registry.get_task(spec.task)
    swaps = {swap: _cannot_swap(spec, swap) for swap in spec.evaluate_with}
    runnable = [swap for swap, reason in swaps.items() if reason is None]
    data = _data_of(spec)
    model = make_model(spec, task, spec.seed)  # rejects bad settings before any training
    parameters = sum(parameter.numel() for parameter in model.parameters())
    results = []
    with tempfile.TemporaryDirectory(prefix="harness-train-") as temporary:
        ranks.join(spec.device, temporary)
        if checkpoints is not None:
            ranks.require_shared(checkpoints)
        for index in range(spec.seeds):
            seed = spec.seed + index
            tell = _LOGGER.warning if verification is None else verification.findings.append
            folder = SeedFolder(checkpoints or Path(temporary), spec, data.sha256, seed, tell)
            result = ranks.from_first(folder.finished())
            if result is not None and verification is not None:
                verification.resumed(seed)
            if result is None:
                report = None
                if progress is not None:
                    report = ReportProgress(progress, index * spec.steps, spec.seeds * spec.steps)
                saving = save_seconds if checkpoints else None
                result = _train_seed(spec, task, data, seed, folder, report, runnable, saving, verification)
                result = ranks.from_first(result)
                folder.finish(result)
            results.append(result)
        train_memory = _train_memory(spec, task, data.train, temporary)
    below_one = [result.rows_below_one_collision for result in results if result.rows_below_one_collision is not None]
    return TaskResult(
        metric=task.metric,
        scores=[result.scores[task.metric] for result in results],
        other_scores={name: [result.scores[name] for result in results] for name in task.other_metrics},
        train_seconds=[result.train_seconds for result in results],
        pretrain_seconds=[result.pretrain_seconds for result in results if result.pretrain_seconds is not None],
        eval_seconds=[result.eval_seconds for result in results],
        steps=[result.steps for result in results],
        chance=task.chance,
        majority=task.majority(data.eval.labels),
        data=task.data,
        sources=task.sources(),
        examples_sha256=data.sha256,
        train_examples=len(data.train),
        eval_examples=len(data.eval),
        parameters=parameters,
        train_memory=train_memory,
        rows_below_one_collision=below_one if len(below_one) == len(results) else None,
        evaluated_with=[_swapped(spec, swap, reason, runnable, results) for swap, reason in swaps.items()],
    )


@keep_python_generators()  # transformers' Trainer seeds Python's and numpy's generators
def check_untrained(spec: TaskSpec, verification: Verification) -> None:
    """Verify the layers of the first seed's untrained model; raises as ``train`` does, except Diverged."""
    task: Task = registry.get_task(spec.task)
    data = _data_of(spec)
    model = make_model(spec, task, spec.seed)
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as folder:
        trainer = make_trainer(spec, task, model, data.train, spec.seed, folder)
        verification.untrained(model, trainer, data.eval)


def train_with_progress_bar(
    spec: TaskSpec,
    checkpoints: Path | None,
    console: Console | None = None,
    verification: Verification | None = None,
) -> TaskResult:
    """As ``train``, with a progress bar over the steps of all seeds if ``console`` (default: stderr) is a terminal.

    Other processes have no terminal: there the steps are counted for ``harness run``, which shows them. pytest captures
    what a test writes: ``--in-process -s`` makes the bar visible.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        return train(spec, StepCounter.of_environment(), checkpoints, verification=verification)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bars:
        bar = bars.add_task(f"{spec.task}, {spec.attention}, {spec.seeds} seeds", total=spec.seeds * spec.steps)
        return train(spec, lambda done, _: bars.update(bar, completed=done), checkpoints, verification=verification)


def _data_of(spec: TaskSpec) -> TaskData:
    sizes = (spec.train_examples, spec.eval_examples, spec.seq_len, spec.seed)
    return _data(spec.task, *sizes, spec.scored_on, os.environ.get(DATA_DIR))


@lru_cache(maxsize=1)  # the attentions of a comparison are trained one after the other on the same data
def _data(
    name: str,
    train_examples: int,
    eval_examples: int,
    seq_len: int,
    seed: int,
    scored_on: ScoredOn,
    data_dir: str | None,
) -> TaskData:
    del data_dir  # part of the cache key: another folder has other data
    task: Task = registry.get_task(name)
    if scored_on == "development":
        examples = task.checked_dataset("train", train_examples + eval_examples, seq_len, seed)
        train_set, eval_set = _without_the_last(examples, eval_examples, name)
    else:
        train_set = task.checked_dataset("train", train_examples, seq_len, seed)
        eval_set = task.checked_dataset("eval", eval_examples, seq_len, seed)
    return TaskData(train_set, eval_set, examples_sha256(train_set, eval_set))


def _without_the_last(
    examples: LabelledSequences, wanted: int, name: str
) -> tuple[LabelledSequences, LabelledSequences]:
    """The examples without the last ones, and the last ones: those that are wanted, a quarter of all at most.

    A data set that has fewer examples than a case asks for would otherwise leave few of them to train on.
    """
    last = min(wanted, len(examples) // 4)
    if not 0 < last < len(examples):
        raise ValueError(
            f"task {name!r}: development examples are taken from the training examples, of which there are "
            f"{len(examples)}; ask for more train_examples"
        )

    def part(rows: slice) -> LabelledSequences:
        return LabelledSequences(
            examples.input_ids[rows], examples.attention_mask[rows], examples.labels[rows], examples.span
        )

    return part(slice(None, -last)), part(slice(-last, None))


def _train_seed(
    spec: TaskSpec,
    task: Task,
    data: TaskData,
    seed: int,
    folder: SeedFolder,
    report: ReportProgress | None,
    swaps: list[Swap],
    save_seconds: float | None,
    verification: Verification | None,
) -> SeedResult:
    model = make_model(spec, task, seed)
    trainer = make_trainer(spec, task, model, data.train, seed, str(folder.path))
    last = ranks.from_first(folder.last_checkpoint())
    pretraining = Pretraining(spec, folder, data.sha256, seed) if spec.pretrain_steps else None
    if pretraining is not None and last is None:
        pretraining.run(task, data.train, model, save_seconds)
    clock = TrainingClock(last[1] if last else 0.0, spec.seconds)
    for callback in (report, clock, None if save_seconds is None else SavePeriodically(clock, save_seconds)):
        if callback is not None:
            trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
    train_seconds, steps = clock.seconds, trainer.state.global_step
    scores, eval_seconds = score(trainer, task, data.eval, seed)
    if not scores:
        raise Diverged(seed, steps)
    if verification is not None:
        verification.trained(model, trainer, data.eval, seed)
    rows_below_one_collision = expected_collisions.share_of_rows_below_one(spec, trainer, model, data.eval)
    swapped = [score(_swapped_trainer(spec, task, swap, model, seed, folder), task, data.eval, seed) for swap in swaps]
    if not all(swapped_scores for swapped_scores, _ in swapped):
        raise Diverged(seed, steps)
    return SeedResult(
        scores=scores,
        swapped=[swapped_scores[task.metric] for swapped_scores, _ in swapped],
        swapped_seconds=[seconds for _, seconds in swapped],
        train_seconds=train_seconds,
        eval_seconds=eval_seconds,
        steps=steps,
        rows_below_one_collision=rows_below_one_collision,
        pretrain_seconds=pretraining.seconds() if pretraining else None,
    )


def score(trainer: Trainer, task: Task, eval_set: LabelledSequences, seed: int) -> tuple[dict[str, float], float]:
    """The scores of the trainer's model by metric (empty if an output is not finite), and the seconds that it took."""
    torch.manual_seed(seed)  # so that a sampling attention draws the same numbers after an interrupted training
    start = time.perf_counter()
    predicted = torch.as_tensor(trainer.predict(eval_set).predictions)
    seconds = time.perf_counter() - start
    not_finite = predicted.isnan() if predicted.is_floating_point() else predicted == NOT_FINITE
    return ({} if not_finite.any() else task.scores(predicted, eval_set.labels)), seconds


def _cannot_swap(spec: TaskSpec, swap: Swap) -> str | None:
    """Why a model of ``spec`` cannot run the attention of ``swap``; None if it can."""
    swapped = _with(spec, swap)
    plugin = registry.get(swap.attention)
    plain_knobs(plugin, swapped)  # raises for a knob that is unknown or cannot be stored, before any training
    reasons = plugin.unsupported(swapped) or plugin.unsupported(transformers_seam.layer_case(swapped))
    return "; ".join(reasons) or _lacks_weights(spec, swapped)


def _lacks_weights(spec: TaskSpec, swapped: TaskSpec) -> str | None:
    """Why a model trained with ``spec`` lacks the weights for the attention of ``swapped``; None if it has them all."""
    needed = transformers_seam.own_weights(transformers_seam.layer_case(swapped))
    if not needed:
        return None
    if swapped.attention != spec.attention:
        return (
            f"{swapped.attention} has weights of its own, and a model trained with {spec.attention} does not have them"
        )
    trained = transformers_seam.own_weights(transformers_seam.layer_case(spec))
    if needed == trained:
        return None
    return (
        f"with these knobs {spec.attention} has the weights {_shapes(needed)}; the model was trained with "
        f"{_shapes(trained)}"
    )


def _shapes(weights: dict[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in weights.items()) or "none"


def _with(spec: TaskSpec, swap: Swap) -> TaskSpec:
    return spec.model_copy(update={"attention": swap.attention, "knobs": swap.knobs})


def _swapped_trainer(
    spec: TaskSpec, task: Task, swap: Swap, trained: PreTrainedModel, seed: int, folder: SeedFolder
) -> Trainer:
    """A trainer that predicts with the weights of ``trained`` and the attention of ``swap``."""
    swapped = _with(spec, swap)
    model = make_model(swapped, task, seed)
    names = model.state_dict().keys()  # without the weights of the attention that the model was trained with
    model.load_state_dict({name: tensor for name, tensor in trained.state_dict().items() if name in names})
    return make_trainer(swapped, task, model, None, seed, str(folder.path))


def _swapped(
    spec: TaskSpec, swap: Swap, reason: str | None, runnable: list[Swap], results: list[SeedResult]
) -> Swapped:
    position = None if reason else runnable.index(swap)
    return Swapped(
        attention=swap.attention,
        knobs=plain_knobs(registry.get(swap.attention), _with(spec, swap)),
        scores=[] if position is None else [result.swapped[position] for result in results],
        eval_seconds=[] if position is None else [result.swapped_seconds[position] for result in results],
        reason=reason,
    )


def _train_memory(spec: TaskSpec, task: Task, train_set: LabelledSequences, folder: str) -> Memory:
    """Memory of one forward and backward pass of a batch. It depends on sizes only, so the weights are untrained."""
    model = make_model(spec, task, spec.seed)
    trainer = make_trainer(spec, task, model, train_set, spec.seed, folder)
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    weights = list(model.parameters())
    for weight in weights:
        weight.grad = torch.zeros_like(weight)  # gradients exist in every step, so they are not part of the peak

    def step() -> None:
        with trainer.compute_loss_context_manager():
            loss: Any = trainer.compute_loss(model, inputs)
        loss.backward()

    held = [*weights, *(weight.grad for weight in weights if weight.grad is not None), *inputs.values()]
    return memory.peak(step, spec.device, held)
