# SPDX-License-Identifier: Apache-2.0
"""The parametric fit: identity, expression, eye gaze, pose and focal length of a head to 478 face points of one picture.

Levenberg-Marquardt with analytic derivatives (`point_rig`), weights re-estimated with the Geman-McClure function, and box limits kept
exactly at every step. The head's own motion is folded into the camera: root and neck stay at rest. Priors: identity N(0, 1) per direction,
expressions sparse, focal length log-normal.
"""

from dataclasses import dataclass

import numpy as np

from ..cameras import Camera
from ..rig import ARKIT_NAMES, HeadModel, Parameters
from ..rig.bounded_least_squares import bounded_least_squares
from ..rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_axis_angle
from . import landmark_sets as sets
from .pinhole import facing, first_pose, seen_from_pinhole
from .point_rig import PointRig, point_derivatives, point_rig, posed_points, turning_joints, turns

FOCAL_35MM = 50.0  # mm: an ordinary portrait lens on a 36 x 24 mm frame
FRAME_DIAGONAL = 43.267  # mm, of that frame
_FOCAL_SIGMA = 0.35  # of the logarithm
_FOCAL_BOUNDS = (20.0, 300.0)  # mm on the same frame
_NOISE = 0.025  # of the distance between the eyes: what a landmark may be off by without the shape bending to it
OUTLIER = 0.10  # of the same: beyond it a landmark loses its say
_EXPRESSION_SIGMA = 0.45
_GAZE_SIGMA = np.radians(12)
_ROUNDS, _STEPS = 5, 8


@dataclass(frozen=True)
class Fit:
    """`camera` sees the head at rest in head space; `points` (478, 2) px are the model's landmarks in it; `weights` (478,) in 0..1 say
    how far each detected point was believed; `error` is the mean distance over the distance between the eyes.
    """

    shape: np.ndarray
    parameters: Parameters
    camera: Camera
    points: np.ndarray
    weights: np.ndarray
    error: float


def eye_distance(points: np.ndarray) -> float:
    """Pixels between the centres of the irises of landmarks (478, 2 or 3)."""
    return float(np.linalg.norm(points[sets.LEFT_IRIS[0], :2] - points[sets.RIGHT_IRIS[0], :2]))


def face_scale(points: np.ndarray) -> float:
    """Pixels between the eyes as they would be from the front: the distance in the picture and in MediaPipe's relative depth together."""
    return float(np.linalg.norm(points[sets.LEFT_IRIS[0]] - points[sets.RIGHT_IRIS[0]]))


def landmark_error_percent(fitted: np.ndarray, detected: np.ndarray) -> float:
    """Mean 2D distance of the 478 points over the distance between the eyes, in percent."""
    return 100 * float(np.linalg.norm(fitted[:, :2] - detected[:, :2], axis=1).mean()) / max(eye_distance(detected), 1e-6)


def landmark_importance() -> np.ndarray:
    """(478,) weights of the points' squared errors: features that make a likeness weigh more, the soft oval less."""
    importance = np.ones(sets.LANDMARKS)
    importance[list(sets.FACE_OVAL)] = 0.5
    for group, weight in (
        (sets.LEFT_BROW + sets.RIGHT_BROW, 1.5),
        (sets.OUTER_LIPS + sets.INNER_LIPS, 3.0),
        (sets.LEFT_EYE + sets.RIGHT_EYE, 4.0),
        (sets.LEFT_IRIS + sets.RIGHT_IRIS, 4.0),
        (sets.NOSE_BASE + sets.NOSE_BRIDGE, 2.0),
    ):
        importance[list(group)] = weight
    return importance


@dataclass(frozen=True)
class _State:
    """The unknowns: rotation and translation of the head in the camera, log focal length, blend weights (K,), angles (M, 2) pitch and
    yaw.
    """

    rotation: np.ndarray
    translation: np.ndarray
    log_focal: float
    blend: np.ndarray
    angles: np.ndarray

    def moved(self, step: np.ndarray) -> "_State":
        k = len(self.blend)
        return _State(
            axis_angle_to_matrix(step[:3]) @ self.rotation,
            self.translation + step[3:6],
            self.log_focal + step[6],
            self.blend + step[7 : 7 + k],
            self.angles + step[7 + k :].reshape(-1, 2),
        )

    def vector(self) -> np.ndarray:
        """The unknowns as one vector, the rotation counted from where it is."""
        return np.concatenate([np.zeros(3), self.translation, [self.log_focal], self.blend, self.angles.ravel()])


def fit_head(model: HeadModel, landmarks: np.ndarray, width: int, height: int) -> Fit:
    """Fits `model` to `landmarks` (478, 3): pixels of a picture of width x height, and relative depth, which only starts the pose."""
    rig, joints = _landmark_rig(model), turning_joints(model)
    scale = face_scale(landmarks)
    centre = np.array([width, height]) / 2
    unit = np.hypot(width, height) / FRAME_DIAGONAL  # px per mm of focal length
    seen = landmarks - np.append(centre, 0.0)
    focal = FOCAL_35MM * unit
    state = _State(*first_pose(rig.base, seen, focal), float(np.log(focal)), np.zeros(rig.basis.shape[2]), np.zeros((len(joints), 2)))
    lower, upper, inverse_sigma = _limits(model, joints, unit)
    importance = landmark_importance()
    belief = np.ones(sets.LANDMARKS)
    for round_index in range(_ROUNDS):
        roots = _residual_roots(landmarks[:, :2], importance * belief) / (_NOISE * scale)
        state = _descend(rig, state, seen[:, :2], roots, lower, upper, _priors(model, state, inverse_sigma, unit))
        pixels = _seen(rig, state)[0] + centre
        distance = np.linalg.norm(pixels - landmarks[:, :2], axis=1) / scale
        belief = (1 + (distance / OUTLIER) ** 2) ** -2 * _facing(model, state)
        if round_index == 0:
            belief = np.maximum(belief, 0.3)  # a first fit is too rough to condemn anything
    return _result(model, state, joints, landmarks, pixels, belief, width, height)


def _landmark_rig(model: HeadModel) -> PointRig:
    """The landmarks by identity and expression, identity first."""
    basis = np.concatenate([model.shapedirs, model.exprdirs], axis=2)
    names = tuple(name for name, *_ in turning_joints(model))
    return point_rig(model, basis, names, model.faces[model.landmark_faces], model.landmark_barycentrics)


def _limits(model: HeadModel, joints: list[tuple], unit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper bounds of the unknowns, and one over the priors' standard deviations of blend weights and angles."""
    shapes = len(model.shape_names)
    arkit = np.array([name in ARKIT_NAMES for name in model.expression_names], bool)
    low = [np.full(6, -np.inf), [np.log(_FOCAL_BOUNDS[0] * unit)], np.full(shapes, -4.0), np.where(arkit, 0.0, -3.0)]
    high = [np.full(6, np.inf), [np.log(_FOCAL_BOUNDS[1] * unit)], np.full(shapes, 4.0), np.where(arkit, 1.0, 3.0)]
    for _, pitch, yaw in joints:
        low.append([pitch[0], yaw[0]])
        high.append([pitch[1], yaw[1]])
    # the eyes' own joints carry the gaze, and no face point is on the tongue: these expressions stay at rest
    still = tuple(name for name in ("eyeLook" if joints else "", "tongueOut") if name)
    low, high = np.concatenate(low), np.concatenate(high)
    high[[7 + shapes + i for i, name in enumerate(model.expression_names) if name.startswith(still)]] = 1e-9
    spread = np.concatenate([np.ones(shapes), np.where(arkit, _EXPRESSION_SIGMA, 1.0), np.full(2 * len(joints), _GAZE_SIGMA)])
    return low, high, 1 / spread


def _seen(rig: PointRig, state: _State) -> tuple[np.ndarray, np.ndarray]:
    """(478, 2) px from the principal point, and (478, 2, 7 + K + 2 M) their derivatives by small rotation, translation, log focal length,
    blend weights and angles.
    """
    matrices, rates = turns(state.angles)
    turned = posed_points(rig, state.blend, matrices) @ state.rotation.T
    pixels, by_turn, by_place = seen_from_pinhole(turned, state.translation, np.exp(state.log_focal))
    by_form = (by_place @ state.rotation) @ point_derivatives(rig, state.blend, matrices, rates)
    return pixels, np.concatenate([by_turn, by_place, pixels[:, :, None], by_form], axis=2)


def _residual_roots(detected: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(478, 2, 2) square roots of the weights. Points of the oval may slide along it: there the error along the outline counts a tenth."""
    roots = np.sqrt(weights)[:, None, None] * np.eye(2)
    ring = np.array(sets.FACE_OVAL)
    along = np.roll(detected[ring], -1, axis=0) - np.roll(detected[ring], 1, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    root = np.sqrt(weights[ring])[:, None]
    roots[ring] = np.stack([root * across, np.sqrt(0.1) * root * along], axis=1)
    return roots


def _priors(model: HeadModel, state: _State, inverse_sigma: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal of the priors' square roots over all unknowns, and what the unknowns are drawn to."""
    shapes, blends = len(model.shape_names), len(state.blend)
    inverse_sigma = inverse_sigma.copy()
    # iteratively reweighted: small expressions are drawn to zero harder, which leaves few and clear ones
    weights = np.abs(state.blend[shapes:])
    inverse_sigma[shapes:blends] *= np.sqrt(0.5 + 0.5 * 0.3 / (0.1 + weights))
    roots = np.concatenate([np.zeros(6), [1 / _FOCAL_SIGMA], inverse_sigma])
    target = np.zeros(len(roots))
    target[6] = np.log(FOCAL_35MM * unit)
    return roots, target


def _descend(
    rig: PointRig,
    state: _State,
    detected: np.ndarray,
    roots: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    prior: tuple[np.ndarray, np.ndarray],
) -> _State:
    """Levenberg-Marquardt steps, each a least-squares problem with the box as its limits."""
    prior_roots, prior_target = prior

    def residuals(state: _State) -> tuple[np.ndarray, np.ndarray]:
        pixels, jacobian = _seen(rig, state)
        error = np.einsum("nab,nb->na", roots, pixels - detected).ravel()
        jacobian = np.einsum("nab,nbk->nak", roots, jacobian, optimize=True)
        return np.concatenate([error, prior_roots * (state.vector() - prior_target)]), jacobian.reshape(len(error), -1)

    damping = 1e-3
    error, jacobian = residuals(state)
    for _ in range(_STEPS):
        full = np.concatenate([jacobian, np.diag(prior_roots)])
        normal = full.T @ full
        pull = full.T @ -error
        damped = normal + damping * np.diag(np.diag(normal))
        (step,) = bounded_least_squares(damped, pull[None], lower - state.vector(), upper - state.vector())
        candidate = state.moved(step)
        new_error, new_jacobian = residuals(candidate)
        gain = error @ error - new_error @ new_error
        if gain <= 0:
            damping *= 8
            continue
        state, error, jacobian = candidate, new_error, new_jacobian
        damping = max(damping / 4, 1e-6)
        if gain < 1e-5 * (error @ error):
            break
    return state


def _facing(model: HeadModel, state: _State) -> np.ndarray:
    """(478,) from 0.1, where the surface looks away from the camera, to 1."""
    shapes = len(model.shape_names)
    vertices = model.v_template + model.shapedirs @ state.blend[:shapes] + model.exprdirs @ state.blend[shapes:]
    a, b, c = (vertices[model.faces[model.landmark_faces, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return facing(normals @ state.rotation.T, (a + b + c) / 3 @ state.rotation.T + state.translation)


def _result(
    model: HeadModel,
    state: _State,
    joints: list[tuple],
    landmarks: np.ndarray,
    pixels: np.ndarray,
    belief: np.ndarray,
    width: int,
    height: int,
) -> Fit:
    shapes = len(model.shape_names)
    rotations = np.zeros((len(model.joint_names), 3))
    matrices, _ = turns(state.angles)
    for (name, *_), matrix in zip(joints, matrices, strict=True):
        rotations[model.joint_names.index(name)] = quaternion_to_axis_angle(matrix_to_quaternion(matrix))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = state.rotation, state.translation
    focal = float(np.exp(state.log_focal))
    camera = Camera(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), pose, width, height)
    parameters = Parameters(state.blend[shapes:].astype(np.float32), rotations.astype(np.float32), np.zeros(3, np.float32))
    return Fit(state.blend[:shapes].astype(np.float32), parameters, camera, pixels, belief, landmark_error_percent(pixels, landmarks))
