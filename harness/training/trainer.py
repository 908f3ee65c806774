"""Transformers' ``Trainer``, set up for one seed of a task case."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from harness.core.spec import TaskSpec
from harness.tasks.task import IGNORED, LabelledSequences, Task
from harness.training import Diverged, ranks

ProgressCallback = Callable[[int, int], None]
"""Called after each optimizer step with the number of finished steps and the total, over all seeds."""
NOT_FINITE = -1
"""The prediction where the model's output is not a finite number."""


def make_trainer(
    spec: TaskSpec, task: Task, model: PreTrainedModel, train_set: LabelledSequences | None, seed: int, folder: str
) -> Trainer:
    """The trainer of one seed: AdamW, linear warm-up, linear decay to zero (or the one-cycle schedule of the spec).

    If several processes train together (``torchrun``, ``accelerate launch``), they share the spec's batch.

    Args:
        spec: the case.
        task: its task.
        model: the model to train.
        train_set: the training examples; None if the trainer only predicts.
        seed: seed of the data order.
        folder: where the trainer may write.

    Raises:
        ValueError: the batch is not a multiple of the number of processes.
    """
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=spec.steps,
        per_device_train_batch_size=spec.batch,
        per_device_eval_batch_size=spec.batch,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0.1 if spec.warmup_steps is None else spec.warmup_steps,
        adam_epsilon=1e-6,  # the YOSO authors' value
        bf16=spec.dtype == "bfloat16",
        fp16=spec.dtype == "float16",
        use_cpu=spec.device == "cpu",
        seed=seed,
        data_seed=seed,
        dataloader_num_workers=0,
        dataloader_pin_memory=spec.device != "cpu",
        label_names=["start_positions", "end_positions"] if task.head == "question_answering" else ["labels"],
        remove_unused_columns=False,
        save_strategy="no",
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if spec.batch % arguments.world_size:
        raise ValueError(
            f"batch must be a multiple of the {arguments.world_size} processes that share it, got {spec.batch}; change "
            "the batch or the number of processes"
        )
    arguments.per_device_train_batch_size = spec.batch // arguments.world_size
    arguments._n_gpu = min(arguments.n_gpu, 1)  # with more GPUs, transformers would multiply the batch by their number
    trainer = _TaskTrainer(
        model, arguments, train_dataset=train_set, preprocess_logits_for_metrics=lambda logits, _: answers(logits)
    )
    trainer.one_cycle = spec.schedule == "one_cycle"
    trainer.remove_callback(PrinterCallback)
    return trainer


def answers(logits: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The model's answers. Where its output is not finite they are ``NOT_FINITE``, or NaN if a number is predicted.

    Args:
        logits: ``[B, ..., labels]``; for spans a pair of ``[B, N]``, of the starts and the ends.

    Returns:
        int64 ``[B, ...]``; for spans ``[B, 2]``; for a single label, which is a number, float ``[B]``.
    """
    if isinstance(logits, tuple):
        return torch.stack([answers(ends) for ends in logits], dim=-1)
    if logits.shape[-1] == 1:
        return logits.squeeze(-1).float()
    return logits.argmax(-1).where(logits.isfinite().all(-1), NOT_FINITE)


class _TaskTrainer(Trainer):
    """Several processes train as one would, and the first loss that is not finite ends the training in all of them.

    Transformers' own trainer gives every process the same weight, however many labels it has, and continues with NaN
    weights. If only one process stopped, the others would wait for it in their next collective operation.
    """

    one_cycle = False

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Transformers' loader without an epoch's last, incomplete batch, which several processes cannot share evenly.

        The next epoch has another order. Training examples that are fewer than a batch are all used.
        """
        examples: Any = self.train_dataset
        self.args.dataloader_drop_last = len(examples) >= self.args.train_batch_size * self.args.world_size
        try:
            return super().get_train_dataloader()
        finally:
            self.args.dataloader_drop_last = False  # predictions are of all examples

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The model's loss, in a training of several processes weighted by this process's share of the labels.

        The processes' gradients are averaged, which gives the gradient of the mean over all labels of the batch.
        """
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if self.is_in_train and self.args.world_size > 1:
            labels = inputs[self.label_names[0]]
            own = (labels != IGNORED).sum()
            if own == 0:  # the mean over no label is NaN
                loss = 0 * outputs["logits"].sum()
            loss = loss * (own * self.args.world_size / self.accelerator.reduce(own))
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor | Any], *args: Any, **kwargs: Any) -> Tensor:
        """Forward and backward pass of one batch; returns its loss.

        Raises:
            Diverged: the loss is not finite in this process or in another.
        """
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not ranks.all_true(bool(loss.isfinite()), loss.device):
            raise Diverged(self.args.seed, self.state.global_step + 1)
        return loss

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LRScheduler | Any:
        """Transformers' scheduler, or torch's one-cycle with its defaults, which also changes AdamW's first beta."""
        if self.one_cycle and self.lr_scheduler is None:
            chosen = optimizer or self.optimizer
            assert chosen is not None, "transformers makes the optimizer first"
            schedule: Any = OneCycleLR(
                chosen,
                max_lr=self.args.learning_rate,
                pct_start=self.args.get_warmup_steps(num_training_steps) / num_training_steps,
                anneal_strategy="linear",
                total_steps=num_training_steps,
            )
            self.lr_scheduler = schedule
        return super().create_scheduler(num_training_steps, optimizer)


class ReportProgress(TrainerCallback):
    """Calls ``progress`` after each step.

    Args:
        progress: what to call.
        done: steps of the seeds before this one.
        total: steps of all seeds.
    """

    def __init__(self, progress: ProgressCallback, done: int, total: int) -> None:
        self._progress = progress
        self._done = done
        self._total = total

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by transformers after each optimizer step."""
        self._progress(self._done + state.global_step, self._total)


class TrainingClock(TrainerCallback):
    """Counts the seconds of a training over all its interrupted parts, and stops it at a time limit.

    Args:
        spent: seconds of the parts before this one.
        limit: seconds of all parts together; None for no limit.
    """

    def __init__(self, spent: float, limit: float | None) -> None:
        self._start = time.perf_counter() - spent
        self._limit = limit
        self.seconds = spent
        """From the beginning of the training to the end of its last step; the same in every process."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by transformers after each optimizer step."""
        now = [time.perf_counter() - self._start]
        if args.world_size > 1:  # the processes must stop, and save, at the same step
            torch.distributed.broadcast_object_list(now)
        self.seconds = now[0]
        if self._limit is not None and self.seconds > self._limit:
            control.should_training_stop = True
