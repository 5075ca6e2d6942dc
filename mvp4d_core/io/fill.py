# SPDX-License-Identifier: Apache-2.0
"""Colours for the empty parts of a picture, from the nearest painted ones (push and pull over an image pyramid, Gortler et al. 1996)."""

import numpy as np


def fill_holes(painted: np.ndarray, weights: np.ndarray, faint: float) -> np.ndarray:
    """Colours (H, W, 3) float32 everywhere.

    Args:
        painted: (H, W, 3) colour times weight.
        weights: (H, W), 0 where nothing is painted.
        faint: weight of the surrounding colours; texels of much larger weight keep their own.
    """
    return _filled(np.concatenate([painted, weights[..., None]], axis=-1).astype(np.float32), np.float32(faint))


def stretch(picture: np.ndarray) -> np.ndarray:
    """(H, W, C) at twice its size, by linear interpolation between the centres of texels."""
    for axis in (0, 1):
        count = picture.shape[axis]
        padded = np.concatenate([picture.take([0], axis), picture, picture.take([-1], axis)], axis)
        middle, before, after = (padded.take(range(start, start + count), axis) for start in (1, 0, 2))
        pair = np.stack([0.75 * middle + 0.25 * before, 0.75 * middle + 0.25 * after], axis + 1)
        picture = pair.reshape(*picture.shape[:axis], 2 * count, *picture.shape[axis + 1 :])
    return picture


def _filled(sums: np.ndarray, faint: np.float32) -> np.ndarray:
    """(H, W, 4) sums of weighted colour and of weight as (H, W, 3)."""
    height, width = sums.shape[:2]
    if height == width == 1:
        return sums[..., :3] / np.maximum(sums[..., 3:], np.float32(1e-12))
    even = np.pad(sums, ((0, height % 2), (0, width % 2), (0, 0)))
    halves = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    around = stretch(_filled(halves, faint))[:height, :width]
    return (sums[..., :3] + faint * around) / (sums[..., 3:] + faint)
