"""Pathfinder's scenes: the dots are at the ends that the label implies, and contours do not touch."""

import numpy as np
import pytest
import torch

from harness.tasks.pathfinder import (
    CLEARANCE,
    CONTOUR_DASHES,
    DASH,
    GAP,
    SEED_DISTANCE,
    Pathfinder,
    render,
    scene,
)


def contours(dashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return dashes[:CONTOUR_DASHES], dashes[CONTOUR_DASHES : 2 * CONTOUR_DASHES]


@pytest.mark.parametrize("connected", [True, False])
def test_dots_are_the_ends_of_one_contour_or_of_two(connected):
    for seed in range(10):
        dashes, dots = scene(np.random.default_rng(seed), connected)
        targets = contours(dashes)
        origin = [index for index, contour in enumerate(targets) if np.allclose(contour[0, 0], dots[0])]
        end = [index for index, contour in enumerate(targets) if np.allclose(contour[-1, 1], dots[1])]
        assert len(origin) == len(end) == 1
        assert (origin == end) == connected


def test_contours_are_rows_of_dashes_that_do_not_touch():
    for seed in range(10):
        dashes, _ = scene(np.random.default_rng(seed), True)
        assert len(dashes) > 2 * CONTOUR_DASHES, "there are no distractors"
        assert ((dashes >= 0) & (dashes <= 1)).all()
        lengths = np.linalg.norm(dashes[:, 1] - dashes[:, 0], axis=-1)
        np.testing.assert_allclose(lengths, DASH)
        first, second = contours(dashes)
        assert np.linalg.norm(first[0, 0] - second[0, 0]) == pytest.approx(SEED_DISTANCE)
        for contour in (first, second):
            np.testing.assert_allclose(np.linalg.norm(contour[1:, 0] - contour[:-1, 1], axis=-1), GAP)
        # The recipe checks the clearance at the ends of the dashes.
        gaps = np.linalg.norm(first.reshape(-1, 1, 2) - second.reshape(1, -1, 2), axis=-1)
        assert gaps.min() > CLEARANCE


@pytest.mark.parametrize("width", [32, 64])
def test_an_image_shows_dashes_and_dots_at_any_size(width):
    dashes, dots = scene(np.random.default_rng(1), True)
    image = render(dashes, dots, width)
    assert image.shape == (width, width)
    assert 0.05 < image.mean() < 0.4
    for y, x in dots:
        assert image[int(y * width), int(x * width)] > 0.9
    drawn = [image[int(y * width), int(x * width)] for y, x in dashes.mean(axis=1)]
    assert min(drawn) > 0.15
    assert np.mean(drawn) > 0.4
    # The background is black.
    assert (image == 0).mean() > 0.3


def test_both_labels_occur_and_brightness_does_not_predict_them():
    data = Pathfinder().dataset("train", 120, 32 * 32, seed=0)
    assert 0.3 < data.labels.float().mean() < 0.7
    bright = data.input_ids.float().mean(1)
    means = [bright[data.labels == label] for label in (0, 1)]
    gap = abs(means[0].mean() - means[1].mean()) / torch.stack([m.std() / len(m) ** 0.5 for m in means]).norm()
    assert gap < 4
