"""Pathfinder's scenes: the dots are ends of the contours that the label says, and nothing touches."""

import numpy as np
import pytest
import torch

from harness.tasks.pathfinder import Pathfinder
from harness.tasks.pathfinder_contours import CLEARANCE, CONTOUR_DASHES, DASH, GAP, SEED_DISTANCE, render, scene


def contours(dashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return dashes[:CONTOUR_DASHES], dashes[CONTOUR_DASHES : 2 * CONTOUR_DASHES]


@pytest.mark.parametrize("connected", [True, False])
def test_dots_are_the_ends_of_one_contour_or_of_two(connected):
    for seed in range(10):
        dashes, dots = scene(np.random.default_rng(seed), connected)
        targets = contours(dashes)
        origin = [at for at, one in enumerate(targets) if np.allclose(one[0, 0], dots[0])]
        end = [at for at, one in enumerate(targets) if np.allclose(one[-1, 1], dots[1])]
        assert len(origin) == len(end) == 1
        assert (origin == end) == connected


def test_contours_are_dashes_in_a_row_that_keep_clear_of_each_other():
    for seed in range(10):
        dashes, _ = scene(np.random.default_rng(seed), True)
        assert len(dashes) > 2 * CONTOUR_DASHES, "there are no distractors"
        assert ((dashes >= 0) & (dashes <= 1)).all()
        lengths = np.linalg.norm(dashes[:, 1] - dashes[:, 0], axis=-1)
        np.testing.assert_allclose(lengths, DASH)
        first, second = contours(dashes)
        assert np.linalg.norm(first[0, 0] - second[0, 0]) == pytest.approx(SEED_DISTANCE)
        for one in (first, second):
            np.testing.assert_allclose(np.linalg.norm(one[1:, 0] - one[:-1, 1], axis=-1), GAP)
        # The recipe's clearance, at the points that are tested for it: the ends of the dashes.
        gaps = np.linalg.norm(first.reshape(-1, 1, 2) - second.reshape(1, -1, 2), axis=-1)
        assert gaps.min() > CLEARANCE


@pytest.mark.parametrize("side", [32, 64])
def test_an_image_shows_dashes_and_dots_at_either_size(side):
    dashes, dots = scene(np.random.default_rng(1), True)
    image = render(dashes, dots, side)
    assert image.shape == (side, side)
    assert 0.05 < image.mean() < 0.4
    for y, x in dots:
        assert image[int(y * side), int(x * side)] > 0.9
    drawn = [image[int(y * side), int(x * side)] for y, x in dashes.mean(axis=1)]
    assert min(drawn) > 0.15
    assert np.mean(drawn) > 0.4
    # A pixel that is far from everything stays black.
    assert (image == 0).mean() > 0.3


def test_both_labels_are_drawn_and_brightness_does_not_tell_them_apart():
    data = Pathfinder().dataset("train", 120, 32 * 32, seed=0)
    assert 0.3 < data.labels.float().mean() < 0.7
    bright = data.input_ids.float().mean(1)
    means = [bright[data.labels == label] for label in (0, 1)]
    gap = abs(means[0].mean() - means[1].mean()) / torch.stack([m.std() / len(m) ** 0.5 for m in means]).norm()
    assert gap < 4
