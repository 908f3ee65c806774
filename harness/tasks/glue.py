"""GLUE (Wang et al., 2019) at byte level, from files with the columns of the hub's ``nyu-mll/glue``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from harness.tasks import data_files, data_tables
from harness.tasks.byte_tokens import PAD, VOCAB_SIZE, encode
from harness.tasks.task import LabelledSequences, Split, Task

HOW = "https://huggingface.co/datasets/nyu-mll/glue, one folder a task"


@dataclass(frozen=True)
class Form:
    """What one of GLUE's tasks has: its columns of text, labels, metrics, and the name of its held-out part."""

    columns: tuple[str, ...]
    num_labels: int = 2
    metrics: tuple[str, ...] = ("accuracy",)
    held_out: str = "validation"


FORMS = {
    "cola": Form(("sentence",), metrics=("matthews",)),
    "sst2": Form(("sentence",)),
    "mrpc": Form(("sentence1", "sentence2"), metrics=("f1", "accuracy")),
    "stsb": Form(("sentence1", "sentence2"), num_labels=1, metrics=("spearman",)),
    "qqp": Form(("question1", "question2"), metrics=("f1", "accuracy")),
    "mnli": Form(("premise", "hypothesis"), num_labels=3, held_out="validation_matched"),
    "qnli": Form(("question", "sentence")),
    "rte": Form(("sentence1", "sentence2")),
}


class Glue(Task):
    """One of GLUE's tasks: ``glue/NAME/train`` and its held-out part, as parquet, tsv, csv or json.

    Two sentences are one sequence with a separator between them. The labels of GLUE's test parts are not public, so
    its validation parts are held out.
    """

    vocab_size = VOCAB_SIZE
    pad_id = PAD

    def __init__(self, part: str) -> None:
        self.part = part
        self.form = FORMS[part]
        self.name = f"glue_{part}"
        self.data = f"GLUE's {part} as bytes, held out its {self.form.held_out} part"
        self.metric, *others = self.form.metrics
        self.other_metrics = tuple(others)
        self.num_labels = self.form.num_labels

    @property
    def chance(self) -> float:
        """Of guessing: a correlation of 0; for F1 about a half, which it is where the labels are even."""
        if self.metric in ("matthews", "spearman"):
            return 0.0
        return 1 / self.num_labels

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Examples in an order of ``seed``'s.

        Raises:
            ValueError: a file is missing or has no such columns, or a label is none of the task's.
        """
        table = data_tables.read(self.name, self._path(split), [*self.form.columns, "label"])
        order = np.random.default_rng(seed).permutation(len(table["label"]))[:examples]
        texts = [[str(table[column][at]).encode() for column in self.form.columns] for at in order]
        ids = torch.from_numpy(np.stack([encode(parts, seq_len) for parts in texts]))
        kind = float if self.num_labels == 1 else int
        labels = torch.tensor([kind(table["label"][at]) for at in order])
        return LabelledSequences(ids, ids != PAD, labels)

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        splits: tuple[Split, ...] = ("train", "eval")
        paths = [self._path(split) for split in splits]
        return {f"glue/{self.part}/{path.name}": data_files.checksum(path) for path in paths}

    def _path(self, split: Split) -> Path:
        stem = f"glue/{self.part}/{'train' if split == 'train' else self.form.held_out}"
        return data_files.find(self.name, *(f"{stem}.{suffix}" for suffix in data_tables.SUFFIXES), how=HOW)


COLA, SST2, MRPC, STSB, QQP, MNLI, QNLI, RTE = (Glue(part) for part in FORMS)
