"""Byte-level retrieval on Python's own source: whether two passages are from one file."""

import numpy as np

from harness.tasks import python_source
from harness.tasks.byte_tokens import PAD, VOCAB_SIZE, encode
from harness.tasks.generated import Drawn, GeneratedTask
from harness.tasks.python_source import PACKAGES
from harness.tasks.task import Split


class PythonRetrieval(GeneratedTask):
    """Two sequences, encoded each for itself: 1 where both are passages of one file, 0 where of two files.

    It stands where Long Range Arena has AAN, and is not that.
    """

    name = "python_retrieval"
    head = "sequence_pair"
    data = f"embedded: pairs of passages of the {python_source.NAME}, other files held out"
    num_labels = 2
    vocab_size = VOCAB_SIZE
    pad_id = PAD
    min_seq_len = 32

    def draw(self, rng: np.random.Generator, examples: int, seq_len: int, split: Split) -> Drawn:
        """See ``GeneratedTask``."""
        among = [file for package in PACKAGES for file in python_source.files(package, split)]
        labels = rng.integers(0, 2, examples)
        ids = np.empty((examples, 2, seq_len), dtype=np.int16)
        for row, label in enumerate(labels):
            first = second = python_source.pick(rng, among)
            while not label and second == first:
                second = python_source.pick(rng, among)
            for side, at in enumerate((first, second)):
                ids[row, side] = encode([python_source.passage(rng, among[at], seq_len - 1)], seq_len)
        return Drawn(ids, ids != PAD, labels)

    def sources(self) -> dict[str, str]:
        """See ``Task``."""
        return python_source.sources()
