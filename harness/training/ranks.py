"""Several processes that train one model together (``torchrun``): what they must agree on.

Each call is a collective operation, which every process makes at the same place, and does nothing in a single process.
"""

import os
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import torch
from torch import Tensor, distributed
from transformers import TrainingArguments

Value = TypeVar("Value")


def join(device: str, folder: str) -> int:
    """Join the other processes, as transformers' trainer does it; the number of processes.

    Args:
        device: ``cpu`` or ``cuda``.
        folder: where the trainer may write.
    """
    return TrainingArguments(output_dir=folder, use_cpu=device == "cpu", report_to="none").world_size


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def is_first() -> bool:
    """Whether this process is rank 0, which writes files."""
    return not _several() or distributed.get_rank() == 0


def from_first(value: Value) -> Value:
    """The value that rank 0 has. The others' values may differ, for example because they read another folder."""
    if not _several():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def all_true(value: bool, device: torch.device) -> bool:
    """Whether the value is true in every process."""
    if not _several():
        return value
    flag: Tensor = torch.tensor(int(value), device=device)
    distributed.all_reduce(flag, distributed.ReduceOp.MIN)
    return bool(flag.item())


def require_shared(folder: Path) -> None:
    """Check that all processes see the same folder: rank 0 writes checkpoints there and all of them read them.

    Raises:
        ValueError: one does not, in every process.
    """
    if not _several():
        return
    name, of_first = from_first((f".shared-{uuid4().hex}", str(folder)))
    if is_first():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    distributed.barrier()
    sees: list[bool] = [False] * distributed.get_world_size()
    distributed.all_gather_object(sees, os.path.exists(folder / name))
    if is_first():
        (folder / name).unlink()
    if not all(sees):
        blind = ", ".join(str(rank) for rank, seen in enumerate(sees) if not seen)
        raise ValueError(
            f"the folder of checkpoints must be shared by all {len(sees)} processes, but {of_first} of rank 0 is not "
            f"seen by rank {blind}; name a folder on a file system that all of them mount"
        )
