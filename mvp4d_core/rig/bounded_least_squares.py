# SPDX-License-Identifier: Apache-2.0
"""Least squares with limits on each unknown: the one solver under every fit of a head's controls."""

import numpy as np

_CHUNK = 256  # rows at once, which bounds the memory
_PATIENCE = 3  # rounds in which no fewer unknowns are wrong, before they change side one by one
_ROUNDS = 200  # a last stop for values on a limit to the last bit, for which both sides are right


def bounded_least_squares(
    normal: np.ndarray, right: np.ndarray, low: np.ndarray, high: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    """(T, M) minima of x normal x / 2 - right x with low <= x <= high, one a row of `right` (T, M); `normal` (M, M) positive definite.

    Block principal pivoting (Portugal, Judice and Vicente 1994) on all rows at once: whichever unknowns are beyond a limit, or held at one
    that they would leave, change side together, and one by one where that goes in circles, which ends at the minimum. Where `start` (T, M)
    lies on limits the search begins there: the better the guess, the fewer rounds.
    """
    below, above = (np.zeros(right.shape, bool),) * 2 if start is None else (start <= low, start >= high)
    scale = 1 / np.sqrt(np.diag(normal))  # unknowns differ by orders of magnitude: radians, metres, weights
    even, box = normal * scale * scale[:, None], (low / scale, high / scale)
    chunks = [slice(first, first + _CHUNK) for first in range(0, len(right), _CHUNK)]
    found = [_bounded(even, right[chunk] * scale, *box, below[chunk].copy(), above[chunk].copy()) for chunk in chunks]
    return np.clip(np.concatenate(found) * scale, low, high)


def _bounded(normal: np.ndarray, right: np.ndarray, low: np.ndarray, high: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """As `bounded_least_squares`, of a matrix whose diagonal is 1, from what is held `below` and `above` (T, M)."""
    values, identity, size = np.zeros(right.shape), np.eye(len(normal)), len(normal)
    fewest, patience = np.full(len(right), size + 1), np.full(len(right), _PATIENCE)
    rows = np.arange(len(right))
    for _ in range(_ROUNDS):
        lows, highs = below[rows], above[rows]
        free = ~(lows | highs)
        fixed = np.where(lows, low, 0) + np.where(highs, high, 0)
        matrices = np.where(free[:, :, None] & free[:, None, :], normal, identity)
        wanted = np.where(free, right[rows] - fixed @ normal, fixed)
        found = np.linalg.solve(matrices, wanted[..., None])[..., 0]
        pull = right[rows] - found @ normal  # towards where each value would go
        wrong = np.where(free, (found < low) | (found > high), np.where(lows, pull > 0, pull < 0))
        values[rows], count = found, wrong.sum(axis=1)
        if not count.any():
            break
        patience[rows] = np.where(count < fewest[rows], _PATIENCE, patience[rows] - 1)
        fewest[rows] = np.minimum(count, fewest[rows])
        last = size - 1 - wrong[:, ::-1].argmax(axis=1)
        changing = wrong & ((patience[rows] >= 0)[:, None] | (np.arange(size) == last[:, None]))
        below[rows] = np.where(changing, free & (found < low), lows)
        above[rows] = np.where(changing, free & (found > high), highs)
        rows = rows[count > 0]
    return values
