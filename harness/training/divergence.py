"""How a training says that it has no finite numbers any more."""


class Diverged(ArithmeticError):
    """The loss, or an output of the trained model, is no longer a finite number."""

    def __init__(self, seed: int, step: int) -> None:
        super().__init__(f"training with seed {seed} diverged: no finite number at step {step}")
        self.seed = seed
        self.step = step
