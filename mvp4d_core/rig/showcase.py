# SPDX-License-Identifier: Apache-2.0
"""The default performance: every part of the face moves once, so that a viewer can judge an avatar in a few seconds."""

import numpy as np

from .arkit import ARKIT_NAMES, JOINT_NAMES
from .arkit_map import perform_on
from .easing import ease
from .head_model import HeadModel
from .performance import Performance

# (time in beats, value) knots; one beat is a twelfth of the performance.
_TRACKS: dict[str, list[tuple[float, float]]] = {
    # speech-like syllables in the first four beats: jaw and lips alternate
    "jawOpen": [(0, 0), (0.3, 0.35), (0.6, 0.05), (0.9, 0.5), (1.3, 0.1), (1.7, 0.4), (2.0, 0.05), (2.4, 0.3), (2.8, 0.1), (3.2, 0.45),
                (3.7, 0), (8.6, 0), (9.0, 0.9), (9.5, 0.9), (10.0, 0)],
    "mouthFunnel": [(0.9, 0), (1.3, 0.55), (1.7, 0), (2.4, 0), (2.8, 0.5), (3.2, 0)],
    "mouthPucker": [(0.4, 0), (0.6, 0.5), (0.9, 0), (2.7, 0), (2.9, 0.45), (3.2, 0)],
    "mouthStretchLeft": [(1.5, 0), (1.8, 0.35), (2.2, 0)],
    "mouthStretchRight": [(1.5, 0), (1.8, 0.35), (2.2, 0)],
    "mouthUpperUpLeft": [(0.7, 0), (1.0, 0.25), (1.3, 0), (3.0, 0), (3.3, 0.25), (3.6, 0)],
    "mouthUpperUpRight": [(0.7, 0), (1.0, 0.25), (1.3, 0), (3.0, 0), (3.3, 0.25), (3.6, 0)],
    # blinks
    "eyeBlinkLeft": [(1.0, 0), (1.3, 1), (1.4, 1), (1.8, 0), (4.9, 0), (5.2, 1), (5.3, 1), (5.7, 0), (8.0, 0), (8.3, 1), (8.4, 1), (8.8, 0),
                     (11.0, 0), (11.3, 1), (11.45, 1), (11.8, 0)],
    "eyeBlinkRight": [(1.0, 0), (1.3, 1), (1.4, 1), (1.8, 0), (4.9, 0), (5.2, 1), (5.3, 1), (5.7, 0), (8.0, 0), (8.3, 1), (8.4, 1),
                      (8.8, 0)],
    # brows up, then down
    "browInnerUp": [(3.6, 0), (4.1, 0.9), (4.7, 0.9), (5.1, 0), (8.6, 0), (9.0, 0.5), (9.6, 0.5), (10, 0)],
    "browOuterUpLeft": [(3.6, 0), (4.1, 0.9), (4.7, 0.9), (5.1, 0)],
    "browOuterUpRight": [(3.6, 0), (4.1, 0.9), (4.7, 0.9), (5.1, 0)],
    "eyeWideLeft": [(3.7, 0), (4.2, 0.5), (4.7, 0)],
    "eyeWideRight": [(3.7, 0), (4.2, 0.5), (4.7, 0)],
    "browDownLeft": [(10.0, 0), (10.5, 0.8), (11.0, 0)],
    "browDownRight": [(10.0, 0), (10.5, 0.8), (11.0, 0)],
    "noseSneerLeft": [(10.1, 0), (10.5, 0.5), (10.9, 0)],
    "noseSneerRight": [(10.1, 0), (10.5, 0.5), (10.9, 0)],
    # a smile that grows, wider on the left
    "mouthSmileLeft": [(5.2, 0), (6.0, 0.9), (7.6, 0.9), (8.4, 0)],
    "mouthSmileRight": [(5.3, 0), (6.1, 0.75), (7.5, 0.75), (8.4, 0)],
    "cheekSquintLeft": [(5.3, 0), (6.1, 0.5), (7.5, 0.5), (8.2, 0)],
    "cheekSquintRight": [(5.3, 0), (6.1, 0.4), (7.5, 0.4), (8.2, 0)],
    "mouthDimpleLeft": [(5.4, 0), (6.2, 0.3), (7.5, 0.3), (8.2, 0)],
}  # fmt: skip
# (time in beats, (x, y, z) degrees): x nods down, y turns to the subject's left, z tilts to the subject's right shoulder
_EYES = [(0, (0, 0, 0)), (4.0, (0, 0, 0)), (4.3, (-8, 0, 0)), (5.2, (0, 0, 0)), (8.3, (0, 0, 0)), (8.6, (0, 18, 0)), (9.2, (0, 18, 0)),
         (9.6, (0, -18, 0)), (10.2, (0, -18, 0)), (10.6, (0, 0, 0)), (12, (0, 0, 0))]  # fmt: skip
_NECK = [(0, (0, 0, 0)), (1, (2, 3, 0)), (2, (-2, -3, 1)), (3, (3, 2, -1)), (4.2, (-5, 0, 0)), (5.2, (0, 0, 0)), (6.2, (2, 18, 4)),
         (7.2, (0, 18, 4)), (8.4, (0, -16, -3)), (9.2, (-2, -16, -3)), (10.5, (4, 0, 0)), (12, (0, 0, 0))]  # fmt: skip
BEATS = 12.0


def showcase_performance(model: HeadModel, *, fps: float = 24.0, seconds: float = 6.0) -> Performance:
    """Speech-like jaw and lips, blinks, brows, a smile, gaze and a head turn, starting and ending at rest.

    A head without ARKit's expressions, as FLAME, does what comes nearest on its own (see `perform_on`).
    """
    frames = max(2, round(fps * seconds))
    times = np.arange(frames) / (frames - 1) * BEATS
    expression = np.zeros((frames, len(ARKIT_NAMES)), np.float32)
    for name, knots in _TRACKS.items():
        expression[:, ARKIT_NAMES.index(name)] = ease(times, knots)
    rotations = np.zeros((frames, len(JOINT_NAMES), 3), np.float32)
    for joints, knots in ((("left_eye", "right_eye"), _EYES), (("neck",), _NECK)):
        degrees = np.stack([ease(times, [(t, v[axis]) for t, v in knots]) for axis in range(3)], axis=-1)
        for joint in joints:
            rotations[:, JOINT_NAMES.index(joint)] = np.deg2rad(degrees)
    return perform_on(Performance(expression, rotations, np.zeros((frames, 3), np.float32), fps, ARKIT_NAMES, JOINT_NAMES), model)
