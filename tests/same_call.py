"""The simplest calls that ``harness.measure.timing`` can time."""

from harness.measure.timing import Batch


class SameCall:
    """Implements ``timing.Calls`` with one function, which takes no inputs."""

    most_per_sample = 10_000
    input_sets = 1
    seed = 0
    kept = None

    def __init__(self, call):
        self.call, self.purposes, self.results = call, [], []

    def ready(self, count, purpose):
        self.purposes.append(purpose)
        return Batch([self.call] * count, count - 1)

    def returned(self, result):
        self.results.append(result)
