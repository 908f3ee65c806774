"""Where the level of a series changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import ruptures

MIN_POINTS = 5
"""A shorter series has no level changes: too few points to tell a change from noise."""
MIN_CHANGE = 0.03
"""The smallest change that is reported, as the logarithm of a ratio."""
PENALTY = 3.0
"""Cost of one more change, in units of log(number of points) times the noise."""


@dataclass(frozen=True)
class LevelChange:
    """The index of the first point of a new level, and the ratio of the medians after and before it."""

    index: int
    ratio: float


def level_changes(values: Sequence[float]) -> list[LevelChange]:
    """Changes of level, by PELT (Killick, Fearnhead and Eckley 2012) on logarithms with absolute deviations as cost.

    A single outlier is not a change: its cost is the same in a segment of its own as among the other points.

    The penalty is scaled by the noise between neighbouring points. A slow drift is therefore not reported as many small
    changes, and a noisy series does not get a change every few points.
    """
    logs = np.log([max(value, 1e-12) for value in values])
    if logs.size < MIN_POINTS:
        return []
    # The median of the absolute differences of neighbours: a change of level affects only one of these differences.
    noise = max(float(np.median(np.abs(np.diff(logs)))) / 0.954, MIN_CHANGE / 10)
    search = ruptures.Pelt(model="l1", min_size=2, jump=1).fit(logs.reshape(-1, 1))
    ends = search.predict(pen=PENALTY * np.log(logs.size) * noise)
    bounds = [0, *ends]
    levels = [float(np.median(logs[start:end])) for start, end in pairwise(bounds)]
    return [
        LevelChange(start, float(np.exp(after - before)))
        for start, before, after in zip(ends[:-1], levels[:-1], levels[1:], strict=True)
        if abs(after - before) >= MIN_CHANGE
    ]
