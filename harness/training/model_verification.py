"""Verification of the attention inside a task's model, before the training and after it.

A score says nothing about an attention if the layers computed something else. So the calls of every layer are verified
against the attention's oracle (``harness.measure.verify_layers``) on the first examples: in training mode with
gradients, and in evaluation mode, which is how the model is scored.
"""

from typing import Any

import torch
from transformers import PreTrainedModel, Trainer

from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.record import Check
from harness.core.spec import TaskSpec
from harness.measure import verify_layers
from harness.models import transformers_seam
from harness.tasks.task import LabelledSequences


class Verification:
    """Collects the checks of a case's models.

    Args:
        plugin: the attention that the models are trained with.
        spec: the case.
    """

    def __init__(self, plugin: AttentionPlugin, spec: TaskSpec) -> None:
        self._plugin, self._spec = plugin, spec
        self.checks: list[Check] = []
        self.unverified: list[str] = []
        """What was not verified, and why."""
        self.findings: list[str] = []
        """What else a reader of the case's record must know, such as a damaged checkpoint."""

    def untrained(self, model: PreTrainedModel, trainer: Trainer, eval_set: LabelledSequences) -> None:
        """Verify the layers of a model with initial weights; ``trainer`` has its training examples."""
        self.checks += self._check(model, trainer, eval_set, " of the untrained model")

    def trained(self, model: PreTrainedModel, trainer: Trainer, eval_set: LabelledSequences, seed: int) -> None:
        """Verify the layers of a model that ``trainer`` has just trained and scored on ``eval_set``."""
        case = transformers_seam.layer_case(self._spec)
        if transformers_seam.own_weights(case):
            self._not_verified(
                "the trained models: their attention has trained weights, and the oracle the initial ones"
            )
            return
        self.checks += self._check(model, trainer, eval_set, f" of the model of seed {seed}")

    def resumed(self, seed: int) -> None:
        """Note a seed whose training was finished by an earlier run, which kept its scores and not its model."""
        self._not_verified(f"the trained model of seed {seed}: an earlier run finished it and kept its scores only")

    def _not_verified(self, sentence: str) -> None:
        if sentence not in self.unverified:
            self.unverified.append(sentence)

    def _check(self, model: PreTrainedModel, trainer: Trainer, eval_set: LabelledSequences, when: str) -> list[Check]:
        # Whole batches, for which the layers keep the modules that the training and the scoring use.
        batches = (trainer.get_train_dataloader(), trainer.get_eval_dataloader(eval_set))
        examples, held_out = (trainer._prepare_inputs(next(iter(loader))) for loader in batches)
        spec, case = self._spec, transformers_seam.layer_case(self._spec)
        weighted = transformers_seam.attached(model)
        # The trainer's own contexts have no effect before it trains.
        autocast = torch.autocast(
            torch.device(spec.device).type, torch_dtype(spec.dtype), enabled=spec.dtype != "float32"
        )

        def step() -> None:
            with autocast:
                loss: Any = trainer.compute_loss(model, dict(examples))
            loss.backward()
            model.zero_grad(set_to_none=True)

        def evaluation() -> None:
            with torch.no_grad(), autocast:
                model(**held_out)

        was_training, generator = model.training, torch.get_rng_state()
        model.train()
        checks = verify_layers.check(self._plugin, case, model, step, weighted, f"{when}, training")
        model.eval()
        checks += verify_layers.check(self._plugin, case, model, evaluation, weighted, f"{when}, evaluation")
        model.train(was_training)
        torch.set_rng_state(generator)  # the training that follows draws the same numbers as without the verification
        return checks
