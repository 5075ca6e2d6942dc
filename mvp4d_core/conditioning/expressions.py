# SPDX-License-Identifier: Apache-2.0
"""Which frames an avatar is fitted to: those of a performance that differ most, so that teeth, lids and tongue are all seen.

A generator that draws each frame by itself takes them as they are; a video model wants motion, and gets them joined.
"""

import numpy as np

from ..errors import InputError
from ..rig import HeadModel, Performance, arkit_faces, perform_on

# Faces that between them open, close, stretch and turn everything once; expressions of different parts of the face share a frame.
_FACES: tuple[dict[str, float], ...] = (
    {},
    {"jawOpen": 1, "browInnerUp": 1, "browOuterUpLeft": 1, "browOuterUpRight": 1},
    {"eyeBlinkLeft": 1, "eyeBlinkRight": 1, "mouthPucker": 1},
    {"mouthSmileLeft": 1, "mouthSmileRight": 1, "eyeSquintLeft": 1, "eyeSquintRight": 1, "cheekSquintLeft": 1, "cheekSquintRight": 1},
    {"jawOpen": 0.5, "mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "eyeLookUpLeft": 1, "eyeLookUpRight": 1},
    {"mouthFrownLeft": 1, "mouthFrownRight": 1, "browDownLeft": 1, "browDownRight": 1, "noseSneerLeft": 1, "noseSneerRight": 1},
    {"jawOpen": 0.4, "mouthFunnel": 1, "eyeWideLeft": 1, "eyeWideRight": 1},
    {"mouthUpperUpLeft": 1, "mouthUpperUpRight": 1, "mouthLowerDownLeft": 1, "mouthLowerDownRight": 1, "eyeLookDownLeft": 1,
     "eyeLookDownRight": 1},
    {"jawLeft": 1, "mouthLeft": 1, "eyeLookOutLeft": 1, "eyeLookInRight": 1},
    {"jawRight": 1, "mouthRight": 1, "eyeLookInLeft": 1, "eyeLookOutRight": 1},
    {"mouthStretchLeft": 1, "mouthStretchRight": 1, "mouthShrugUpper": 0.6, "eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5},
    {"mouthRollLower": 1, "mouthRollUpper": 1, "cheekPuff": 1},
    {"jawForward": 1, "mouthShrugLower": 1, "eyeBlinkLeft": 1},
    {"mouthPressLeft": 1, "mouthPressRight": 1, "mouthDimpleLeft": 1, "mouthDimpleRight": 1, "eyeBlinkRight": 1},
    {"jawOpen": 0.7, "tongueOut": 1, "eyeBlinkLeft": 1, "eyeBlinkRight": 1},
)  # fmt: skip

_STRIDE = 4  # video frames a latent frame


def range_of_motion(model: HeadModel) -> Performance:
    """One frame for each of the faces above, or what comes nearest on a head without ARKit's expressions; neck and eyes stay at rest."""
    return perform_on(arkit_faces(_FACES), model)


def fitting_frames(performance: Performance, model: HeadModel, frames: int) -> Performance:
    """`frames` to fit an avatar to: each next one the farthest from those before, among the range of motion and then the performance.

    They come in the order of the range of motion, then in that of the performance; the first is the rest pose.
    """
    if not 1 <= frames <= 1000:
        raise InputError(f"`frames` must be 1 to 1000, got {frames}.")
    motion = range_of_motion(model)
    expression, rotations, translation = (
        np.concatenate([getattr(p, name) for p in (motion, performance)]) for name in ("expression", "rotations", "translation")
    )
    # a radian and a tenth of a metre count like expressions at full weight, or more
    features = np.concatenate([expression, 2 * rotations.reshape(len(rotations), -1), 10 * translation], axis=1)
    chosen = [0]
    distance = np.linalg.norm(features - features[0], axis=1)
    for _ in range(min(frames, len(features)) - 1):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
    order = np.sort(chosen)
    return Performance(expression[order], rotations[order], translation[order], performance.fps, model.expression_names, model.joint_names)


def fitting_motion(performance: Performance, model: HeadModel, frames: int) -> Performance:
    """The frames that differ most (see `fitting_frames`), a latent frame apart and joined by even motion, for a video model.

    `frames` is 1 + 4k: frame 0, 4, 8 and so on are the chosen ones, the three between two of them lead from one to the next.
    """
    if frames < 1 or frames % _STRIDE != 1:
        raise InputError(f"`frames` of a video model must be 1 + {_STRIDE}k (1, 5, 9, 13, ...), got {frames}.")
    chosen = fitting_frames(performance, model, 1 + frames // _STRIDE)
    count = 1 + (len(chosen) - 1) * _STRIDE
    at = np.arange(count) / _STRIDE
    before = np.minimum(at.astype(int), max(0, len(chosen) - 2))
    part = (at - before).astype(np.float32)

    def joined(values: np.ndarray) -> np.ndarray:
        weight = part.reshape(-1, *[1] * (values.ndim - 1))
        return (values[before] * (1 - weight) + values[np.minimum(before + 1, len(values) - 1)] * weight).astype(np.float32)

    expression, rotations, translation = (joined(values) for values in (chosen.expression, chosen.rotations, chosen.translation))
    return Performance(expression, rotations, translation, chosen.fps, chosen.expression_names, chosen.joint_names)
