# SPDX-License-Identifier: Apache-2.0
"""How a head's landmarks move: the skinning of `skin` for the landmarks alone, many frames at once.

A fit sets *controls*: all expressions of a head, and the axes of some of its joints.
"""

from dataclasses import dataclass

import numpy as np

from ..rotations import axis_angle_to_matrix
from .head_model import HeadModel
from .motion_limits import expression_limits, rotation_limits
from .skinning import pose_features

_AXES = "xyz"
_STEP = 0.05  # radians either way for the slope of a joint's axis
_CHUNK = 256  # frames at once, which bounds the memory
# how far a control commonly goes: the prior of the fits
_WEIGHT_SCALE, _DEVIATION_SCALE, _JOINT_SCALE = 0.5, 1.0, 0.25


@dataclass(frozen=True)
class LandmarkRig:
    """The n corners of the triangles that carry a head's L landmarks, float64 throughout.

    Attributes:
        rest: (n, 3); `directions` (n * 3, E); `correctives` (n * 3, P); `offsets` (n, 3); `weights` (n, J).
        joints: (J, 3) at rest; `joint_directions` (J * 3, E); `parents` (J,).
        corners: (L, 3) indices of corners; `barycentrics` (L, 3).
    """

    rest: np.ndarray
    directions: np.ndarray
    correctives: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    joints: np.ndarray
    joint_directions: np.ndarray
    parents: np.ndarray
    corners: np.ndarray
    barycentrics: np.ndarray


@dataclass(frozen=True)
class Controls:
    """M numbers that a fit may set: the E expressions, then `axes`, pairs of a joint and an axis; with scale (M,) and bounds (M,)."""

    names: tuple[str, ...]
    axes: tuple[tuple[int, int], ...]
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray


def landmark_rig(model: HeadModel) -> LandmarkRig:
    """What of `model` moves its landmarks."""
    ids, corners = np.unique(model.faces[model.landmark_faces], return_inverse=True)
    regressor = model.J_regressor.astype(np.float64)
    expressions = model.exprdirs.shape[2]
    by_joint = np.tensordot(regressor, model.exprdirs.astype(np.float64), axes=1)
    return LandmarkRig(
        rest=model.v_template[ids].astype(np.float64),
        directions=model.exprdirs[ids].reshape(len(ids) * 3, expressions).astype(np.float64),
        correctives=model.posedirs[ids].reshape(len(ids) * 3, model.posedirs.shape[2]).astype(np.float64),
        offsets=model.static_offsets[ids].astype(np.float64),
        weights=model.lbs_weights[ids].astype(np.float64),
        joints=regressor @ model.v_template.astype(np.float64),
        joint_directions=by_joint.reshape(len(regressor) * 3, expressions),
        parents=model.parents,
        corners=corners.reshape(-1, 3),
        barycentrics=model.landmark_barycentrics.astype(np.float64),
    )


def landmark_positions(rig: LandmarkRig, expression: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """(T, L, 3) metres: landmarks of the frames `expression` (T, E) and `rotations` (T, J, 3) axis-angle radians, as `skin` has them."""
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(expression), _CHUNK)]
    expression, rotations = np.asarray(expression, np.float64), np.asarray(rotations, np.float64)
    return np.concatenate([_positions(rig, expression[chunk], rotations[chunk]) for chunk in chunks])


def _positions(rig: LandmarkRig, expression: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    frames = len(expression)
    matrices = axis_angle_to_matrix(rotations)
    shaped = rig.rest + (expression @ rig.directions.T).reshape(frames, -1, 3)
    joints = rig.joints + (expression @ rig.joint_directions.T).reshape(frames, -1, 3)
    posed = shaped + rig.offsets + (pose_features(matrices) @ rig.correctives.T).reshape(frames, -1, 3)
    turns, shifts = np.zeros_like(matrices), np.zeros_like(joints)
    for j, parent in enumerate(rig.parents):
        shift = joints[:, j] - np.einsum("tab,tb->ta", matrices[:, j], joints[:, j])  # turns about the rest joint
        if parent < 0:
            turns[:, j], shifts[:, j] = matrices[:, j], shift
        else:
            turns[:, j] = turns[:, parent] @ matrices[:, j]
            shifts[:, j] = np.einsum("tab,tb->ta", turns[:, parent], shift) + shifts[:, parent]
    vertices = np.einsum("nj,tjab,tnb->tna", rig.weights, turns, posed, optimize=True) + rig.weights @ shifts
    return np.einsum("lk,tlkd->tld", rig.barycentrics, vertices[:, rig.corners])


def controls_of(model: HeadModel, joints: tuple[str, ...]) -> Controls:
    """All expressions of a head and the axes of the named joints, those that it has; an eye has no roll."""
    axes = tuple((model.joint_names.index(name), axis) for name in joints if name in model.joint_names
                 for axis in range(2 if "eye" in name else 3))  # fmt: skip
    weights = expression_limits(model.expression_names)
    angles = rotation_limits(model.joint_names)
    turns = np.array([angles[axis] for axis in axes]).reshape(-1, 2)
    scale = np.where(weights[:, 0] < 0, _DEVIATION_SCALE, _WEIGHT_SCALE)
    bounds = np.concatenate([weights, turns])
    return Controls(
        names=model.expression_names + tuple(f"{model.joint_names[joint]}.{_AXES[axis]}" for joint, axis in axes),
        axes=axes,
        scale=np.concatenate([scale, np.full(len(axes), _JOINT_SCALE)]),
        low=bounds[:, 0],
        high=bounds[:, 1],
    )


def unpacked(controls: Controls, values: np.ndarray, joints: int) -> tuple[np.ndarray, np.ndarray]:
    """`values` (T, M) as expression (T, E) and rotations (T, `joints`, 3), zero where nothing is controlled."""
    expressions = values.shape[1] - len(controls.axes)
    rotations = np.zeros((len(values), joints, 3))
    for column, (joint, axis) in enumerate(controls.axes, start=expressions):
        rotations[:, joint, axis] = values[:, column]
    return values[:, :expressions], rotations


def landmark_basis(rig: LandmarkRig, controls: Controls) -> np.ndarray:
    """(L * 3, M) metres a unit of each control at rest: exact for expressions, a central difference for axes of joints."""
    size = len(controls.names)
    steps = np.concatenate([np.eye(size), -np.eye(size)]) * _STEP
    plus, minus = np.split(landmark_positions(rig, *unpacked(controls, steps, len(rig.parents))), 2)
    return ((plus - minus) / (2 * _STEP)).reshape(size, -1).T
