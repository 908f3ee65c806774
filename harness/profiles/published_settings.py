"""Training cases with the settings of YOSO's authors: Long Range Arena, and GLUE with their small BERT.

The settings of Long Range Arena are those of github.com/mlpen/YOSO, ``LRA/models/*/config.json``, with one exception:
the number of Pathfinder images is Long Range Arena's own, 160,000 and 20,000, because the authors' file repeats the
numbers of the Image task there.
"""

from itertools import product
from typing import Any, NamedTuple

from harness.core import registry
from harness.core.spec import Scalar, TaskSpec


class LraSettings(NamedTuple):
    """The settings that differ between Long Range Arena's tasks; ``hash_code_len`` is YOSO's tau."""

    seq_len: int
    batch: int
    steps: int
    warmup_steps: int
    train_examples: int
    eval_examples: int
    hash_code_len: int


LRA = {
    "listops": LraSettings(2000, 32, 5000, 1000, 96000, 2000, 11),
    "imdb": LraSettings(4000, 32, 20000, 8000, 25000, 25000, 12),
    "aan": LraSettings(4000, 32, 30000, 800, 147086, 17437, 12),
    "cifar10": LraSettings(1024, 256, 35000, 175, 50000, 10000, 10),
    "pathfinder": LraSettings(1024, 256, 62400, 312, 160000, 20000, 10),
}
GLUE_LENGTH = 512
GLUE_BATCHES = (8, 16, 32)
GLUE_LEARNING_RATES = (2e-5, 3e-5, 4e-5, 5e-5)


def lra(task: str, attention: str, num_hash: int = 32, **others: Any) -> TaskSpec:
    """One task of Long Range Arena: two pre-norm layers of width 64, mean pooling, AdamW with one cycle.

    Args:
        task: a key of ``LRA``.
        attention: the attention inside.
        num_hash: number of hashes of an attention that hashes; the authors use 16 and 32.
        others: fields of the spec that differ from the authors' (``seeds``, ``device``, ``steps``, ...).

    Raises:
        ValueError: the task does not belong to Long Range Arena.
    """
    if task not in LRA:
        raise ValueError(f"task must be one of Long Range Arena's, {', '.join(LRA)}; got {task!r}")
    settings = LRA[task]._asdict()
    knobs = {"hash_code_len": settings.pop("hash_code_len"), "num_hash": num_hash}
    fields: dict[str, Any] = settings | {
        "task": task,
        "attention": attention,
        "family": "lra",
        "layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "heads": 2,
        "dropout": 0.1,
        "learning_rate": 1e-4,
        "schedule": "one_cycle",
    }
    return _spec(fields | others, knobs)


def bert_small(task: str, attention: str, num_hash: int = 32, **others: Any) -> TaskSpec:
    """A task with the authors' small BERT: four layers of width 512, eight heads, 512 tokens, tau 9.

    Batch and learning rate are the middle of the authors' search; ``bert_small_grid`` gives the whole search. The
    authors fine-tune a pre-trained model; here training starts from random weights.

    Args:
        task: any task, one of GLUE's in the paper.
        attention: the attention inside.
        num_hash: number of hashes of an attention that hashes.
        others: fields of the spec that differ from these.
    """
    fields: dict[str, Any] = {
        "task": task,
        "attention": attention,
        "seq_len": GLUE_LENGTH,
        "batch": 16,
        "learning_rate": 3e-5,
        "layers": 4,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "heads": 8,
        "dropout": 0.1,
    }
    return _spec(fields | others, {"hash_code_len": 9, "num_hash": num_hash})


def bert_small_grid(task: str, attention: str, **others: Any) -> list[TaskSpec]:
    """``bert_small`` at every batch and learning rate that the authors search."""
    grid = product(GLUE_BATCHES, GLUE_LEARNING_RATES)
    return [bert_small(task, attention, batch=batch, learning_rate=rate, **others) for batch, rate in grid]


def _spec(fields: dict[str, Any], knobs: dict[str, Scalar]) -> TaskSpec:
    """The spec, with those of ``knobs`` that its attention has."""
    bare = TaskSpec.model_validate(fields)
    known = registry.get(bare.attention).default_knobs(bare)
    own = {name: value for name, value in knobs.items() if name in known}
    return bare.model_copy(update={"knobs": own | dict(bare.knobs)})
