# SPDX-License-Identifier: Apache-2.0
"""A face set by hand: ARKit's sliders, the head's attitude and the gaze as a performance."""

from collections.abc import Mapping

import numpy as np

from ..errors import InputError
from .arkit import ARKIT_NAMES
from .live_link import JOINT_NAMES, yaw_pitch_roll_to_axis_angle
from .motion_limits import limit_performance
from .performance import Performance
from .performance_edit import MOST_FRAMES, layer


def slider_performance(
    weights: Mapping[str, float],
    *,
    head: tuple[float, float, float] = (0.0, 0.0, 0.0),
    gaze: tuple[float, float] = (0.0, 0.0),
    frames: int = 1,
    fps: float = 24.0,
    base: Performance | None = None,
) -> Performance:
    """A face that is held, or that is laid over a performance.

    Args:
        weights: by ARKit's names; those left out are 0.
        head: degrees of yaw to the subject's left, pitch upwards, roll to the subject's right shoulder.
        gaze: degrees to the subject's left and upwards.
        frames: how long it is held; without meaning where there is a base.
        base: what it is added to, and whose length and frame rate it takes; the sum stays within what faces can do.

    Raises:
        InputError: a name that is not ARKit's, or numbers that are not finite.
    """
    strange = sorted(set(weights) - set(ARKIT_NAMES))
    if strange or not 1 <= frames <= MOST_FRAMES:
        what = f"the slider `{strange[0]}`" if strange else f"{frames} frames"
        raise InputError(f"A face is set by ARKit's 52 sliders for 1 to {MOST_FRAMES:,} frames, got {what}.")
    expression = np.array([weights.get(name, 0.0) for name in ARKIT_NAMES])
    rotations = np.zeros((len(JOINT_NAMES), 3))
    rotations[JOINT_NAMES.index("neck")] = yaw_pitch_roll_to_axis_angle(np.deg2rad(head))
    left, up = np.deg2rad(gaze)
    for eye in ("left_eye", "right_eye"):
        rotations[JOINT_NAMES.index(eye)] = yaw_pitch_roll_to_axis_angle(np.array([left, up, 0.0]))
    count = 1 if base is not None else frames
    face = Performance(
        np.tile(expression, (count, 1)), np.tile(rotations, (count, 1, 1)), np.zeros((count, 3)), fps, ARKIT_NAMES, JOINT_NAMES
    )
    return face if base is None else limit_performance(layer(base, face))
