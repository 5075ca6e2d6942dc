# SPDX-License-Identifier: Apache-2.0
"""A performance of one head on another, whatever their meshes and expressions: how the face points move is what both have in common.

The face goes by `convert_performance`, with eyes that look ahead. Eyes, neck and root turn as they did, joint by joint, and the translation
puts the middles of the faces on the same place.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from ..rig import HeadModel, Performance, convert_performance, personalize, retarget
from ..tracks.imported_track import BLINKS, matrices, named_rotations, named_weights, rest_joints, turned
from .landmark_sets import LANDMARKS, LEFT_IRIS, RIGHT_IRIS

POINTS = tuple(sorted(set(range(LANDMARKS)) - set(LEFT_IRIS) - set(RIGHT_IRIS)))
_EYES = ("left_eye", "right_eye")


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
    ahead = np.isin(played.joint_names, _EYES)[:, None]
    fit = convert_performance(
        replace(played, rotations=np.where(ahead, np.float32(0), played.rotations)),
        first,
        second,
        () if "jawOpen" in target.expression_names else ("jaw",),
        progress,
    )
    weights = fit.performance.expression.copy()
    for column, name in enumerate(BLINKS):
        if name in target.expression_names and name not in source.expression_names:
            place = target.expression_names.index(name)
            weights[:, place] = np.maximum(weights[:, place], lids[:, column])
    rotations = fit.performance.rotations.copy()
    for name in _EYES:
        if name in target.joint_names:
            rotations[:, target.joint_names.index(name)] = named_rotations(played, name)
    turning = replace(fit.performance, expression=weights, rotations=rotations, translation=np.zeros_like(played.translation))
    translation = _placed(first, played) - _placed(second, turning)
    names = target.expression_names
    if carried:
        weights, names = np.concatenate([weights, lids], axis=1), (*names, *BLINKS)
    result = Performance(weights, rotations, translation, performance.fps, names, target.joint_names)
    errors, motion = (np.linalg.norm(values[:, list(POINTS)], axis=2).mean(axis=1) for values in (fit.missed, fit.motion))
    return Transfer(result, errors, motion)


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


def _placed(head: HeadModel, performance: Performance) -> np.ndarray:
    """(T, 3) where root, neck and translation take the middle of the face at rest."""
    joints = rest_joints(head, np.zeros(0), performance)
    middle = head.landmarks(head.v_template + head.static_offsets)[list(POINTS)].mean(axis=0)
    place = np.broadcast_to(middle, (len(performance), 3))
    for name in ("neck", "root"):
        if name in head.joint_names:
            joint = joints[:, head.joint_names.index(name)]
            place = turned(matrices(named_rotations(performance, name)), place - joint) + joint
    return place + performance.translation
