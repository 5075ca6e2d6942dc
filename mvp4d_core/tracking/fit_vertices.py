# SPDX-License-Identifier: Apache-2.0
"""Any head fitted to points in space over time: to vertices of its own mesh, or to the 478 face points of whatever has them.

Gauss-Newton with analytic derivatives on the points: root rotation and translation, jaw and eyes where the points see them, and blend
weights of each frame; identity is shared. The neck stays at rest, for points can't tell its turns from the root's and the shoulders' own.
The identity is found from a few frames at once, then each frame from the one before. Priors: N(0, 1) on identity and on FLAME's
expressions, N(0, 0.45) on expressions with weights in 0..1, N(0, 0.5 rad) on the joints.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from ..rig import ARKIT_NAMES, HeadModel, Performance
from ..rig.bounded_least_squares import bounded_least_squares
from ..rotations import axis_angle_to_matrix, matrix_to_quaternion, nearest_rotation, quaternion_to_axis_angle
from .point_rig import PointRig, joint_place, point_derivatives, point_rig, posed_points, with_weights

_MOST_POINTS = 1500
_KEY_FRAMES = 5
_STEPS = 25
_NOISE, _LANDMARK_NOISE = 2e-4, 5e-4  # metres by which a vertex or landmark may be off before the head bends to it
_SIGMA_ARKIT, _SIGMA_JOINT = 0.45, 0.5
_LIMIT_SHAPE, _LIMIT_EXPRESSION = 6.0, 6.0
_FLOOR = 1e-9  # of a joint's share of the points' skinning weights, below which it stays at rest
_AXES = np.array([[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]], np.float64)


@dataclass(frozen=True)
class VertexFit:
    """`performance` (T frames) and `shape` (S,) of the head; `errors` (T,) metres, the mean distance of its points from those given."""

    performance: Performance
    shape: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True)
class _Points:
    """Points of a head by S identity and E expression weights, and the joint about which all of them turn: `root` (3,) and `root_basis`
    (3, S + E).
    """

    rig: PointRig
    root: np.ndarray
    root_basis: np.ndarray


@dataclass(frozen=True)
class _Frame:
    """The unknowns of a frame: `root` (3, 3), `translation` (3,), `turns` (M, 3, 3), `weights` (E,)."""

    root: np.ndarray
    translation: np.ndarray
    turns: np.ndarray
    weights: np.ndarray

    def moved(self, step: np.ndarray) -> "_Frame":
        joints = len(self.turns)
        small = axis_angle_to_matrix(step[6 : 6 + 3 * joints].reshape(-1, 3))
        return _Frame(
            axis_angle_to_matrix(step[:3]) @ self.root,
            self.translation + step[3:6],
            small @ self.turns,
            self.weights + step[6 + 3 * joints :],
        )


@dataclass(frozen=True)
class _Task:
    """A head, what it is fitted to, and how much the points are believed: `noise` metres a point."""

    points: _Points
    noise: float
    low: np.ndarray  # (E,)
    high: np.ndarray  # (E,)
    inverse_sigma: np.ndarray  # (E,)


def fit_vertices(
    head_model: HeadModel, vertices: np.ndarray, *, shape: np.ndarray | None = None, fps: float = 25.0, progress: Progress = silent
) -> VertexFit:
    """Fits a head to its own mesh.

    Args:
        vertices: (T, V', 3) metres, of the first V' vertices of the head, as trackers leave them that know no teeth.
        shape: (S,) identity, if it is known.

    Raises:
        InputError: more vertices than the head has, or numbers that are not finite.
    """
    count = vertices.shape[1] if vertices.ndim == 3 else 0
    if not 3 < count <= len(head_model.v_template) or vertices.shape[2] != 3:
        raise InputError(f"`vertices` must be (T, up to {len(head_model.v_template)}, 3) for `{head_model.name}`, got {vertices.shape}.")
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).round().astype(int))
    return _fit(head_model, chosen[:, None], np.ones((len(chosen), 1)), vertices[:, chosen], shape, fps, _NOISE, progress)


def fit_landmarks(
    head_model: HeadModel, landmarks: np.ndarray, *, shape: np.ndarray | None = None, fps: float = 25.0, progress: Progress = silent
) -> VertexFit:
    """Fits a head to its face points.

    Args:
        landmarks: (T, L, 3) metres, the head's landmarks, MediaPipe's 478.
        shape: (S,) identity, if it is known.

    Raises:
        InputError: other points than the head has, or numbers that are not finite.
    """
    count = len(head_model.landmark_faces)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (count, 3) or count < 4:
        raise InputError(f"`landmarks` must be (T, {count}, 3) of the points of `{head_model.name}`, got {landmarks.shape}.")
    corners, mixes = head_model.faces[head_model.landmark_faces], head_model.landmark_barycentrics
    return _fit(head_model, corners, mixes, landmarks, shape, fps, _LANDMARK_NOISE, progress)


def _fit(
    model: HeadModel, corners: np.ndarray, mixes: np.ndarray, targets: np.ndarray, shape: np.ndarray | None, fps: float,
    noise: float, progress: Progress,
) -> VertexFit:  # fmt: skip
    targets = np.asarray(targets, np.float64)
    if not len(targets) or not np.isfinite(targets).all():
        raise InputError(f"The points to fit must be finite and of a frame at least, got {targets.shape}.")
    points = _points_of(model, corners, mixes)
    task, count = _task(model, points, noise), model.shapedirs.shape[2]
    shape_found = np.zeros(count)
    if shape is None:
        keys = np.unique(np.linspace(0, len(targets) - 1, _KEY_FRAMES).round().astype(int))
        starts = [_aligned(points, _rest(points, count), target, shape_found) for target in targets[keys]]
        shape_found, _ = _solve(task, targets[keys], starts, shape_found)
    else:
        known = min(count, len(shape))
        shape_found[:known] = shape[:known]
    task = replace(task, points=_person(points, shape_found))
    frames, errors, nobody = [], [], np.zeros(0)
    frame = _rest(task.points, 0)
    for index, target in enumerate(targets):
        start = _aligned(task.points, frame, target, nobody)
        _, (frame,) = _solve(task, target[None], [start], nobody)
        errors.append(np.linalg.norm(_posed(task.points, frame, nobody) - target, axis=1).mean())
        frames.append(frame)
        progress("fit", index + 1, len(targets))
    return VertexFit(_performance(model, points, frames, fps), shape_found.astype(np.float32), np.array(errors))


def _task(model: HeadModel, points: _Points, noise: float) -> _Task:
    arkit = np.isin(model.expression_names, ARKIT_NAMES)
    low, high = np.where(arkit, 0.0, -_LIMIT_EXPRESSION), np.where(arkit, 1.0, _LIMIT_EXPRESSION)
    still = _still(model, points)
    low[still] = high[still] = 0.0
    return _Task(points, noise, low, high, np.where(arkit, 1 / _SIGMA_ARKIT, 1.0))


def _points_of(model: HeadModel, corners: np.ndarray, mixes: np.ndarray) -> _Points:
    names = ("left_eye", "right_eye") if "jawOpen" in model.expression_names else ("jaw", "left_eye", "right_eye")
    seen = model.lbs_weights[np.unique(corners)].mean(axis=0)
    turning = tuple(name for name in names if name in model.joint_names and seen[model.joint_names.index(name)] > _FLOOR)
    basis = np.concatenate([model.shapedirs, model.exprdirs], axis=2)
    return _Points(point_rig(model, basis, turning, corners, mixes), *joint_place(model, 0, basis))


def _person(points: _Points, shape: np.ndarray) -> _Points:
    """The points with the identity in their rest."""
    count = len(shape)
    root = points.root + points.root_basis[:, :count] @ shape
    return _Points(with_weights(points.rig, shape), root, points.root_basis[:, count:])


def _still(model: HeadModel, points: _Points) -> list[int]:
    """Expressions that stay at rest: gaze, where the eyes' joints carry it, and the tongue, where no point sees it."""
    eyes = any(name.endswith("eye") for name in points.rig.joint_names)
    unseen = np.abs(points.rig.basis[:, :, model.shapedirs.shape[2] :]).max(axis=(0, 1), initial=0) < 1e-9
    return [i for i, name in enumerate(model.expression_names) if unseen[i] or (eyes and name.startswith("eyeLook"))]


def _rest(points: _Points, shapes: int) -> _Frame:
    turns = np.tile(np.eye(3), (len(points.rig.turned), 1, 1))
    return _Frame(np.eye(3), np.zeros(3), turns, np.zeros(points.rig.basis.shape[2] - shapes))


def _aligned(points: _Points, frame: _Frame, target: np.ndarray, shape: np.ndarray) -> _Frame:
    """The frame with its root turned and moved so that its points lie on the target as well as they can (Kabsch 1976)."""
    unmoved = replace(frame, root=np.eye(3), translation=np.zeros(3))
    here, joint = _posed(points, unmoved, shape), _root(points, np.append(shape, frame.weights))
    middle, aim = here.mean(axis=0), target.mean(axis=0)
    root = nearest_rotation((target - aim).T @ (here - middle))
    return replace(unmoved, root=root, translation=aim - root @ (middle - joint) - joint)


def _root(points: _Points, blend: np.ndarray) -> np.ndarray:
    return points.root + points.root_basis @ blend


def _posed(points: _Points, frame: _Frame, shape: np.ndarray) -> np.ndarray:
    """The points (P, 3)."""
    blend = np.append(shape, frame.weights)
    joint = _root(points, blend)
    return (posed_points(points.rig, blend, frame.turns) - joint) @ frame.root.T + joint + frame.translation


def _derivative(points: _Points, frame: _Frame, shape: np.ndarray) -> np.ndarray:
    """(P, 3, S + 6 + 3 M + E) of the points by identity, root, translation, joints and expression."""
    blend = np.append(shape, frame.weights)
    rates = _AXES @ frame.turns[:, None]  # (M, 3, 3, 3), of a matrix by a small turn about each axis
    form = point_derivatives(points.rig, blend, frame.turns, rates)
    form[:, :, : len(blend)] -= points.root_basis
    form = frame.root @ form
    form[:, :, : len(blend)] += points.root_basis
    shapes, places = len(shape), _posed(points, frame, shape) - _root(points, blend) - frame.translation
    by_root = np.einsum("kab,pb->pak", _AXES, places)
    by_place = np.broadcast_to(np.eye(3), (len(places), 3, 3))
    return np.concatenate([form[:, :, :shapes], by_root, by_place, form[:, :, len(blend) :], form[:, :, shapes : len(blend)]], axis=2)


def _solve(task: _Task, targets: np.ndarray, frames: list[_Frame], shape: np.ndarray) -> tuple[np.ndarray, list[_Frame]]:
    """Damped Gauss-Newton on all frames at once, with as much of the identity among the unknowns as `shape` (S,) has."""
    damping, count = 1e-6, len(shape)
    cost = _cost(task, targets, frames, shape)
    for _ in range(_STEPS):
        normal, gradient, low, high = _system(task, targets, frames, shape)
        (step,) = bounded_least_squares(normal + damping * np.diag(np.diag(normal)), -gradient[None], low, high)
        new_shape = shape + step[:count]
        parts = step[count:].reshape(len(frames), -1)
        moved = [frame.moved(part) for frame, part in zip(frames, parts, strict=True)]
        new_cost = _cost(task, targets, moved, new_shape)
        if new_cost > cost:
            damping = max(damping, 1e-6) * 30
            if damping > 1e3:
                break
            continue
        gain, cost, frames, shape = cost - new_cost, new_cost, moved, new_shape
        damping = max(damping / 10, 1e-9)
        if gain < 1e-7 * (cost + 1e-3 * targets.shape[1]):
            break
    return shape, frames


def _cost(task: _Task, targets: np.ndarray, frames: list[_Frame], shape: np.ndarray) -> float:
    total = float(shape @ shape)
    for frame, target in zip(frames, targets, strict=True):
        total += float((((_posed(task.points, frame, shape) - target) / task.noise) ** 2).sum())
        total += float(((task.inverse_sigma * frame.weights) ** 2).sum())
        total += float((_turn_vectors(frame) ** 2).sum()) / _SIGMA_JOINT**2
    return total


def _turn_vectors(frame: _Frame) -> np.ndarray:
    return quaternion_to_axis_angle(matrix_to_quaternion(frame.turns))


def _system(
    task: _Task, targets: np.ndarray, frames: list[_Frame], shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The normal matrix and the gradient of all unknowns, and how far each may go down and up."""
    count, joints = len(shape), 3 * len(task.points.rig.turned)
    own = 6 + joints + len(task.low)
    size = count + own * len(frames)
    normal, gradient = np.zeros((size, size)), np.zeros(size)
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    normal[:count, :count], gradient[:count] = np.eye(count), shape
    low[:count], high[:count] = -_LIMIT_SHAPE - shape, _LIMIT_SHAPE - shape
    for index, (frame, target) in enumerate(zip(frames, targets, strict=True)):
        rates = _derivative(task.points, frame, shape).reshape(target.size, -1) / task.noise
        error = (_posed(task.points, frame, shape) - target).ravel() / task.noise
        begin = count + own * index
        chosen = np.concatenate([np.arange(count), np.arange(begin, begin + own)])
        normal[np.ix_(chosen, chosen)] += rates.T @ rates
        gradient[chosen] += rates.T @ error
        turns, weights = np.arange(begin + 6, begin + 6 + joints), np.arange(begin + 6 + joints, begin + own)
        normal[turns, turns] += 1 / _SIGMA_JOINT**2
        gradient[turns] += _turn_vectors(frame).ravel() / _SIGMA_JOINT**2
        normal[weights, weights] += task.inverse_sigma**2
        gradient[weights] += task.inverse_sigma**2 * frame.weights
        low[weights], high[weights] = task.low - frame.weights, task.high - frame.weights
    return normal, gradient, low, high


def _performance(model: HeadModel, points: _Points, frames: list[_Frame], fps: float) -> Performance:
    rotations = np.zeros((len(frames), len(model.joint_names), 3))
    turns = np.stack([np.concatenate([frame.root[None], frame.turns]) for frame in frames])
    turning = [model.joint_names.index(name) for name in points.rig.joint_names]
    rotations[:, [0, *turning]] = quaternion_to_axis_angle(matrix_to_quaternion(turns))
    weights, places = np.stack([frame.weights for frame in frames]), np.stack([frame.translation for frame in frames])
    return Performance(weights, rotations, places, fps, model.expression_names, model.joint_names)
