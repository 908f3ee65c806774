"""Trains a task's model with any attention inside. This file imports nothing: transformers' Trainer takes seconds."""

CHECKPOINTS = "HARNESS_CHECKPOINTS"
"""The environment variable that names the folder of checkpoints; it is inherited by every process of a run."""
STEPS = "HARNESS_TRAINING_STEPS"
"""The environment variable that names the file into which a training writes how many of its steps are done."""


class Diverged(ArithmeticError):
    """The loss, or an output of the trained model, is no longer a finite number."""

    def __init__(self, seed: int, step: int) -> None:
        super().__init__(f"training with seed {seed} diverged: no finite number at step {step}")
        self.seed = seed
        self.step = step
