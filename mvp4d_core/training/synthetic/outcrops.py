# SPDX-License-Identifier: Apache-2.0
"""Pictures that end within the crop: portraits cut the neck, the hair or a shoulder off, and the crop around the head reaches beyond."""

import numpy as np

# shares and depths are this project's own choice
SIDES = {"bottom": 0.45, "top": 0.25, "left": 0.15, "right": 0.15}  # how often a picture ends there
SECOND = 0.35  # how often it ends at another side too
DEPTHS = (0.04, 0.3)  # of the crop's side, what lies beyond the picture


def random_window(rng: np.random.Generator, size: int, share: float) -> np.ndarray:
    """(size, size) float32: which part of each pixel of a crop lies within its picture.

    All of every pixel, but for a `share` of the draws, 0..1, in which the picture ends before one or two sides of the crop.
    """
    cut, two = rng.random(2) < (share, SECOND)
    sides = rng.choice(list(SIDES), 2, replace=False, p=list(SIDES.values()))
    depths = dict(zip(sides[: 1 + two] if cut else (), rng.uniform(*DEPTHS, 2) * size, strict=False))
    columns = _covered(size, depths.get("left", 0.0), size - depths.get("right", 0.0))
    rows = _covered(size, depths.get("top", 0.0), size - depths.get("bottom", 0.0))
    return rows[:, None] * columns


def _covered(size: int, low: float, high: float) -> np.ndarray:
    """(size,) float32: which part of each pixel lies between `low` and `high`, pixels from the crop's corner."""
    start = np.arange(size)
    return np.clip(np.minimum(start + 1, high) - np.maximum(start, low), 0, 1).astype(np.float32)
