# SPDX-License-Identifier: Apache-2.0
"""Smoothing a recorded track in time without delay, and filling what was not seen."""

from itertools import pairwise

import numpy as np

_REACH = 3  # standard deviations in time that are looked at


def smooth_in_time(values: np.ndarray, frames: float, jump: float | np.ndarray) -> np.ndarray:
    """Means over neighbouring frames that differ little: trembling goes, and what moves by more than `jump` within a frame or two, as lids
    and lips do, stays (a bilateral filter in time; Tomasi and Manduchi 1998).

    Args:
        values: (T, C).
        frames: standard deviation of the mean in time, in frames.
        jump: how far values of one moment may lie apart, a number or one for each column (C,).
    """
    total, share = np.zeros_like(values, dtype=np.float64), np.zeros_like(values, dtype=np.float64)
    count = len(values)
    reach = min(int(np.ceil(_REACH * frames)), count - 1)
    # compared with a mean of three, or a frame that is off by itself would keep itself
    padded = np.pad(values, ((1, 1), (0, 0)), mode="edge")
    middle = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    for shift in range(-reach, reach + 1):
        here, there = slice(max(0, -shift), count - max(0, shift)), slice(max(0, shift), count - max(0, -shift))
        weight = np.exp(-0.5 * (shift / frames) ** 2 - 0.5 * ((middle[there] - middle[here]) / jump) ** 2)
        total[here] += weight * values[there]
        share[here] += weight
    return total / share


def filled(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(T, C) with straight lines through the frames that were not `seen` (T,) bool, and the nearest seen one at the ends."""
    known, times = np.nonzero(seen)[0], np.arange(len(values))
    return np.stack([np.interp(times, known, values[known, column]) for column in range(values.shape[1])], axis=1)


def shots(cuts: tuple[int, ...], frames: int) -> list[slice]:
    """The pieces between cuts, each the number of the first frame after one."""
    bounds = sorted({0, frames, *(cut for cut in cuts if 0 < cut < frames)})
    return [slice(first, last) for first, last in pairwise(bounds)]
