"""Byte-level text classification on Python's own source: which package a passage is from."""

import numpy as np

from harness.tasks import python_source
from harness.tasks.generated import Drawn, GeneratedTask
from harness.tasks.python_source import PACKAGES
from harness.tasks.task import Split
from harness.tasks.tokens import BYTE_VOCAB_SIZE, PAD, encode_bytes


class PythonText(GeneratedTask):
    """Eight-way classification, one byte per token. A substitute for Long Range Arena's IMDb on embedded data."""

    name = "python_text"
    data = f"embedded: passages of the {python_source.NAME}, other files held out"
    num_labels = len(PACKAGES)
    vocab_size = BYTE_VOCAB_SIZE
    pad_id = PAD
    min_seq_len = 32

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        labels = rng.integers(0, len(PACKAGES), examples)
        ids = np.empty((examples, seq_len), dtype=np.int16)
        for row, label in enumerate(labels):
            files = python_source.files(PACKAGES[label], split)
            file = files[python_source.pick(rng, files)]
            ids[row] = encode_bytes([python_source.passage(rng, file, seq_len - 1)], seq_len)
        return Drawn(ids, ids != PAD, labels)

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        return python_source.sources()
