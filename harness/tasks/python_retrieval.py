"""Byte-level retrieval on Python's own source: whether two passages are from one file."""

import numpy as np

from harness.tasks import python_source
from harness.tasks.generated import Drawn, GeneratedTask
from harness.tasks.python_source import PACKAGES
from harness.tasks.task import Split
from harness.tasks.tokens import BYTE_VOCAB_SIZE, PAD, encode_bytes


class PythonRetrieval(GeneratedTask):
    """Two sequences, encoded separately; label 1 if both are passages of one file, 0 if of two files.

    A substitute for Long Range Arena's AAN on embedded data.
    """

    name = "python_retrieval"
    head = "sequence_pair"
    data = f"embedded: pairs of passages of the {python_source.NAME}, other files held out"
    num_labels = 2
    vocab_size = BYTE_VOCAB_SIZE
    pad_id = PAD
    min_seq_len = 32

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        files = [file for package in PACKAGES for file in python_source.files(package, split)]
        labels = rng.integers(0, 2, examples)
        ids = np.empty((examples, 2, seq_len), dtype=np.int16)
        for row, label in enumerate(labels):
            first = second = python_source.pick(rng, files)
            while not label and second == first:
                second = python_source.pick(rng, files)
            for position, index in enumerate((first, second)):
                ids[row, position] = encode_bytes([python_source.passage(rng, files[index], seq_len - 1)], seq_len)
        return Drawn(ids, ids != PAD, labels)

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        return python_source.sources()
