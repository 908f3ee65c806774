"""The mean of a few seeds' scores and its interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t

LEVEL = 0.95


class SeedMean(NamedTuple):
    """A mean with its interval; the bounds are None where a single seed gives none."""

    mean: float
    low: float | None
    high: float | None

    def excludes(self, value: float) -> bool:
        """Whether the whole interval is above ``value``."""
        return self.low is not None and self.low > value


def mean(scores: Sequence[float]) -> SeedMean:
    """The mean of independent trainings' scores, with Student's t interval at ``LEVEL``.

    Two seeds give a wide one: 12.7 times the standard error. It takes the scores for normal, which scores near their
    limits are not.

    Raises:
        ValueError: there are no scores.
    """
    if not len(scores):
        raise ValueError("scores must be one or more, got none; leave failed cases out")
    middle = float(np.mean(scores))
    if len(scores) == 1:
        return SeedMean(middle, None, None)
    half = float(t.ppf(0.5 + LEVEL / 2, len(scores) - 1) * np.std(scores, ddof=1) / np.sqrt(len(scores)))
    return SeedMean(middle, middle - half, middle + half)
