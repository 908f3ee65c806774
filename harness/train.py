"""Train a task's model with an attention inside, several seeds, and score each on held-out data."""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from harness import registry, transformers_seam
from harness.record import TaskResult
from harness.spec import TaskSpec
from harness.tasks.task import LabelledSequences, Task
from yoso import YosoConfig, YosoForSequenceClassification

Progress = Callable[[int, int], None]
"""Called after each optimizer step with the steps that are done and those that there are, over all seeds."""


class Diverged(ArithmeticError):
    """The loss, or an output of the trained model, is no longer a finite number."""

    def __init__(self, seed: int, step: int) -> None:
        super().__init__(f"training with seed {seed} diverged: no finite number at step {step}")
        self.seed = seed
        self.step = step


def train(spec: TaskSpec, progress: Progress | None = None) -> TaskResult:
    """Train ``spec.seeds`` models from scratch and score each on the held-out examples.

    The data comes from ``spec.seed``. Training s has the initial weights and the data order of seed ``spec.seed + s``,
    whatever the attention. A dtype other than float32 is autocast.

    Raises:
        Diverged: the loss became NaN or infinite, with the step.
        RegistryError: the attention or the task is unknown.
        ValueError: a setting that the task, the model or the attention rejects; nothing has been trained then.
    """
    if spec.device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {spec.device!r}; choose a GPU by CUDA_VISIBLE_DEVICES")
    task: Task = registry.get_task(spec.task)
    train_set = task.dataset("train", spec.train_examples, spec.seq_len, spec.seed)
    eval_set = task.dataset("eval", spec.eval_examples, spec.seq_len, spec.seed)
    task.check(train_set.labels)
    task.check(eval_set.labels)
    scores, seconds = [], []
    for trained in range(spec.seeds):
        seed = spec.seed + trained
        with tempfile.TemporaryDirectory(prefix="harness-train-") as folder:
            trainer = make_trainer(spec, task, train_set, seed, folder)
            if progress is not None:
                trainer.add_callback(_Report(progress, trained * spec.steps, spec.seeds * spec.steps))
            start = time.perf_counter()
            trainer.train()
            seconds.append(time.perf_counter() - start)
            logits = torch.from_numpy(trainer.predict(eval_set).predictions)
        if not logits.isfinite().all():
            raise Diverged(seed, spec.steps)
        scores.append(task.score(logits.argmax(-1), eval_set.labels))
    return TaskResult(
        metric=task.metric,
        scores=scores,
        train_seconds=seconds,
        steps=[spec.steps] * spec.seeds,
        chance=task.chance,
        majority=task.majority(eval_set.labels),
        data=task.data,
    )


def make_model(spec: TaskSpec, task: Task, seed: int) -> nn.Module:
    """The untrained model; its initial weights depend on the seed and the shape, not on the attention."""
    config = YosoConfig(
        vocab_size=task.vocab_size,
        hidden_size=spec.hidden_size,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        intermediate_size=2 * spec.hidden_size,
        max_position_embeddings=spec.seq_len,
        pad_token_id=task.pad_id,
        num_labels=task.num_labels,
        # Dropout draws from the generator that a sampling attention draws from, so two attentions would not drop alike.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **registry.get(spec.attention).knobs(spec),
    )
    set_seed(seed)
    model = YosoForSequenceClassification(config)
    transformers_seam.attach(model, spec.attention)
    return model


def make_trainer(spec: TaskSpec, task: Task, train_set: LabelledSequences, seed: int, folder: str) -> Trainer:
    """The trainer of one seed: AdamW with a linear warm-up over a tenth of the steps and a linear decay to zero.

    Args:
        spec: the case.
        task: its task.
        train_set: the training examples.
        seed: of the initial weights and of the data order.
        folder: where the trainer may write.
    """
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=spec.steps,
        per_device_train_batch_size=spec.batch,
        per_device_eval_batch_size=spec.batch,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        adam_epsilon=1e-6,  # the YOSO authors' value
        bf16=spec.dtype == "bfloat16",
        fp16=spec.dtype == "float16",
        use_cpu=spec.device == "cpu",
        seed=seed,
        data_seed=seed,
        dataloader_num_workers=0,
        dataloader_pin_memory=spec.device != "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # with more, transformers would multiply the batch by their number
    trainer = _FiniteTrainer(make_model(spec, task, seed), arguments, train_dataset=train_set)
    trainer.remove_callback(PrinterCallback)
    return trainer


class _FiniteTrainer(Trainer):
    """Stops at the first loss that is not a finite number; transformers' own trainer goes on with NaN weights."""

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor | Any], *args: Any, **kwargs: Any) -> Tensor:
        """The loss of one batch, after its backward pass."""
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not loss.isfinite():
            raise Diverged(self.args.seed, self.state.global_step + 1)
        return loss


class _Report(TrainerCallback):
    """Passes each finished step on to ``progress``."""

    def __init__(self, progress: Progress, done: int, total: int) -> None:
        self._progress = progress
        self._done = done
        self._total = total

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Transformers calls this after each optimizer step."""
        self._progress(self._done + state.global_step, self._total)
