"""Checkpoints of the running seed and results of the finished seeds, so that an interrupted training can be resumed.

A crash of the machine or a full disk can leave files empty or cut off. So a checkpoint is resumed only if all of its
files are as they were written; else the one before it is.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError
from transformers import TrainerCallback

from harness.core.spec import TaskSpec
from harness.training.trainer import TrainingClock

SAVE_SECONDS = 60.0
"""Time between two checkpoints."""
DAMAGED = "damaged-"
"""How the name of a folder begins that was a checkpoint and could not be resumed."""
_SPENT = "spent.json"
_LOGGER = logging.getLogger(__name__)


class SeedResult(BaseModel):
    """The result of one seed's training: scores by metric of the trained model, and its score with each swap.

    ``rows_below_one_collision`` is None for an attention without hashes, ``pretrain_seconds`` without denoising.
    """

    scores: dict[str, float]
    swapped: list[float]
    swapped_seconds: list[float]
    train_seconds: float
    eval_seconds: float
    steps: int
    rows_below_one_collision: float | None = None
    pretrain_seconds: float | None = None


class Completed(BaseModel):
    """What ``spent.json`` says of a complete checkpoint: the seconds until then, and the SHA-256 of each file by name.

    A checkpoint of an older version has no checksums.
    """

    seconds: float = Field(ge=0, allow_inf_nan=False)
    sha256: dict[str, str] = Field(default_factory=dict)


class SeedFolder:
    """The folder of one seed of a case.

    Args:
        root: the folder of all cases' checkpoints. The name of the case's folder contains a checksum of the spec and of
            the examples, so that only the same training is resumed.
        spec: the case.
        examples_sha256: checksum of the data.
        seed: of the training.
        tell: receives a sentence about each file that is damaged, and what is done instead.
    """

    def __init__(
        self,
        root: Path,
        spec: TaskSpec,
        examples_sha256: str,
        seed: int,
        tell: Callable[[str], None] = _LOGGER.warning,
    ) -> None:
        key = hashlib.sha256((spec.model_dump_json() + examples_sha256).encode()).hexdigest()[:16]
        self.path = root / f"{spec.task}-{spec.attention}-{key}" / f"seed-{seed}"
        self.path.mkdir(parents=True, exist_ok=True)
        self._result = self.path / "result.json"
        self._seed, self._tell = seed, tell

    def finished(self) -> SeedResult | None:
        """The result of this seed if it was trained to the end before, else None."""
        try:
            return SeedResult.model_validate_json(self._result.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            self._tell(f"seed {self._seed}: its result in {self._result} cannot be read; it is trained again")
            return None

    def finish(self, result: SeedResult) -> None:
        """Save the result. The file is written atomically."""
        part = self._result.with_suffix(f".{os.getpid()}.part")  # several processes may finish one seed together
        part.write_text(result.model_dump_json())
        part.replace(self._result)

    def last_checkpoint(self) -> tuple[Path, float] | None:
        """The newest checkpoint that is whole, and the seconds that the training had taken until then.

        Newer ones are renamed, because the trainer, which keeps the newest two, would delete the whole one first.
        """
        folders = [path for path in self.path.glob("checkpoint-*") if path.name.split("-")[1].isdecimal()]
        damaged = []
        found = None
        for folder in sorted(folders, key=lambda path: int(path.name.split("-")[1]), reverse=True):
            completed = _whole(folder)
            if isinstance(completed, Completed):
                found = folder, completed.seconds
                break
            damaged.append(f"{folder.name} ({completed})")
            with suppress(OSError):  # another process of the same training has renamed it
                aside = folder.with_name(DAMAGED + folder.name)
                shutil.rmtree(aside, ignore_errors=True)
                folder.rename(aside)
        if damaged:
            instead = (
                f"is resumed from {found[0].name}" if found else "starts from the beginning: no checkpoint is whole"
            )
            self._tell(f"seed {self._seed}: its training {instead}, and not from {', '.join(damaged)} in {self.path}")
        return found


def _whole(checkpoint: Path) -> Completed | str:
    """What ``spent.json`` says, if all files are as they were written; else what is wrong with them."""
    try:
        completed = Completed.model_validate_json((checkpoint / _SPENT).read_bytes())
    except FileNotFoundError:
        return "the training was interrupted while it was saved"
    except (OSError, ValidationError):
        return f"{_SPENT} is damaged"
    for name, expected in completed.sha256.items():
        try:
            if _sha256(checkpoint / name) != expected:
                return f"{name} is damaged"
        except OSError:
            return f"{name} cannot be read"
    return completed


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        if args.world_size > 1:
            torch.distributed.barrier()  # each process writes the state of its own random numbers
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != _SPENT)
            completed = Completed(seconds=self._clock.seconds, sha256={path.name: _sha256(path) for path in files})
            part = folder / f"{_SPENT}.part"
            part.write_text(completed.model_dump_json())
            part.replace(folder / _SPENT)
