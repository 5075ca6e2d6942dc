# SPDX-License-Identifier: Apache-2.0
"""How far a face can go: bounds of expressions and joints, and a performance kept within them.

ARKit's weights lie in 0..1. Directions of other heads (FLAME's) are in standard deviations. The angles are those that people reach without
effort (Kapandji's ranges of the cervical spine and of the jaw, rounded; eyes by the resting range of gaze), in head space: x nods down,
y turns to the subject's left, z tilts to the subject's right shoulder.
"""

from dataclasses import replace

import numpy as np

from .arkit import ARKIT_NAMES
from .performance import Performance

STANDARD_DEVIATIONS = 4.0
# joint -> ((low, high) degrees around x, y, z); joints that are not named are free
_DEGREES: dict[str, tuple[tuple[float, float], ...]] = {
    "neck": ((-50, 45), (-70, 70), (-40, 40)),
    "jaw": ((-4, 34), (-12, 12), (-6, 6)),
    "left_eye": ((-28, 32), (-42, 42), (-8, 8)),
    "right_eye": ((-28, 32), (-42, 42), (-8, 8)),
}


def expression_limits(names: tuple[str, ...]) -> np.ndarray:
    """(E, 2) lowest and highest weight: 0 and 1 of ARKit's names, four standard deviations either way of all others."""
    arkit = np.isin(names, ARKIT_NAMES)[:, None] if names else np.zeros((0, 1), bool)
    return np.where(arkit, [[0.0, 1.0]], [[-STANDARD_DEVIATIONS, STANDARD_DEVIATIONS]])


def rotation_limits(joint_names: tuple[str, ...]) -> np.ndarray:
    """(J, 3, 2) lowest and highest radians around x, y, z; plus and minus pi for joints that are free."""
    free = ((-180.0, 180.0),) * 3
    return np.deg2rad(np.array([_DEGREES.get(name, free) for name in joint_names]).reshape(-1, 3, 2))


def limit_performance(performance: Performance) -> Performance:
    """The performance with every weight and angle within the limits, and lips that close no farther than the jaw is open."""
    low, high = expression_limits(performance.expression_names).T
    expression = np.clip(performance.expression, low, high)
    names = performance.expression_names
    if "mouthClose" in names and "jawOpen" in names:
        close = names.index("mouthClose")
        expression[:, close] = np.minimum(expression[:, close], expression[:, names.index("jawOpen")])
    bounds = rotation_limits(performance.joint_names)
    return replace(performance, expression=expression, rotations=np.clip(performance.rotations, bounds[..., 0], bounds[..., 1]))
