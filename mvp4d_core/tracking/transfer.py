# SPDX-License-Identifier: Apache-2.0
"""A performance of one head on another, whatever their meshes and expressions: how the face points move is what both have in common.

The 478 points of the first head, its eyes looking ahead and its root and neck at rest, move away from its neutral face; the second head's
points are to move as far from its own neutral face, scaled by the size of the faces, and its expressions and jaw are fitted to that. Eyes,
neck and root turn as they did, joint by joint, and the translation puts the middles of the faces on the same place.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from ..rig import HeadModel, Performance, personalize, retarget, skin
from .adapters.imported_track import BLINKS, matrices, named_rotations, named_weights, rest_joints, turned
from .fit_vertices import fit_landmarks
from .landmark_sets import LANDMARKS, LEFT_IRIS, RIGHT_IRIS

POINTS = tuple(sorted(set(range(LANDMARKS)) - set(LEFT_IRIS) - set(RIGHT_IRIS)))
_NOISE = 5e-4  # metres


@dataclass(frozen=True)
class Transfer:
    """`performance` of the second head; `errors` and `motion` (T,) metres: how far its points end from where they should, in the mean, and
    how far they should have moved from the neutral face.
    """

    performance: Performance
    errors: np.ndarray
    motion: np.ndarray


def transfer_performance(
    performance: Performance,
    source: HeadModel,
    target: HeadModel,
    *,
    source_shape: np.ndarray | None = None,
    target_shape: np.ndarray | None = None,
    carry_blinks: bool = False,
    progress: Progress = silent,
) -> Transfer:
    """The performance of the head `source` on the head `target`.

    Args:
        source_shape, target_shape: (S,) whose heads; the mean faces where they are not given.
        carry_blinks: lids that `eyeBlinkLeft` and `eyeBlinkRight` close stay under these names, for files that have a place for them, even
            where the target has no such expressions, and do not count as motion.

    Raises:
        InputError: a head without the 478 points.
    """
    for head in (source, target):
        if len(head.landmark_faces) != LANDMARKS:
            raise InputError(
                f"A motion goes by {LANDMARKS} face points, and `{head.name}` has {len(head.landmark_faces)}. Import it again."
            )
    first, second = _person(source, source_shape), _person(target, target_shape)
    lids = named_weights(performance, BLINKS)
    carried = carry_blinks and not set(BLINKS) & set(target.expression_names) and bool(lids.any())
    played = retarget(_without(performance, BLINKS) if carried else performance, source)
    neutral, own = _neutral(first), _neutral(second)
    moved = np.stack([_points(first, weights, jaw) for weights, jaw in zip(played.expression, named_rotations(played, "jaw"), strict=True)])
    size = np.linalg.norm(own - own.mean(axis=0)) / np.linalg.norm(neutral - neutral.mean(axis=0))
    motion = size * (moved - neutral)
    fit = fit_landmarks(
        second, own + motion, shape=np.zeros(0), chosen=POINTS, fps=performance.fps, noise=_NOISE, rigid=False, progress=progress
    )
    weights = fit.performance.expression.copy()
    for column, name in enumerate(BLINKS):
        if name in target.expression_names and name not in source.expression_names:
            place = target.expression_names.index(name)
            weights[:, place] = np.maximum(weights[:, place], lids[:, column])
    rotations = fit.performance.rotations.copy()
    for name in ("root", "neck", "left_eye", "right_eye"):
        if name in target.joint_names:
            rotations[:, target.joint_names.index(name)] = named_rotations(played, name)
    turning = replace(fit.performance, expression=weights, rotations=rotations)
    translation = _placed(first, played, neutral.mean(axis=0)) - _placed(second, turning, own.mean(axis=0))
    names = target.expression_names
    if carried:
        weights, names = np.concatenate([weights, lids], axis=1), (*names, *BLINKS)
    result = Performance(weights, rotations, translation, performance.fps, names, target.joint_names)
    return Transfer(result, fit.errors, np.linalg.norm(motion, axis=2).mean(axis=1))


def _person(head: HeadModel, shape: np.ndarray | None) -> HeadModel:
    count = head.shapedirs.shape[2]
    full = np.zeros(count, np.float32)
    known = 0 if shape is None else min(count, len(shape))
    full[:known] = shape[:known] if shape is not None else 0
    return personalize(head, full, np.zeros_like(head.v_template))


def _without(performance: Performance, names: tuple[str, ...]) -> Performance:
    weights = performance.expression.copy()
    weights[:, [name in names for name in performance.expression_names]] = 0
    return replace(performance, expression=weights)


def _points(head: HeadModel, weights: np.ndarray, jaw: np.ndarray) -> np.ndarray:
    """(P, 3) the face points of an expression, all joints but the jaw at rest."""
    rotations = np.zeros((len(head.joint_names), 3))
    if "jaw" in head.joint_names:
        rotations[head.joint_names.index("jaw")] = jaw
    return head.landmarks(skin(head, None, weights.astype(np.float64), rotations, np.zeros(3)))[list(POINTS)]


def _neutral(head: HeadModel) -> np.ndarray:
    return _points(head, np.zeros(len(head.expression_names)), np.zeros(3))


def _placed(head: HeadModel, performance: Performance, point: np.ndarray) -> np.ndarray:
    """(T, 3) where root, neck and translation take a point of the head at rest."""
    joints = rest_joints(head, np.zeros(0), performance)
    place = np.broadcast_to(point, (len(performance), 3))
    for name in ("neck", "root"):
        if name in head.joint_names:
            joint = joints[:, head.joint_names.index(name)]
            place = turned(matrices(named_rotations(performance, name)), place - joint) + joint
    return place + performance.translation
