# SPDX-License-Identifier: Apache-2.0
"""Fewer keys for the same motion: frames between which straight lines stay within a tolerance (Ramer 1972, Douglas and Peucker 1973)."""

import numpy as np

from ..errors import InputError


def kept_frames(values: np.ndarray, tolerance: float) -> np.ndarray:
    """The frames (K,) to key of curves `values` (T, C) that are keyed together, ascending, the first and the last among them.

    Between them no curve is further than `tolerance` (0 or more, in its units) from the straight line; curves that stay within it of their
    first value have one key.

    Raises:
        InputError: a tolerance below 0.
    """
    if not tolerance >= 0:
        raise InputError(f"`tolerance` must be 0 or more, got {tolerance}.")
    values = np.asarray(values, np.float64)
    last = len(values) - 1
    if np.abs(values - values[:1]).max(initial=0) <= tolerance:
        return np.zeros(1, int)
    kept = {0, last}
    pending = [(0, last)]
    while pending:
        first, end = pending.pop()
        if end - first < 2:
            continue
        part = np.arange(1, end - first)[:, None] / (end - first)
        line = values[first] + part * (values[end] - values[first])
        away = np.abs(values[first + 1 : end] - line).max(axis=1)
        worst = int(away.argmax())
        if away[worst] > tolerance:
            middle = first + 1 + worst
            kept.add(middle)
            pending += [(first, middle), (middle, end)]
    return np.array(sorted(kept))
