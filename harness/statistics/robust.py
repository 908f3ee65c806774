"""Trimmed and winsorised means: averages that a few disturbed values do not move."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
QUARTER = 0.25
"""Share of a round's pairs that is left out at each end: what is left is the middle half."""


def trimmed_mean(values: Vector, share: float) -> tuple[Vector, Vector]:
    """The trimmed mean over the last axis and its standard error.

    The standard error is that of Dixon and Tukey (1968): the winsorised sum of squares over the values that are kept.

    Args:
        values: any shape.
        share: of the values to leave out at each end, rounded down to whole values.

    Returns:
        Mean and standard error, both with the shape of ``values`` without its last axis.
    """
    ordered = np.sort(values, axis=-1)
    size = ordered.shape[-1]
    cut = int(share * size)
    kept = size - 2 * cut
    squares = winsorised(ordered, cut).var(axis=-1, ddof=1) * (size - 1)
    return ordered[..., cut : size - cut].mean(axis=-1), np.sqrt(squares / (kept * (kept - 1)))


def winsorised(values: Vector, cut: int) -> Vector:
    """``values`` with the ``cut`` smallest and largest of the last axis replaced by their nearest neighbours."""
    ordered, size = np.sort(values, axis=-1), values.shape[-1]
    return np.clip(values, ordered[..., cut, None], ordered[..., size - 1 - cut, None])


def interquartile_mean(values: Sequence[float] | Vector) -> tuple[float, float]:
    """Mean of the middle half of the values, and its standard error; the error is 0 where there is only one value."""
    array = np.asarray(values, dtype=np.float64)
    if array.size < 2:
        return float(array[0]), 0.0
    mean, error = trimmed_mean(array, QUARTER)
    return float(mean), float(error)
