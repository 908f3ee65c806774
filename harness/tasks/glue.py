"""GLUE (Wang et al., 2019) at byte level, from files with the columns of the hub's ``nyu-mll/glue``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from harness.tasks import data_files, data_tables
from harness.tasks.task import LabelledSequences, Split, Task
from harness.tasks.tokens import BYTE_VOCAB_SIZE, PAD, encode_bytes

SOURCE = "https://huggingface.co/datasets/nyu-mll/glue, one folder per task"


@dataclass(frozen=True)
class GluePart:
    """One of GLUE's tasks: its text columns, number of labels, metrics, and the name of its held-out part."""

    columns: tuple[str, ...]
    num_labels: int = 2
    metrics: tuple[str, ...] = ("accuracy",)
    held_out: str = "validation"


PARTS = {
    "cola": GluePart(("sentence",), metrics=("matthews",)),
    "sst2": GluePart(("sentence",)),
    "mrpc": GluePart(("sentence1", "sentence2"), metrics=("f1", "accuracy")),
    "stsb": GluePart(("sentence1", "sentence2"), num_labels=1, metrics=("spearman",)),
    "qqp": GluePart(("question1", "question2"), metrics=("f1", "accuracy")),
    "mnli": GluePart(("premise", "hypothesis"), num_labels=3, held_out="validation_matched"),
    "qnli": GluePart(("question", "sentence")),
    "rte": GluePart(("sentence1", "sentence2")),
}


class Glue(Task):
    """One of GLUE's tasks: ``glue/NAME/train`` and its held-out part, as parquet, tsv, csv or json.

    Two sentences become one sequence with a separator between them. The labels of GLUE's test parts are not public, so
    the validation parts are held out.
    """

    vocab_size = BYTE_VOCAB_SIZE
    pad_id = PAD

    def __init__(self, name: str) -> None:
        self.part_name = name
        self.part = PARTS[name]
        self.name = f"glue_{name}"
        self.data = f"GLUE's {name} as bytes, held out its {self.part.held_out} part"
        self.metric, *others = self.part.metrics
        self.other_metrics = tuple(others)
        self.num_labels = self.part.num_labels

    @property
    def chance(self) -> float:
        """The score of guessing: 0 for a correlation; for F1 about a half, which is exact for balanced labels."""
        if self.metric in ("matthews", "spearman"):
            return 0.0
        return 1 / self.num_labels

    def dataset(self, split: Split, examples: int, seq_len: int, seed: int) -> LabelledSequences:
        """Examples, shuffled by ``seed``.

        Raises:
            ValueError: a file is missing, or not a table of texts and labels.
        """
        table = data_tables.read(self.name, self._path(split), [*self.part.columns, "label"])
        texts = [table.texts(column) for column in self.part.columns]
        labels = torch.tensor(table.numbers("label") if self.num_labels == 1 else table.labels("label"))
        order = np.random.default_rng(seed).permutation(len(table))[:examples]
        ids = torch.from_numpy(
            np.stack([encode_bytes([column[index] for column in texts], seq_len) for index in order])
        )
        return LabelledSequences(ids, ids != PAD, labels[torch.from_numpy(order)])

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        splits: tuple[Split, ...] = ("train", "eval")
        paths = [self._path(split) for split in splits]
        return {f"glue/{self.part_name}/{path.name}": data_files.checksum(path) for path in paths}

    def _path(self, split: Split) -> Path:
        stem = f"glue/{self.part_name}/{'train' if split == 'train' else self.part.held_out}"
        return data_files.find_table(self.name, stem, SOURCE)


COLA, SST2, MRPC, STSB, QQP, MNLI, QNLI, RTE = (Glue(name) for name in PARTS)
