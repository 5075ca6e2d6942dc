# SPDX-License-Identifier: Apache-2.0
"""Any head fitted to points in space over time: to vertices of its own mesh, or to the 478 face points of whatever has them.

Gauss-Newton with analytic derivatives on the points: root rotation and translation, jaw and eyes where the points see them, and blend
weights of each frame; identity is shared. The neck stays at rest, for points can't tell its turns from the root's and the shoulders' own.
The identity is found from a few frames at once, then each frame from the one before. Priors: N(0, 1) on identity and on FLAME's
expressions, N(0, 0.45) on expressions with weights in 0..1, N(0, 0.5 rad) on the joints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from ..rig import ARKIT_NAMES, HeadModel, Performance
from ..rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_axis_angle

_MOST_POINTS = 1500
_KEY_FRAMES = 5
_STEPS = 25
_NOISE = 2e-4  # metres a vertex
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
    """What of a head the points need: P points of n corner vertices, S + E directions, M turning joints."""

    corners: np.ndarray  # (P, k) rows of the arrays below
    mixes: np.ndarray  # (P, k)
    base: np.ndarray  # (n, 3)
    static: np.ndarray  # (n, 3)
    shapes: np.ndarray  # (n, 3, S)
    expressions: np.ndarray  # (n, 3, E)
    joints: np.ndarray  # (1 + M, 3), the root first
    joint_shapes: np.ndarray  # (1 + M, 3, S)
    joint_expressions: np.ndarray  # (1 + M, 3, E)
    weights: np.ndarray  # (n, M)
    correctives: np.ndarray  # (n, 3, M, 9)
    turning: tuple[int, ...]

    def mixed(self, values: np.ndarray) -> np.ndarray:
        """(n, 3, ...) at the corners as (P, 3, ...) at the points."""
        return np.einsum("pk,pk...->p...", self.mixes, values[self.corners], optimize=True)


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
    rigid: bool  # the root turns and the head moves
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
    return _fit(head_model, chosen[:, None], np.ones((len(chosen), 1)), vertices[:, chosen], shape, fps, (_NOISE, True), progress)


def fit_landmarks(
    head_model: HeadModel, landmarks: np.ndarray, *, shape: np.ndarray | None = None, chosen: Sequence[int] | None = None,
    fps: float = 25.0, noise: float = 5e-4, rigid: bool = True, progress: Progress = silent,
) -> VertexFit:  # fmt: skip
    """Fits a head to its face points.

    Args:
        landmarks: (T, L, 3) metres, MediaPipe's 478 points, or the `chosen` of them.
        shape: (S,) identity, if it is known.
        chosen: (L,) their numbers.
        noise: metres by which a point may be off before the head bends to it.
        rigid: the root turns and the head moves; else both stay at rest.

    Raises:
        InputError: other points than the head has, or numbers that are not finite.
    """
    ids = np.arange(len(head_model.landmark_faces)) if chosen is None else np.asarray(chosen, int)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (len(ids), 3) or len(ids) < 4 or ids.max() >= len(head_model.landmark_faces):
        raise InputError(
            f"`landmarks` must be (T, {len(ids)}, 3) of the {len(head_model.landmark_faces)} points of `{head_model.name}`, "
            f"got {landmarks.shape}."
        )
    corners, mixes = head_model.faces[head_model.landmark_faces[ids]], head_model.landmark_barycentrics[ids]
    return _fit(head_model, corners, mixes.astype(np.float64), landmarks, shape, fps, (noise, rigid), progress)


def _fit(
    model: HeadModel, corners: np.ndarray, mixes: np.ndarray, targets: np.ndarray, shape: np.ndarray | None, fps: float,
    manner: tuple[float, bool], progress: Progress,
) -> VertexFit:  # fmt: skip
    targets = np.asarray(targets, np.float64)
    if not len(targets) or not np.isfinite(targets).all():
        raise InputError(f"The points to fit must be finite and of a frame at least, got {targets.shape}.")
    points = _points_of(model, corners, mixes)
    arkit = np.isin(model.expression_names, ARKIT_NAMES)
    task = _Task(
        points, *manner, np.where(arkit, 0.0, -_LIMIT_EXPRESSION), np.where(arkit, 1.0, _LIMIT_EXPRESSION),
        np.where(arkit, 1 / _SIGMA_ARKIT, 1.0),
    )  # fmt: skip
    task.high[_still(model, points)] = 0.0
    task.low[_still(model, points)] = 0.0
    count = points.shapes.shape[2]
    if shape is None:
        keys = np.unique(np.linspace(0, len(targets) - 1, _KEY_FRAMES).round().astype(int))
        starts = [_aligned(points, _rest(points), target, np.zeros(count)) for target in targets[keys]]
        shape_found, _ = _solve(task, targets[keys], starts, np.zeros(count), shared=True)
    else:
        shape_found = np.zeros(count)
        known = min(count, len(shape))
        shape_found[:known] = shape[:known]
    frames, errors, previous = [], [], None
    for index, target in enumerate(targets):
        start = previous or _rest(points)
        start = _aligned(points, start, target, shape_found) if task.rigid else start
        _, (previous,) = _solve(task, target[None], [start], shape_found, shared=False)
        errors.append(np.linalg.norm(_posed(points, previous, shape_found)[0] - target, axis=1).mean())
        frames.append(previous)
        progress("fit", index + 1, len(targets))
    return VertexFit(_performance(model, points, frames, fps), shape_found.astype(np.float32), np.array(errors))


def _points_of(model: HeadModel, corners: np.ndarray, mixes: np.ndarray) -> _Points:
    ids, inverse = np.unique(corners, return_inverse=True)
    names = ("left_eye", "right_eye") if "jawOpen" in model.expression_names else ("jaw", "left_eye", "right_eye")
    turning = [model.joint_names.index(name) for name in names if name in model.joint_names]
    turning = [joint for joint in turning if model.lbs_weights[ids, joint].sum() > _FLOOR * len(ids)]
    joints = [0, *turning]
    regressor = model.J_regressor[joints].astype(np.float64)
    by_joint = model.posedirs[ids].reshape(len(ids), 3, -1, 9)[:, :, [joint - 1 for joint in turning]]
    return _Points(
        inverse.reshape(corners.shape), mixes, model.v_template[ids].astype(np.float64), model.static_offsets[ids].astype(np.float64),
        model.shapedirs[ids].astype(np.float64), model.exprdirs[ids].astype(np.float64), regressor @ model.v_template,
        np.einsum("jv,vak->jak", regressor, model.shapedirs, optimize=True),
        np.einsum("jv,vak->jak", regressor, model.exprdirs, optimize=True),
        model.lbs_weights[ids][:, turning].astype(np.float64), by_joint.astype(np.float64), tuple(turning),
    )  # fmt: skip


def _still(model: HeadModel, points: _Points) -> list[int]:
    """Expressions that stay at rest: gaze, where the eyes' joints carry it, and the tongue, where no point sees it."""
    eyes = any(model.joint_names[joint].endswith("eye") for joint in points.turning)
    unseen = np.abs(points.expressions).max(axis=(0, 1), initial=0) < 1e-9
    return [i for i, name in enumerate(model.expression_names) if unseen[i] or (eyes and name.startswith("eyeLook"))]


def _rest(points: _Points) -> _Frame:
    turns = np.tile(np.eye(3), (len(points.turning), 1, 1))
    return _Frame(np.eye(3), np.zeros(3), turns, np.zeros(points.expressions.shape[2]))


def _aligned(points: _Points, frame: _Frame, target: np.ndarray, shape: np.ndarray) -> _Frame:
    """The frame with its root turned and moved so that its points lie on the target as well as they can (Kabsch 1976)."""
    unmoved = replace(frame, root=np.eye(3), translation=np.zeros(3))
    here, joints = _posed(points, unmoved, shape)
    middle, aim = here.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((target - aim).T @ (here - middle))
    root = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return replace(unmoved, root=root, translation=aim - root @ (middle - joints[0]) - joints[0])


def _posed(points: _Points, frame: _Frame, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points (P, 3) and the joints at rest (1 + M, 3)."""
    local, joints, _ = _local(points, frame, shape)
    return points.mixed(local - joints[0]) @ frame.root.T + joints[0] + frame.translation, joints


def _local(points: _Points, frame: _Frame, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners (n, 3) before the root moves them, joints (1 + M, 3), and corners before the joints turn them."""
    joints = points.joints + points.joint_shapes @ shape + points.joint_expressions @ frame.weights
    change = frame.turns - np.eye(3)
    corrected = points.base + points.static + points.shapes @ shape + points.expressions @ frame.weights
    corrected = corrected + np.einsum("namk,mk->na", points.correctives, change.reshape(len(change), 9))
    local = corrected + np.einsum("nm,mab,nmb->na", points.weights, change, corrected[:, None] - joints[1:])
    return local, joints, corrected


def _derivative(points: _Points, frame: _Frame, shape: np.ndarray, *, shared: bool) -> tuple[np.ndarray, np.ndarray]:
    """The points (P, 3) and their derivatives (P, 3, [S +] 6 + 3 M + E) by identity, root, translation, joints and expression."""
    local, joints, corrected = _local(points, frame, shape)
    change = frame.turns - np.eye(3)
    turn = np.eye(3) + np.einsum("nm,mab->nab", points.weights, change)
    basis = np.concatenate([points.shapes, points.expressions], axis=2) if shared else points.expressions
    carried = np.concatenate([points.joint_shapes, points.joint_expressions], axis=2) if shared else points.joint_expressions
    by_blend = turn @ basis - np.einsum("nm,mab,mbk->nak", points.weights, change, carried[1:], optimize=True) - carried[0]
    by_turn = np.zeros((*local.shape, len(change), 3))
    for m, matrix in enumerate(frame.turns):
        rates = _AXES @ matrix  # (3, 3, 3), of the matrix by a small turn about each axis
        swung = np.einsum("kab,nb->nak", rates, corrected - joints[1 + m]) * points.weights[:, m, None, None]
        by_turn[:, :, m] = swung + turn @ (points.correctives[:, :, m] @ rates.reshape(3, 9).T)
    places = points.mixed(local - joints[0]) @ frame.root.T
    count = by_blend.shape[2] - points.expressions.shape[2]
    form = points.mixed(np.concatenate([by_blend[:, :, :count], by_turn.reshape(*local.shape, -1), by_blend[:, :, count:]], axis=2))
    form = frame.root @ form
    form[:, :, :count] += carried[0, :, :count]
    form[:, :, form.shape[2] - points.expressions.shape[2] :] += carried[0, :, count:]
    by_root = np.einsum("kab,pb->pak", _AXES, places)
    by_place = np.broadcast_to(np.eye(3), (len(places), 3, 3))
    everything = np.concatenate([form[:, :, :count], by_root, by_place, form[:, :, count:]], axis=2)
    return places + joints[0] + frame.translation, everything


def _solve(task: _Task, targets: np.ndarray, frames: list[_Frame], shape: np.ndarray, *, shared: bool) -> tuple[np.ndarray, list[_Frame]]:
    """Damped Gauss-Newton on all frames at once: with the identity among the unknowns, or without."""
    points, damping = task.points, 1e-6
    cost = _cost(task, targets, frames, shape, shared)
    for _ in range(_STEPS):
        normal, gradient, low, high = _system(task, targets, frames, shape, shared)
        step = _boxed(normal + damping * np.diag(np.diag(normal)), gradient, low, high)
        count = len(shape) if shared else 0
        new_shape = shape + step[:count] if shared else shape
        parts = step[count:].reshape(len(frames), -1)
        moved = [frame.moved(part) for frame, part in zip(frames, parts, strict=True)]
        new_cost = _cost(task, targets, moved, new_shape, shared)
        if new_cost > cost:
            damping = max(damping, 1e-6) * 30
            if damping > 1e3:
                break
            continue
        gain, cost, frames, shape = cost - new_cost, new_cost, moved, new_shape
        damping = max(damping / 10, 1e-9)
        if gain < 1e-7 * (cost + 1e-3 * len(points.corners)):
            break
    return shape, frames


def _cost(task: _Task, targets: np.ndarray, frames: list[_Frame], shape: np.ndarray, shared: bool) -> float:
    total = float(shape @ shape) if shared else 0.0
    for frame, target in zip(frames, targets, strict=True):
        total += float((((_posed(task.points, frame, shape)[0] - target) / task.noise) ** 2).sum())
        total += float(((task.inverse_sigma * frame.weights) ** 2).sum())
        total += float((_turn_vectors(frame) ** 2).sum()) / _SIGMA_JOINT**2
    return total


def _turn_vectors(frame: _Frame) -> np.ndarray:
    return quaternion_to_axis_angle(matrix_to_quaternion(frame.turns))


def _system(
    task: _Task, targets: np.ndarray, frames: list[_Frame], shape: np.ndarray, shared: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The normal matrix and the gradient of all unknowns, and how far each may go down and up."""
    points = task.points
    count, joints = len(shape) if shared else 0, 3 * len(points.turning)
    own = 6 + joints + len(task.low)
    size = count + own * len(frames)
    normal, gradient = np.zeros((size, size)), np.zeros(size)
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    if shared:
        normal[:count, :count], gradient[:count] = np.eye(count), shape
        low[:count], high[:count] = -_LIMIT_SHAPE - shape, _LIMIT_SHAPE - shape
    for index, (frame, target) in enumerate(zip(frames, targets, strict=True)):
        places, form = _derivative(points, frame, shape, shared=shared)
        rates = form.reshape(-1, form.shape[2]) / task.noise
        error = (places - target).ravel() / task.noise
        begin = count + own * index
        chosen = np.concatenate([np.arange(count), np.arange(begin, begin + own)])
        normal[np.ix_(chosen, chosen)] += rates.T @ rates
        gradient[chosen] += rates.T @ error
        turns, weights = np.arange(begin + 6, begin + 6 + joints), np.arange(begin + 6 + joints, begin + own)
        normal[turns, turns] += 1 / _SIGMA_JOINT**2
        gradient[turns] += _turn_vectors(frame).ravel() / _SIGMA_JOINT**2
        normal[weights, weights] += task.inverse_sigma**2
        gradient[weights] += task.inverse_sigma**2 * frame.weights
        if not task.rigid:
            low[begin : begin + 6] = high[begin : begin + 6] = 0.0
        low[weights], high[weights] = task.low - frame.weights, task.high - frame.weights
    return normal, gradient, low, high


def _boxed(normal: np.ndarray, gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A step towards the minimum of x^T normal x / 2 + gradient^T x inside the box: what would leave it stops at the wall, and the rest
    is found again around it (projected Newton; Bertsekas 1982).
    """
    scale = 1 / np.sqrt(np.diag(normal))  # metres, radians and weights differ by orders of magnitude
    scaled = normal * scale * scale[:, None]
    walls = np.zeros(len(gradient))
    free = (low < 0) & (high > 0) | (gradient * np.where(high <= 0, 1, -1) > 0) & (low < high)
    step = np.zeros(len(gradient))
    for _ in range(len(gradient)):
        pull = -scale[free] * (gradient + normal @ np.where(free, 0, walls))[free]
        step = walls.copy()
        step[free] = scale[free] * np.linalg.solve(scaled[np.ix_(free, free)], pull)
        out = free & ((step < low) | (step > high))
        if not out.any():
            break
        walls[out] = np.clip(step[out], low[out], high[out])
        free &= ~out
    return np.clip(step, low, high)


def _performance(model: HeadModel, points: _Points, frames: list[_Frame], fps: float) -> Performance:
    rotations = np.zeros((len(frames), len(model.joint_names), 3))
    turns = np.stack([np.concatenate([frame.root[None], frame.turns]) for frame in frames])
    rotations[:, [0, *points.turning]] = quaternion_to_axis_angle(matrix_to_quaternion(turns))
    weights, places = np.stack([frame.weights for frame in frames]), np.stack([frame.translation for frame in frames])
    return Performance(weights, rotations, places, fps, model.expression_names, model.joint_names)
