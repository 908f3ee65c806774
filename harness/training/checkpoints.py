"""Checkpoints of the running seed and results of the finished seeds, so that an interrupted training can be resumed."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from transformers import TrainerCallback

from harness.core.spec import TaskSpec
from harness.training.trainer import TrainingClock

SAVE_SECONDS = 60.0
"""Time between two checkpoints."""
_SPENT = "spent.json"


class SeedResult(BaseModel):
    """The result of one seed's training: scores by metric of the trained model, and its score with each swap."""

    scores: dict[str, float]
    swapped: list[float]
    swapped_seconds: list[float]
    train_seconds: float
    eval_seconds: float
    steps: int


class SeedFolder:
    """The folder of one seed of a case.

    Args:
        root: the folder of all cases' checkpoints. The name of the case's folder contains a checksum of the spec and of
            the examples, so that only the same training is resumed.
        spec: the case.
        examples_sha256: checksum of the data.
        seed: of the training.
    """

    def __init__(self, root: Path, spec: TaskSpec, examples_sha256: str, seed: int) -> None:
        key = hashlib.sha256((spec.model_dump_json() + examples_sha256).encode()).hexdigest()[:16]
        self.path = root / f"{spec.task}-{spec.attention}-{key}" / f"seed-{seed}"
        self.path.mkdir(parents=True, exist_ok=True)
        self._result = self.path / "result.json"

    def finished(self) -> SeedResult | None:
        """The result of this seed if it was trained to the end before, else None."""
        return SeedResult.model_validate_json(self._result.read_bytes()) if self._result.exists() else None

    def finish(self, result: SeedResult) -> None:
        """Save the result. The file is written atomically."""
        part = self._result.with_suffix(f".{os.getpid()}.part")  # several processes may finish one seed together
        part.write_text(result.model_dump_json())
        part.replace(self._result)

    def last_checkpoint(self) -> tuple[Path, float] | None:
        """The newest complete checkpoint, and the seconds that the training had taken until then."""
        complete = sorted(
            self.path.glob(f"checkpoint-*/{_SPENT}"), key=lambda file: int(file.parent.name.split("-")[1])
        )
        return (complete[-1].parent, json.loads(complete[-1].read_text())["seconds"]) if complete else None


class SavePeriodically(TrainerCallback):
    """Asks for a checkpoint when ``every`` seconds have passed since the last one. Add it after its clock."""

    def __init__(self, clock: TrainingClock, every: float) -> None:
        self._clock = clock
        self._every = every
        self._last = clock.seconds

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by transformers after each optimizer step."""
        control.should_save = self._clock.seconds - self._last >= self._every

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by transformers after a checkpoint is written. The file written here marks it as complete."""
        self._last = self._clock.seconds
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / _SPENT).write_text(json.dumps({"seconds": self._clock.seconds}))
