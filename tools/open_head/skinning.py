# SPDX-License-Identifier: Apache-2.0
"""Joints, skinning weights and pose correctives of the open head. Metres, head space (origin midway between the ears)."""

import numpy as np

from mvp4d_core.rig.skinning import joint_transforms, pose_features
from mvp4d_core.rotations import axis_angle_to_matrix, matrix_to_quaternion, multiply_quaternions

from .geometry import EQUATOR_RINGS, Layout, eye_ring
from .mesh_fields import smoothed, smoothstep

JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
PARENTS = np.array([-1, 0, 1, 1, 1], dtype=np.int32)
ROOT_JOINT = np.array([0.0, -0.115, -0.030])  # base of the neck, in front of the seventh cervical vertebra
NECK_JOINT = np.array([0.0, -0.022, -0.006])  # between atlas and skull
JAW_JOINT = np.array([0.0, -0.006, 0.014])  # midway between the joints of the jaw, just in front of the ear openings

# the head turns with the neck joint above a plane that rises from throat to nape, and not at all below a second one: (y, dy/dz)
HEAD_PLANE = (-0.062, -0.45)
SHOULDER_PLANE = (-0.132, -0.25)
# the floor of the mouth, which is fixed to the jaw: below, in front of, between and behind these (metres; none of it, all of it)
FLOOR_Y, FLOOR_Z, FLOOR_X = (-0.041, -0.049), (0.005, 0.035), (0.041, 0.031)
FLOOR_LIPS = (0.090, 0.082)
JAW_ANGLE = np.radians(24.0)  # how far `jawOpen` turns the jaw


def jaw_rotation(points: np.ndarray, angle: float = JAW_ANGLE) -> np.ndarray:
    """Displacements (V,3) of points (V,3) that turn about the jaw joint by `angle` downwards."""
    matrix = axis_angle_to_matrix(np.array([angle, 0.0, 0.0]))
    return (points - JAW_JOINT) @ (matrix - np.eye(3)).T


def jaw_weights(layout: Layout, template: np.ndarray, cavity: np.ndarray, mouth_open: np.ndarray) -> np.ndarray:
    """(V,) how much each vertex follows the jaw.

    On the skin it is the share of a rigid turn that MakeHuman's `mouth-open` unit makes there, spread smoothly; lower teeth, the floor
    of the mouth `cavity` (ids) around them and the front of the tongue follow fully.
    """
    rigid = jaw_rotation(template)
    share = np.sum(rigid * mouth_open, 1) / (np.sum(rigid**2, 1) + 0.004**2)
    weights = smoothstep(share, 0.0, 0.78)
    x, y, z = template[cavity].T
    floor = smoothstep(y, *FLOOR_Y) * smoothstep(z, *FLOOR_Z) * smoothstep(np.abs(x), *FLOOR_X) * smoothstep(z, *FLOOR_LIPS)
    weights[cavity] = np.maximum(weights[cavity], floor)
    weights = smoothed(weights, layout.faces, 4)
    weights = weights * smoothstep(template[:, 2], 0.0, 0.035)  # nothing at the ears and behind them
    weights[layout.parts["upper_teeth"]] = 0.0
    weights[layout.parts["lower_teeth"]] = 1.0
    weights[layout.parts["tongue"]] = smoothstep(template[layout.parts["tongue"], 2], 0.005, 0.045)  # its root stays in the throat
    for part in ("left_eyeball", "right_eyeball"):
        weights[layout.parts[part]] = 0.0
    return (weights + weights[layout.mirror]) / 2


def skinning_weights(layout: Layout, template: np.ndarray, jaw: np.ndarray) -> np.ndarray:
    """(V,5) weights that sum to 1."""
    y, z = template[:, 1], template[:, 2]
    upper = y - (HEAD_PLANE[0] + HEAD_PLANE[1] * z)
    lower = y - (SHOULDER_PLANE[0] + SHOULDER_PLANE[1] * z)
    head = smoothed(smoothstep(lower / (lower - upper + 1e-9), 0.0, 1.0), layout.faces, 4)
    head[upper >= 0] = np.maximum(head, 0.999)[upper >= 0]
    head = np.where(head > 0.995, 1.0, np.where(head < 0.005, 0.0, head))
    for part, ids in layout.parts.items():
        if part != "skin":
            head[ids] = 1.0
    weights = np.stack([1 - head, head * (1 - jaw), head * jaw, np.zeros_like(jaw), np.zeros_like(jaw)], 1)
    for joint, part in ((3, "left_eyeball"), (4, "right_eyeball")):
        weights[layout.parts[part]] = np.eye(5)[joint]
    weights = (weights + weights[layout.mirror][:, [0, 1, 2, 4, 3]]) / 2
    return weights / weights.sum(1, keepdims=True)


def joint_regressor(layout: Layout, template: np.ndarray, still: np.ndarray) -> np.ndarray:
    """(5,V) affine weights (rows sum to 1) that give the joints.

    Root, neck and jaw are the least-norm combinations of the `still` vertices (V,) bool, which no expression moves, around them; an eye
    is the mean of two rings of its ball that mirror each other at the equator, which is its centre for every pose of the ball.
    """
    regressor = np.zeros((5, len(template)))
    reach = {0: 0.05, 1: 0.045, 2: 0.06}
    for joint, target in enumerate((ROOT_JOINT, NECK_JOINT, JAW_JOINT)):
        off = np.abs(template - target)
        ids = np.flatnonzero(still & (off[:, 1] < reach[joint]) & (off[:, 2] < 0.11 if joint < 2 else off[:, 2] < 0.03))
        constraint = np.concatenate([template[ids].T, np.ones((1, len(ids)))])
        wanted = np.concatenate([target, [1.0]])
        regressor[joint, ids] = np.linalg.lstsq(constraint, wanted, rcond=None)[0]
    regressor[:3] = (regressor[:3] + regressor[:3, layout.mirror]) / 2
    for joint, part in ((3, "left_eyeball"), (4, "right_eyeball")):
        ids = layout.parts[part][np.concatenate([eye_ring(k) for k in EQUATOR_RINGS])]
        regressor[joint, ids] = 1 / len(ids)
    return regressor


def pose_correctives(template: np.ndarray, joints: np.ndarray, weights: np.ndarray, samples: int = 160, seed: int = 7) -> np.ndarray:
    """(V,3,36) correctives that bring linear blend skinning to dual-quaternion skinning, which keeps the neck's and jaw's volume.

    Random turns of neck and jaw are skinned both ways; what dual quaternions (Kavan et al. 2008) place elsewhere is taken back to the
    rest pose and regressed, with a small ridge, on FLAME's features R - I of the two joints.
    """
    rng = np.random.default_rng(seed)
    rotations = np.zeros((samples, 5, 3))
    rotations[:, 1] = rng.normal(0, np.radians([20, 25, 13]), (samples, 3))
    rotations[:, 2] = np.stack(
        [rng.uniform(np.radians(-2), np.radians(30), samples), rng.normal(0, np.radians(4), samples), np.zeros(samples)], 1
    )
    active = np.flatnonzero(weights[:, :3].max(1) < 1 - 1e-6)
    features, targets = [], []
    for rotation in rotations:
        matrices = axis_angle_to_matrix(rotation)
        transforms = joint_transforms(joints, PARENTS, matrices)
        blended = np.tensordot(weights[active], transforms, axes=1)
        posed = dual_quaternion_skin(template[active], transforms, weights[active])
        rest = np.linalg.solve(blended[:, :3, :3], (posed - blended[:, :3, 3])[..., None])[..., 0]
        features.append(pose_features(matrices)[:18])
        targets.append((rest - template[active]).reshape(-1))
    features, targets = np.stack(features), np.stack(targets)
    ridge = 1e-3 * samples * np.eye(18) * np.mean(features**2)
    solution = np.linalg.solve(features.T @ features + ridge, features.T @ targets)
    correctives = np.zeros((len(template), 3, 36))
    correctives[active, :, :18] = solution.T.reshape(len(active), 3, 18)
    return correctives


def dual_quaternion_skin(points: np.ndarray, transforms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Points (V,3) moved by joints' rigid `transforms` (J,4,4), blended as dual quaternions by `weights` (V,J)."""
    real = matrix_to_quaternion(transforms[:, :3, :3])
    real *= np.where(real @ real[0] < 0, -1.0, 1.0)[:, None]
    shift = np.concatenate([np.zeros((len(real), 1)), transforms[:, :3, 3]], 1)
    dual = 0.5 * multiply_quaternions(shift, real)
    real, dual = weights @ real, weights @ dual
    length = np.linalg.norm(real, axis=1, keepdims=True)
    real, dual = real / length, dual / length
    conjugate = real * [1, -1, -1, -1]
    pure = np.concatenate([np.zeros((len(points), 1)), points], 1)
    turned = multiply_quaternions(multiply_quaternions(real, pure), conjugate)
    return turned[:, 1:] + 2 * multiply_quaternions(dual, conjugate)[:, 1:]
