# SPDX-License-Identifier: Apache-2.0
"""Who is in a video and how long the lens was: one identity and one focal length that explain all of its key frames at once.

Gauss-Newton over the key frames together. The unknowns of each frame (pose, expression, gaze) are eliminated from its normal equations,
those at their limits left out, so what remains is a small system of the shared ones; then each frame is solved anew for them.
"""

from dataclasses import dataclass, replace

import numpy as np

from .face_solver import FacePose, FaceRig, SolverSettings, residuals, solve_face, start_pose, with_identity
from .fit import FRAME_DIAGONAL, face_scale
from .pinhole import seen_from_pinhole
from .point_rig import posed_points, turns

KEY_FRAMES = 12
FOCAL_35MM = 32.0  # mm on a 36 x 24 mm frame: webcams and the front cameras of phones
_FOCAL_SIGMA = 0.3  # of the logarithm
_FOCAL_BOUNDS = (18.0, 200.0)
_ROUNDS = 6
_DEARER = 4.0  # times what expressions cost while the person is sought: what a face does in all frames is taken for the face


@dataclass(frozen=True)
class SharedIdentity:
    """`weights` (I,), the head's identity directions first, and `focal` px; `rig` has the former in its rest."""

    weights: np.ndarray
    focal: float
    rig: FaceRig


def key_frames(rig: FaceRig, landmarks: np.ndarray, count: int = KEY_FRAMES) -> np.ndarray:
    """Which of (n, L, 3) landmarks differ most: the most frontal, and then always the one farthest from those chosen, in shape and pose."""
    centred = landmarks - landmarks.mean(axis=1, keepdims=True)
    centred /= np.array([max(face_scale(points), 1e-6) for points in landmarks])[:, None, None]
    features = centred[:, :, :2].reshape(len(landmarks), -1) / np.sqrt(landmarks.shape[1])
    turn = np.array([start_pose(rig, points, 1000.0, np.zeros(2)).rotation[2, 2] for points in landmarks])
    chosen = [int(np.argmin(turn))]  # the camera looks along z, so a frontal face has -1 there
    distance = np.full(len(landmarks), np.inf)
    while len(chosen) < min(count, len(landmarks)):
        distance = np.minimum(distance, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(np.argmax(distance)))
    return np.array(chosen)


def fit_identity(rig: FaceRig, landmarks: np.ndarray, width: int, height: int, settings: SolverSettings) -> SharedIdentity:
    """The identity of the person in key frames.

    Args:
        rig: with its identity directions.
        landmarks: (n, L, 3) px and relative depth.
    """
    centre = np.array([width, height]) / 2
    unit = np.hypot(width, height) / FRAME_DIAGONAL
    weights, log_focal = np.zeros(rig.identities), float(np.log(FOCAL_35MM * unit))
    poses: list[FacePose | None] = [None] * len(landmarks)
    dear = replace(rig, sparse=_DEARER * rig.sparse)
    for _ in range(_ROUNDS):
        person = with_identity(dear, weights)
        focal = float(np.exp(log_focal))
        normal = np.diag(np.append(np.ones(len(weights)), _FOCAL_SIGMA**-2))
        slope = np.append(-weights, (np.log(FOCAL_35MM * unit) - log_focal) * _FOCAL_SIGMA**-2)
        for index, points in enumerate(landmarks):
            pose = solve_face(person, points, focal, centre, settings, poses[index])
            part, towards = _shared_share(rig, person, weights, pose, points, focal, centre)
            normal += part
            slope += towards
            poses[index] = pose
        step = np.linalg.solve(normal, slope)
        step *= min(1.0, 3.0 / max(np.abs(step[:-1]).max(initial=0), 1e-9), 0.2 / max(abs(step[-1]), 1e-9))
        weights = np.clip(weights + step[:-1], -4, 4)
        log_focal = float(np.clip(log_focal + step[-1], *np.log(np.array(_FOCAL_BOUNDS) * unit)))
    return SharedIdentity(weights, float(np.exp(log_focal)), with_identity(rig, weights))


def _shared_share(
    rig: FaceRig, person: FaceRig, weights: np.ndarray, pose: FacePose, landmarks: np.ndarray, focal: float, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What one frame says of identity and log focal length, its own unknowns eliminated: normal matrix and right-hand side."""
    count, nuisances = len(weights), 6 + len(pose.habits)
    found = residuals(rig, replace(pose, weights=np.concatenate([weights, pose.weights])), landmarks, focal, centre)
    jacobian = found.jacobian
    points = posed_points(person, pose.weights, turns(pose.angles)[0])
    by_focal, *_ = seen_from_pinhole(points @ pose.rotation.T, pose.translation, focal)
    by_focal = (by_focal * found.roots[:, None]).reshape(-1, 1)
    form = np.concatenate([pose.weights, pose.angles.ravel()])
    loose = (form > person.low + 1e-6) & (form < person.high - 1e-6)
    own = np.concatenate([jacobian[:, :nuisances], jacobian[:, nuisances + count :][:, loose]], axis=1)
    shared = np.concatenate([jacobian[:, nuisances : nuisances + count], by_focal], axis=1)
    prior = np.diag(np.concatenate([np.full(6, 1e-9), np.ones(len(pose.habits)), np.zeros(loose.sum())]))
    prior[nuisances:, nuisances:] = person.precision[np.ix_(loose, loose)]
    drawn = np.concatenate([np.zeros(6), pose.habits, (person.precision @ form + person.sparse)[loose]])
    cross = shared.T @ own
    solved = np.linalg.solve(own.T @ own + prior, np.c_[cross.T, own.T @ found.error + drawn])
    return shared.T @ shared - cross @ solved[:, :-1], cross @ solved[:, -1] - shared.T @ found.error
