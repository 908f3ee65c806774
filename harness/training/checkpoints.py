"""Where an interrupted training goes on: checkpoints of the running seed, and the results of the finished ones."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from transformers import TrainerCallback

from harness.core.spec import TaskSpec
from harness.training.trainer import Clock

SAVE_SECONDS = 60.0
"""Between two checkpoints."""
_SPENT = "spent.json"


class SeedResult(BaseModel):
    """What one seed's training gave: scores by metric, of the model as trained and with each swapped attention."""

    scores: dict[str, float]
    swapped: list[float]
    swapped_seconds: list[float]
    train_seconds: float
    eval_seconds: float
    steps: int


class SeedFolder:
    """The folder of one seed of a case.

    Args:
        root: of all cases' checkpoints. The name below it is a checksum of the spec and of the examples, so that
            nothing is resumed but the same training.
        spec: the case.
        examples_sha256: of the data.
        seed: of the training.
    """

    def __init__(self, root: Path, spec: TaskSpec, examples_sha256: str, seed: int) -> None:
        key = hashlib.sha256((spec.model_dump_json() + examples_sha256).encode()).hexdigest()[:16]
        self.path = root / f"{spec.task}-{spec.attention}-{key}" / f"seed-{seed}"
        self.path.mkdir(parents=True, exist_ok=True)
        self._result = self.path / "result.json"

    def finished(self) -> SeedResult | None:
        """The result, where this seed was trained to its end before."""
        return SeedResult.model_validate_json(self._result.read_bytes()) if self._result.exists() else None

    def finish(self, result: SeedResult) -> None:
        """Keep the result; it appears whole or not at all."""
        part = self._result.with_suffix(f".{os.getpid()}.part")  # several processes may finish one seed together
        part.write_text(result.model_dump_json())
        part.replace(self._result)

    def last_checkpoint(self) -> tuple[Path, float] | None:
        """The newest checkpoint that was written to its end, and the seconds that the training had taken then."""
        found = sorted(self.path.glob(f"checkpoint-*/{_SPENT}"), key=lambda file: int(file.parent.name.split("-")[1]))
        return (found[-1].parent, json.loads(found[-1].read_text())["seconds"]) if found else None


class Save(TrainerCallback):
    """Asks for a checkpoint when ``every`` seconds have passed since the last one; added behind its clock."""

    def __init__(self, clock: Clock, every: float) -> None:
        self._clock = clock
        self._every = every
        self._last = clock.seconds

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Transformers calls this after each optimizer step."""
        control.should_save = self._clock.seconds - self._last >= self._every

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Transformers calls this when a checkpoint is complete; this file says so."""
        self._last = self._clock.seconds
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / _SPENT).write_text(json.dumps({"seconds": self._clock.seconds}))
