# SPDX-License-Identifier: Apache-2.0
"""Curves through knots, eased in and out, as animators draw them."""

from collections.abc import Sequence

import numpy as np


def ease(times: np.ndarray, knots: Sequence[tuple[float, float]]) -> np.ndarray:
    """Values at `times` (T,): smoothstep between the knots (time, value), held outside them; knots come in the order of time."""
    at, values = (np.array(column, dtype=np.float64) for column in zip(*knots, strict=True))
    if len(at) == 1:
        return np.full(len(times), values[0])
    segment = np.clip(np.searchsorted(at, times, side="right") - 1, 0, len(at) - 2)
    part = np.clip((times - at[segment]) / (at[segment + 1] - at[segment]), 0, 1)
    part = part * part * (3 - 2 * part)
    return values[segment] + (values[segment + 1] - values[segment]) * part
