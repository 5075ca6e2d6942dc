# SPDX-License-Identifier: Apache-2.0
"""Expression, gaze and pose of one known face from its 478 points, in milliseconds: what a video asks for each of its frames.

The landmarks are a `point_rig`, so a frame costs no vertex. Gauss-Newton on the pixels; each step is a quadratic problem with box limits,
of which the six numbers of the pose are eliminated and the rest solved exactly, the sparse prior too, which is linear because weights are
never negative.

A detector's points are not wrong each by itself: whole lids, brows and mouths lie off together, and some by as much as the face moves.
What it does so (`detector_habits`) was measured on rendered faces whose points are known, and is part of the model: a mean, what it makes
of each expression, and modes that are unknowns of each frame, eliminated with the pose.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..rig import ARKIT_NAMES, HeadModel
from ..rig.bounded_least_squares import bounded_least_squares
from ..rotations import axis_angle_to_matrix
from . import landmark_sets as sets
from .detector_habits import DetectorHabits, load_habits
from .fit import OUTLIER, face_scale
from .pinhole import facing, first_pose, seen_from_pinhole
from .point_rig import PointRig, point_derivatives, point_rig, posed_points, turning_joints, turns, with_weights

_GAZE_SIGMA = np.radians(15)
_FREE = 6  # rotation and translation have no limits


@dataclass(frozen=True)
class SolverSettings:
    """What the solver believes before it looks.

    Attributes:
        noise: of the landmarks, as a factor of what was measured.
        sparse: how much a weight of 1 costs (linear).
        sigma: standard deviation of a weight beside that.
        lopsided: standard deviation of what the two sides of a face differ in. In an actor's takes, winks among them, it is 0.05, of blinks
            0.11.
        steps: Gauss-Newton steps a frame.
    """

    noise: float = 3.0
    sparse: float = 4.0
    sigma: float = 1.0
    lopsided: float = 0.16
    steps: int = 3


@dataclass(frozen=True)
class FaceRig(PointRig):
    """The L landmarks of a head, what the detector makes of them, and what is believed of K blend weights and the angles of M joints.

    Attributes:
        normals: (L, 3), outward, of the face at rest.
        mean, modes, gain: (L, 2), (L, 2, H) and (L, 2, K), the detector's habits in the face's axes, in distances between the eyes.
        noise: (L,), of each landmark beside them, in the same unit.
        low, high: (K + 2 M,) limits; precision: (K + 2 M, K + 2 M), the inverse covariance of what is believed; sparse: (K + 2 M,), what
            each costs beside that (linear).
        identities: I, how many of the K are a person's own and come first.
    """

    normals: np.ndarray
    mean: np.ndarray
    modes: np.ndarray
    gain: np.ndarray
    noise: np.ndarray
    low: np.ndarray
    high: np.ndarray
    precision: np.ndarray
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
    flat = np.zeros((*model.v_template.shape, own), np.float32)
    basis = np.concatenate([model.shapedirs, flat, model.exprdirs], axis=2)
    joints = turning_joints(model)
    points = point_rig(model, basis, tuple(name for name, *_ in joints), corners, model.landmark_barycentrics)
    a, b, c = (model.v_template[ids].astype(np.float64) + model.static_offsets[ids] for ids in corners.T)
    normals = np.cross(b - a, c - a)
    low, high, precision, sparse = _priors(model, joints, settings, shapes + own)
    return FaceRig(
        **vars(points),
        normals=normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12),
        mean=habits.mean,
        modes=habits.modes,
        gain=np.concatenate([np.zeros((*habits.mean.shape, shapes)), habits.own_modes, habits.gain_of(model.expression_names)], axis=2),
        noise=settings.noise * habits.noise,
        low=low,
        high=high,
        precision=precision,
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
    precision = np.diag(sigma**-2.0)
    for left, right in _sides(model.expression_names):
        difference = np.zeros(len(sigma))
        difference[[own + left, own + right]] = 1, -1
        precision += np.outer(difference, difference) / settings.lopsided**2
    return low, high, precision, sparse


def _sides(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The columns of expressions that the left and the right half of a face have each for itself."""
    for column, name in enumerate(names):
        other = name.removesuffix("Left") + "Right"
        # jaw, mouth and gaze as a whole go to one side or to the other
        if name in ARKIT_NAMES and not name.startswith(("jaw", "mouthLeft", "eyeLook")) and other in names:
            yield column, list(names).index(other)


def with_identity(rig: FaceRig, identity: np.ndarray) -> FaceRig:
    """The rig of one person: `identity` (I,) becomes part of its rest."""
    count = len(identity)
    return replace(
        with_weights(rig, identity),
        mean=rig.mean + rig.gain[:, :, :count] @ identity,
        gain=np.ascontiguousarray(rig.gain[:, :, count:]),
        low=rig.low[count:],
        high=rig.high[count:],
        precision=rig.precision[count:, count:],
        sparse=rig.sparse[count:],
        identities=rig.identities - count,
    )


def start_pose(rig: FaceRig, landmarks: np.ndarray, focal: float, centre: np.ndarray) -> FacePose:
    """Pose of the face at rest from points (L, 3) in pixels and relative depth."""
    from_centre = landmarks - np.append(centre, 0.0)
    rest = (np.zeros(rig.basis.shape[2]), np.zeros((len(rig.turned), 2)), np.zeros(rig.modes.shape[2]))
    return FacePose(*first_pose(rig.base, from_centre, focal), *rest)


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
    matrices, rates = turns(pose.angles)
    turned = posed_points(rig, pose.weights, matrices) @ pose.rotation.T
    seen, by_turn, by_place = seen_from_pinhole(turned, pose.translation, focal)
    habits = rig.mean + rig.modes @ pose.habits + rig.gain @ pose.weights
    pixels = seen + centre + habits @ axes.T
    roots = _trust(rig, pose, turned + pose.translation, pixels - landmarks[:, :2], face_scale(landmarks))
    by_form = (by_place @ pose.rotation) @ point_derivatives(rig, pose.weights, matrices, rates)
    by_form[:, :, : len(pose.weights)] += axes @ rig.gain
    jacobian = np.concatenate([by_turn, by_place, axes @ rig.modes, by_form], axis=2) * roots[:, None, None]
    error = ((pixels - landmarks[:, :2]) * roots[:, None]).ravel()
    return Residuals(error, jacobian.reshape(len(error), -1), pixels, roots)


def _trust(rig: FaceRig, pose: FacePose, in_camera: np.ndarray, error: np.ndarray, scale: float) -> np.ndarray:
    """(L,) one over each point's noise in pixels."""
    distance = np.linalg.norm(error, axis=1) / max(scale, 1e-6)
    belief = np.maximum((1 + (distance / OUTLIER) ** 2) ** -2, 0.05) * facing(rig.normals @ pose.rotation.T, in_camera)
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
    reduced = normal[bound, bound] - normal[bound, free] @ solved[:, :-1] + rig.precision
    slope = gradient[bound] - normal[bound, free] @ solved[:, -1] + rig.sparse + rig.precision @ form
    (target,) = bounded_least_squares(reduced, (reduced @ form - slope)[None], rig.low, rig.high, form[None])
    move = -(solved[:, -1] + solved[:, :-1] @ (target - form))
    count = len(pose.weights)
    return FacePose(
        axis_angle_to_matrix(move[:3]) @ pose.rotation,
        pose.translation + move[3:_FREE],
        target[:count],
        target[count:].reshape(-1, 2),
        pose.habits + move[_FREE:],
    )
