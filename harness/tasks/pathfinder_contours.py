"""Scenes of dashed contours, two of them with a dot at an end, after the published Pathfinder recipe.

Linsley et al., "Learning long-range spatial dependencies with horizontal gated recurrent units" (NeurIPS 2018),
github.com/drewlinsley/pathfinder (``snakes2.py``): two target contours of 14 dashes that grow side by side from seeds a
fixed distance apart, and distractors of a third of that length. Nothing touches: a dash that would come too near to
another contour is drawn again. Sizes are parts of the side, so that any number of pixels shows the same scene.
"""

import numpy as np
from numpy.typing import NDArray

CONTOUR_DASHES = 14
DISTRACTOR_DASHES = CONTOUR_DASHES // 3
DISTRACTORS = 6
DASH, GAP = 0.04, 0.03
"""Lengths of a dash and of the space to the next one."""
CLEARANCE = 0.06
"""Least distance of two contours' dashes."""
SEED_DISTANCE = 0.2
BORDER = 0.04
THICKNESS = 0.02
DOT_RADIUS = 0.045
MAX_TURN = 0.8
"""Radians from one dash to the next."""
TRIALS = 16
AHEAD = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
"""Points, in dashes, that must be free: the dash and as much again, so that contours seldom run into a dead end."""
DASH_END = 2
Points = NDArray[np.float64]


def scene(rng: np.random.Generator, connected: bool) -> tuple[Points, Points]:
    """Dashes ``[D, 2, 2]`` (start and end, y and x) and the two dots ``[2, 2]``, all in [0, 1]."""
    while True:
        targets = _targets(rng)
        if targets is not None:
            break
    dashes = [dash for target in targets for dash in target]
    for _ in range(DISTRACTORS):
        starts = rng.uniform(BORDER, 1 - BORDER, (TRIALS, 2))
        others = np.array(dashes)
        for start in starts[_distance(starts[:, None], others[None]).min(axis=1) > CLEARANCE]:
            distractor = _grow(rng, start, DISTRACTOR_DASHES, others)
            if distractor is not None:
                dashes += distractor
                break
    origin = int(rng.integers(0, 2))
    end = origin if connected else 1 - origin
    return np.array(dashes), np.stack([targets[origin][0][0], targets[end][-1][1]])


def render(dashes: Points, dots: Points, side: int) -> NDArray[np.float32]:
    """The image ``[side, side]`` in [0, 1], dashes and dots with soft edges of a pixel."""
    grid = (np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1) + 0.5) / side
    strokes = _distance(grid.reshape(-1, 1, 2), dashes[None]).min(axis=1) - THICKNESS / 2
    circles = np.linalg.norm(grid.reshape(-1, 1, 2) - dots, axis=-1).min(axis=1) - DOT_RADIUS
    return np.clip(0.5 - np.minimum(strokes, circles) * side, 0, 1).reshape(side, side).astype(np.float32)


def _targets(rng: np.random.Generator) -> list[list[Points]] | None:
    """Two contours, a dash of each in turn; None where they run into each other."""
    seed, direction = rng.uniform(0.2, 0.8, 2), rng.uniform(0, 2 * np.pi)
    other = seed + SEED_DISTANCE * np.array([np.sin(direction), np.cos(direction)])
    contours: list[list[Points]] = [[], []]
    tips = [(seed, rng.uniform(0, 2 * np.pi)), (other, rng.uniform(0, 2 * np.pi))]
    for _ in range(CONTOUR_DASHES):
        for which in range(2):
            found = _next(rng, *tips[which], contours[which], np.array(contours[1 - which]).reshape(-1, 2, 2))
            if found is None:
                return None
            dash, tips[which] = found
            contours[which].append(dash)
    return contours


def _grow(rng: np.random.Generator, tip: Points, dashes: int, others: Points) -> list[Points] | None:
    """One contour that keeps clear of all others; None where there is no room."""
    heading = rng.uniform(0, 2 * np.pi)
    contour: list[Points] = []
    for _ in range(dashes):
        found = _next(rng, tip, heading, contour, others)
        if found is None:
            return None
        dash, (tip, heading) = found
        contour.append(dash)
    return contour


def _next(
    rng: np.random.Generator, tip: Points, heading: float, own: list[Points], others: Points
) -> tuple[Points, tuple[Points, float]] | None:
    """The next dash of a contour and its new tip and heading; the first of some random turns that has room."""
    headings = heading + rng.uniform(-MAX_TURN, MAX_TURN, TRIALS)
    steps = np.stack([np.sin(headings), np.cos(headings)], axis=-1)
    along = tip + steps[:, None] * (DASH * AHEAD)[None, :, None]
    free = ((along > BORDER) & (along < 1 - BORDER)).all(axis=(1, 2))
    blocking = np.concatenate([others, np.array(own[:-1]).reshape(-1, 2, 2)])
    if len(blocking):
        free &= (
            _distance(along.reshape(-1, 1, 2), blocking[None]).min(axis=1).reshape(TRIALS, -1).min(axis=1) > CLEARANCE
        )
    if not free.any():
        return None
    first = int(free.argmax())
    end = along[first, DASH_END]
    return np.stack([tip, end]), (end + steps[first] * GAP, float(headings[first]))


def _distance(points: Points, segments: Points) -> Points:
    """From points ``[P, 1, 2]`` to segments ``[1, S, 2, 2]``: ``[P, S]``."""
    start, along = segments[..., 0, :], segments[..., 1, :] - segments[..., 0, :]
    share = ((points - start) * along).sum(-1) / (along * along).sum(-1)
    return np.linalg.norm(points - start - np.clip(share, 0, 1)[..., None] * along, axis=-1)
