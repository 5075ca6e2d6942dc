# SPDX-License-Identifier: Apache-2.0
"""Expression, gaze and pose of one known face from its 478 points, in milliseconds: what a video asks for each of its frames.

The landmarks of a head are linear in its blend weights but for the few joints that turn, and with the skinning weights folded into them
once (`face_rig`) a frame costs no vertex. Gauss-Newton on the pixels; each step is a quadratic problem with box limits, of which the six
numbers of the pose are eliminated and the rest solved by coordinate descent, where the sparse prior, linear because weights are never
negative, is exact.

A detector's points are not wrong each by itself: whole lids, brows and mouths lie off together, and some by as much as the face moves.
What it does so (`detector_habits`) was measured on rendered faces whose points are known, and is part of the model: a mean, what it makes
of each expression, and modes that are unknowns of each frame, eliminated with the pose.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..render.jit import kernel
from ..rig import ARKIT_NAMES, HeadModel
from ..rotations import axis_angle_to_matrix
from . import landmark_sets as sets
from .detector_habits import DetectorHabits, load_habits
from .fit import OUTLIER, face_scale, turning_joints, turns

_GAZE_SIGMA = np.radians(15)
_FREE = 6  # rotation and translation have no limits


@dataclass(frozen=True)
class SolverSettings:
    """What the solver believes before it looks.

    Attributes:
        noise: of the landmarks, as a factor of what was measured.
        sparse: how much a weight of 1 costs (linear).
        sigma: standard deviation of a weight beside that.
        steps: Gauss-Newton steps a frame.
    """

    noise: float = 3.0
    sparse: float = 9.0
    sigma: float = 1.0
    steps: int = 3


@dataclass(frozen=True)
class FaceRig:
    """The L landmarks of a head as exact functions of K blend weights and of the angles of M joints.

    Attributes:
        base, basis: (L, 3) metres and (L, 3, K).
        normals: (L, 3), outward, of the face at rest.
        turned: for each joint the landmarks it moves, and of these the weighted offsets from it (n, 3), their derivatives (n, 3, K), and
            the correctives (n, 3, 9).
        mean, modes, gain: (L, 2), (L, 2, H) and (L, 2, K), the detector's habits in the face's axes, in distances between the eyes.
        noise: (L,), of each landmark beside them, in the same unit.
        low, high: (K + 2 M,) limits; inverse_sigma: (K + 2 M,); sparse: (K + 2 M,) 1 where the linear prior holds.
        identities: I, how many of the K are a person's own and come first.
    """

    base: np.ndarray
    basis: np.ndarray
    normals: np.ndarray
    joint_names: tuple[str, ...]
    turned: tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], ...]
    mean: np.ndarray
    modes: np.ndarray
    gain: np.ndarray
    noise: np.ndarray
    low: np.ndarray
    high: np.ndarray
    inverse_sigma: np.ndarray
    sparse: np.ndarray
    identities: int


@dataclass(frozen=True)
class FacePose:
    """`rotation` (3, 3) and `translation` (3,) metres of the head in the camera, `weights` (K,), `angles` (M, 2) pitch and yaw,
    `habits` (H,) how strong the detector's modes are.
    """

    rotation: np.ndarray
    translation: np.ndarray
    weights: np.ndarray
    angles: np.ndarray
    habits: np.ndarray


def face_rig(model: HeadModel, settings: SolverSettings, habits: DetectorHabits | None = None) -> FaceRig:
    """The rig with its I identity directions, those of the head and the detector's own with people, before its E expressions.

    Identity weights have a standard deviation of 1 and limits of 4.
    """
    habits = habits or load_habits()
    shapes, own = len(model.shape_names), habits.own_modes.shape[2]
    corners = model.faces[model.landmark_faces]
    share = model.landmark_barycentrics.astype(np.float64)
    flat = np.zeros((*model.v_template.shape, own))
    basis = np.concatenate([model.shapedirs, flat, model.exprdirs], axis=2).astype(np.float64)

    def at_points(values: np.ndarray) -> np.ndarray:
        return np.einsum("lk,lk...->l...", share, values[corners])

    rest = (model.v_template + model.static_offsets).astype(np.float64)
    joints = turning_joints(model)
    turned = []
    for name, *_ in joints:
        joint = model.joint_names.index(name)
        weights = model.lbs_weights[:, joint].astype(np.float64)
        moved = np.nonzero(at_points(weights) > 1e-4)[0]
        regressor = model.J_regressor[joint].astype(np.float64)
        offsets = at_points(weights[:, None] * (rest - regressor @ model.v_template))[moved]
        by_weight = weights[:, None, None] * (basis - np.einsum("v,vdk->dk", regressor, basis))
        correctives = at_points(model.posedirs[:, :, 9 * (joint - 1) : 9 * joint].astype(np.float64))[moved]
        turned.append((moved, offsets, at_points(by_weight)[moved], correctives))
    a, b, c = (rest[corners[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    low, high, inverse_sigma, sparse = _priors(model, joints, settings, shapes + own)
    return FaceRig(
        base=at_points(rest),
        basis=at_points(basis),
        normals=normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12),
        joint_names=tuple(name for name, *_ in joints),
        turned=tuple(turned),
        mean=habits.mean,
        modes=habits.modes,
        gain=np.concatenate([np.zeros((*habits.mean.shape, shapes)), habits.own_modes, habits.gain_of(model.expression_names)], axis=2),
        noise=settings.noise * habits.noise,
        low=low,
        high=high,
        inverse_sigma=inverse_sigma,
        sparse=sparse,
        identities=shapes + own,
    )


def _priors(
    model: HeadModel, joints: list[tuple], settings: SolverSettings, own: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    arkit = np.array([name in ARKIT_NAMES for name in model.expression_names], bool)
    # the eyes' own joints carry the gaze, and no face point is on the tongue: these expressions stay at rest
    gaze = any(name.endswith("eye") for name, *_ in joints)
    still = tuple(name for name in ("eyeLook" if gaze else "", "tongueOut") if name)
    fixed = np.array([name.startswith(still) for name in model.expression_names], bool)
    angles = [bound for _, pitch, yaw in joints for bound in (pitch, yaw)]
    low = np.concatenate([np.full(own, -4.0), np.where(arkit, 0.0, np.where(fixed, 0.0, -3.0)), [a for a, _ in angles]])
    high = np.concatenate([np.full(own, 4.0), np.where(fixed, 0.0, np.where(arkit, 1.0, 3.0)), [b for _, b in angles]])
    sigma = np.concatenate([np.ones(own), np.where(arkit, settings.sigma, 1.0), np.full(len(angles), _GAZE_SIGMA)])
    sparse = np.concatenate([np.zeros(own), settings.sparse * arkit, np.zeros(len(angles))])
    return low, high, 1 / sigma, sparse


def with_identity(rig: FaceRig, identity: np.ndarray) -> FaceRig:
    """The rig of one person: `identity` (I,) becomes part of its rest."""
    count = len(identity)
    turned = tuple((moved, rest + by[:, :, :count] @ identity, by[:, :, count:], fix) for moved, rest, by, fix in rig.turned)
    return replace(
        rig,
        base=rig.base + rig.basis[:, :, :count] @ identity,
        mean=rig.mean + rig.gain[:, :, :count] @ identity,
        basis=np.ascontiguousarray(rig.basis[:, :, count:]),
        turned=turned,
        gain=np.ascontiguousarray(rig.gain[:, :, count:]),
        low=rig.low[count:],
        high=rig.high[count:],
        inverse_sigma=rig.inverse_sigma[count:],
        sparse=rig.sparse[count:],
        identities=rig.identities - count,
    )


def landmark_points(rig: FaceRig, weights: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks in head space (L, 3) and their derivatives by weights and angles (L, 3, K + 2 M)."""
    count = len(weights)
    points = rig.base + rig.basis @ weights
    derivative = np.zeros((len(points), 3, count + 2 * len(angles)))
    derivative[:, :, :count] = rig.basis
    matrices, by_angle = turns(angles)
    for m, (moved, rest, by_weight, correctives) in enumerate(rig.turned):
        turn, offset = matrices[m] - np.eye(3), rest + by_weight @ weights
        points[moved] += offset @ turn.T + correctives @ turn.ravel()
        derivative[moved, :, :count] += np.einsum("ab,nbk->nak", turn, by_weight)
        for axis in range(2):
            derivative[moved, :, count + 2 * m + axis] = offset @ by_angle[m, axis].T + correctives @ by_angle[m, axis].ravel()
    return points, derivative


def start_pose(rig: FaceRig, landmarks: np.ndarray, focal: float, centre: np.ndarray) -> FacePose:
    """Pose of the face at rest by a similarity to points (L, 3) in pixels and relative depth (Umeyama 1991)."""
    middle = rig.base.mean(axis=0)
    source, target = rig.base - middle, landmarks - landmarks.mean(axis=0)
    u, _, vt = np.linalg.svd(target.T @ source)
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    scale = np.linalg.norm(target[:, :2]) / np.linalg.norm((source @ rotation.T)[:, :2])
    place = np.append((landmarks[:, :2].mean(axis=0) - centre) / scale, focal / scale)
    rest = (np.zeros(rig.basis.shape[2]), np.zeros((len(rig.turned), 2)), np.zeros(rig.modes.shape[2]))
    return FacePose(rotation, place - rotation @ middle, *rest)


def face_axes(landmarks: np.ndarray) -> np.ndarray:
    """(2, 2): pixels from the axes in which habits are told, along the eyes and across, in distances between them."""
    across = landmarks[sets.LEFT_IRIS[0], :2] - landmarks[sets.RIGHT_IRIS[0], :2]
    x, y = across / max(float(np.linalg.norm(across)), 1e-6)
    return max(face_scale(landmarks), 1e-6) * np.array([[x, -y], [y, x]])


@dataclass(frozen=True)
class Residuals:
    """How far a pose is from a frame: `error` (2 L,) and `jacobian` (2 L, 6 + H + K + 2 M) by pose, habits, weights and angles, each
    row over the noise of its point; `pixels` (L, 2) where the landmarks are expected, and `roots` (L,) one over their noise in pixels.
    """

    error: np.ndarray
    jacobian: np.ndarray
    pixels: np.ndarray
    roots: np.ndarray


def residuals(rig: FaceRig, pose: FacePose, landmarks: np.ndarray, focal: float, centre: np.ndarray) -> Residuals:
    """What is between a `pose` and `landmarks` (L, 3). A point has less say where its skin looks away and where it lies far off."""
    axes = face_axes(landmarks)
    points, by_form = landmark_points(rig, pose.weights, pose.angles)
    turned = points @ pose.rotation.T
    in_camera = turned + pose.translation
    depth = np.maximum(in_camera[:, 2], 1e-3)
    habits = rig.mean + rig.modes @ pose.habits + rig.gain @ pose.weights
    pixels = focal * in_camera[:, :2] / depth[:, None] + centre + habits @ axes.T
    roots = _trust(rig, pose, in_camera, pixels - landmarks[:, :2], face_scale(landmarks))
    by_point = np.zeros((len(points), 2, 3))
    by_point[:, 0, 0] = by_point[:, 1, 1] = focal / depth
    by_point[:, :, 2] = -focal * in_camera[:, :2] / depth[:, None] ** 2
    cross = np.zeros((len(points), 3, 3))  # d(exp(w) p)/dw = -[p]x
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = turned[:, 2], -turned[:, 1], turned[:, 0]
    cross -= cross.transpose(0, 2, 1)
    by_form = (by_point @ pose.rotation) @ by_form
    by_form[:, :, : len(pose.weights)] += axes @ rig.gain
    jacobian = np.concatenate([by_point @ cross, by_point, axes @ rig.modes, by_form], axis=2) * roots[:, None, None]
    error = ((pixels - landmarks[:, :2]) * roots[:, None]).ravel()
    return Residuals(error, jacobian.reshape(len(error), -1), pixels, roots)


def _trust(rig: FaceRig, pose: FacePose, in_camera: np.ndarray, error: np.ndarray, scale: float) -> np.ndarray:
    """(L,) one over each point's noise in pixels."""
    distance = np.linalg.norm(error, axis=1) / max(scale, 1e-6)
    cosine = -np.einsum("nd,nd->n", rig.normals @ pose.rotation.T, in_camera) / np.linalg.norm(in_camera, axis=1)
    facing = 0.1 + 0.9 * np.clip((cosine + 0.1) / 0.4, 0, 1)
    belief = np.maximum((1 + (distance / OUTLIER) ** 2) ** -2, 0.05) * facing
    return np.sqrt(belief) / (rig.noise * max(scale, 1e-6))


def solve_face(
    rig: FaceRig, landmarks: np.ndarray, focal: float, centre: np.ndarray, settings: SolverSettings, start: FacePose | None = None
) -> FacePose:
    """The face that explains `landmarks` (L, 3): pixels, and relative depth, which only starts the pose where `start` is None.

    `start` is what the frame before showed: the nearer, the fewer steps are needed.
    """
    pose = start or start_pose(rig, landmarks, focal, centre)
    for _ in range(settings.steps if start else 3 * settings.steps):
        found = residuals(rig, pose, landmarks, focal, centre)
        pose = _stepped(rig, pose, found.jacobian.T @ found.jacobian, found.jacobian.T @ found.error)
    return pose


def _stepped(rig: FaceRig, pose: FacePose, normal: np.ndarray, gradient: np.ndarray) -> FacePose:
    """One step: the minimum of the quadratic in the box, from its matrix and gradient over pose, habits, weights and angles."""
    form = np.concatenate([pose.weights, pose.angles.ravel()])
    free, bound = slice(0, _FREE + len(pose.habits)), slice(_FREE + len(pose.habits), None)
    prior = np.append(1e-9 * np.diag(normal)[:_FREE], np.ones(len(pose.habits)))
    pull = gradient[free] + np.append(np.zeros(_FREE), pose.habits)
    # pose and habits follow the form: their share is eliminated
    solved = np.linalg.solve(normal[free, free] + np.diag(prior), np.c_[normal[free, bound], pull])
    reduced = normal[bound, bound] - normal[bound, free] @ solved[:, :-1] + np.diag(rig.inverse_sigma**2)
    slope = gradient[bound] - normal[bound, free] @ solved[:, -1] + rig.sparse + rig.inverse_sigma**2 * form
    target = boxed_minimum(reduced, slope - reduced @ form, rig.low, rig.high, form)
    move = -(solved[:, -1] + solved[:, :-1] @ (target - form))
    count = len(pose.weights)
    return FacePose(
        axis_angle_to_matrix(move[:3]) @ pose.rotation,
        pose.translation + move[3:_FREE],
        target[:count],
        target[count:].reshape(-1, 2),
        pose.habits + move[_FREE:],
    )


@kernel
def boxed_minimum(matrix: np.ndarray, slope: np.ndarray, low: np.ndarray, high: np.ndarray, start: np.ndarray) -> np.ndarray:
    """argmin over low <= x <= high of x^T matrix x / 2 + slope^T x; `matrix` (n, n) is positive definite.

    Sweeps of coordinate descent find which limits hold, and a Newton step on the others, as far as the box lets it go, follows the long
    valleys of expressions that undo one another, in which coordinates alone hardly move.
    """
    x = np.minimum(np.maximum(start, low), high)
    for _ in range(40):
        before = x.copy()
        gradient = matrix @ x + slope
        for _ in range(4):
            for i in range(len(x)):
                change = min(max(x[i] - gradient[i] / matrix[i, i], low[i]), high[i]) - x[i]
                if change != 0.0:
                    x[i] += change
                    gradient += change * matrix[i]
        free = np.nonzero((x > low) & (x < high))[0]
        if len(free):
            part = matrix[free][:, free]
            step = -np.linalg.solve(part, gradient[free])
            reach = 1.0
            for k in range(len(free)):
                i = free[k]
                if step[k] > 0.0:
                    reach = min(reach, (high[i] - x[i]) / step[k])
                elif step[k] < 0.0:
                    reach = min(reach, (low[i] - x[i]) / step[k])
            for k in range(len(free)):
                i = free[k]
                x[i] = min(max(x[i] + reach * step[k], low[i]), high[i])
        if np.abs(x - before).max() < 1e-5:
            break
    return x
