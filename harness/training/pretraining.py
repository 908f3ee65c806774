"""Denoising before a training: the encoder first learns to restore masked tokens of the task's own training examples.

Amos et al., "Never Train from Scratch" (2024, arXiv 2310.02980), show that this changes which attention scores best on
Long Range Arena, because scores from scratch depend much on the initial weights. No other data is used, and no label.
"""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from harness.core.spec import TaskSpec
from harness.tasks.task import IGNORED, LabelledSequences, Split, Task
from harness.training import ranks
from harness.training.checkpoints import SavePeriodically, SeedFolder, SeedResult
from harness.training.task_models import make_model
from harness.training.trainer import TrainingClock, make_trainer

MASKED_SHARE = 0.15
"""The share of the real tokens that are masked, as in BERT."""


class Denoising(Task):
    """Which tokens are behind the masks of a task's examples.

    Args:
        task: the task.
        examples: its training examples.
    """

    head = "masked_lm"

    def __init__(self, task: Task, examples: LabelledSequences) -> None:
        self.name, self.data = f"{task.name}_denoising", task.data
        self.pad_id, self.num_labels = task.pad_id, task.vocab_size
        self.vocab_size = task.vocab_size + 1
        self._mask_id = task.vocab_size
        self._examples = examples

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """All sequences of the task's training examples, each with the masks of this seed in every epoch.

        The masks are not drawn anew in every epoch, so that an interrupted training is resumed to the same bits.
        """
        ids, real = (
            tensor.flatten(0, -2).clone() for tensor in (self._examples.input_ids, self._examples.attention_mask)
        )
        drawn = torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed))
        masked = real.bool() & (drawn < MASKED_SHARE)
        # A sequence without any mask would have no loss.
        masked |= real.bool() & (drawn == drawn.masked_fill(~real.bool(), 1.0).amin(-1, keepdim=True))
        labels = torch.where(masked, ids.long(), IGNORED)
        return LabelledSequences(ids.masked_fill(masked, self._mask_id), real, labels)


class Pretraining:
    """The denoising before one seed's training, in a folder of its own inside the seed's.

    Args:
        spec: the case; ``pretrain_steps`` steps have its batch and learning rate, with linear warm-up and decay.
        folder: of the seed.
        sha256: checksum of the data.
        seed: of the initial weights, of the masks and of the data order.
    """

    def __init__(self, spec: TaskSpec, folder: SeedFolder, sha256: str, seed: int) -> None:
        plain = {"pretrain_steps": 0, "steps": spec.pretrain_steps, "warmup_steps": None, "schedule": "linear"}
        self._spec, self._seed = spec.model_copy(update=plain), seed
        self._folder = SeedFolder(folder.path, self._spec, sha256, seed)

    def run(self, task: Task, train_set: LabelledSequences, model: PreTrainedModel, save_seconds: float | None) -> None:
        """Train an encoder on ``Denoising`` and copy its weights into the model, whose head keeps its own.

        Args:
            task: the task.
            train_set: its training examples.
            model: the untrained model.
            save_seconds: time between two checkpoints; None: none are kept.

        Raises:
            Diverged: the loss became NaN or infinite.
        """
        denoising = Denoising(task, train_set)
        encoder = make_model(self._spec, denoising, self._seed)
        examples = denoising.dataset("train", len(train_set), self._spec.seq_len, self._seed)
        trainer = make_trainer(self._spec, denoising, encoder, examples, self._seed, str(self._folder.path))
        last: tuple[Path, float] | None = ranks.from_first(self._folder.last_checkpoint())
        clock = TrainingClock(last[1] if last else 0.0, None)
        trainer.add_callback(clock)
        if save_seconds is not None:
            trainer.add_callback(SavePeriodically(clock, save_seconds))
        trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
        learned, own = encoder.state_dict(), model.state_dict()
        model.load_state_dict({name: learned.get(name, tensor) for name, tensor in own.items()})
        self._folder.finish(
            SeedResult(
                scores={},
                swapped=[],
                swapped_seconds=[],
                train_seconds=clock.seconds,
                eval_seconds=0.0,
                steps=trainer.state.global_step,
            )
        )

    def seconds(self) -> float | None:
        """How long it took, over all parts of an interrupted one; None before it has ended."""
        finished = self._folder.finished()
        return None if finished is None else finished.train_seconds
