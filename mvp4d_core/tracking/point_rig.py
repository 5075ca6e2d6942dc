# SPDX-License-Identifier: Apache-2.0
"""Points on a head as exact functions of its blend weights and turning joints, with their derivatives: what the fits step along.

Skinning of chosen points, for joints that do not carry one another (jaw and eyes; neck and root are the fits' own affair). All of it is
linear but for the joints' matrices, so the vertices' shares in a point are folded in once and a step costs no vertex.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ..rig import HeadModel
from ..rotations import axis_angle_to_matrix

_GAZE_BOUND, _JAW_BOUND = np.radians(40), np.radians(30)
_EYES = tuple((name, (-_GAZE_BOUND, _GAZE_BOUND), (-_GAZE_BOUND, _GAZE_BOUND)) for name in ("left_eye", "right_eye"))
_JAW = ("jaw", (0.0, _JAW_BOUND), (-0.08, 0.08))

Bounds = tuple[float, float]


@dataclass(frozen=True)
class TurnedPoints:
    """What one joint turns: the points `moved` (n,), and of these, times the joint's share in each, `rest` (n, 3) from the joint, its
    derivatives `basis` (n, 3, K), and `correctives` (n, 3, 9 M).
    """

    moved: np.ndarray
    rest: np.ndarray
    basis: np.ndarray
    correctives: np.ndarray


@dataclass(frozen=True)
class PointRig:
    """P points that follow K blend weights and the turns of M joints.

    Attributes:
        base, basis: (P, 3) metres and (P, 3, K).
        correctives: (P, 3, 9 M) metres per unit of the row-major entries of R_m - I.
        turned: what each of the joints turns.
    """

    base: np.ndarray
    basis: np.ndarray
    correctives: np.ndarray
    turned: tuple[TurnedPoints, ...]
    joint_names: tuple[str, ...]


Rig = TypeVar("Rig", bound=PointRig)


def point_rig(model: HeadModel, basis: np.ndarray, joint_names: tuple[str, ...], corners: np.ndarray, shares: np.ndarray) -> PointRig:
    """Points of a head.

    Args:
        basis: (V, 3, K) directions of the vertices.
        joint_names: of those that turn.
        corners: (P, k) the vertices that carry each point; `shares` (P, k) how much.
    """
    ids, inverse = np.unique(corners, return_inverse=True)
    inverse = inverse.reshape(corners.shape)

    def at_points(values: np.ndarray) -> np.ndarray:
        return np.einsum("pk,pk...->p...", shares.astype(np.float64), values[inverse])

    rest = model.v_template[ids].astype(np.float64) + model.static_offsets[ids]
    by_weight = basis[ids].astype(np.float64)
    joints = [model.joint_names.index(name) for name in joint_names]
    columns = [9 * (joint - 1) + entry for joint in joints for entry in range(9)]
    correctives = model.posedirs[ids][:, :, columns].astype(np.float64)
    turned = []
    for joint in joints:
        share = model.lbs_weights[ids, joint].astype(np.float64)[:, None]
        place, by_blend = joint_place(model, joint, basis)
        moved = np.flatnonzero(at_points(share[:, 0]))
        turned.append(
            TurnedPoints(
                moved,
                at_points(share * (rest - place))[moved],
                at_points(share[..., None] * (by_weight - by_blend))[moved],
                at_points(share[..., None] * correctives)[moved],
            )
        )
    return PointRig(at_points(rest), at_points(by_weight), at_points(correctives), tuple(turned), tuple(joint_names))


def joint_place(model: HeadModel, joint: int, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a joint is at rest (3,) and how `basis` (V, 3, K) moves it (3, K)."""
    carriers = np.flatnonzero(model.J_regressor[joint])
    weights = model.J_regressor[joint, carriers].astype(np.float64)
    return weights @ model.v_template[carriers], np.einsum("v,vdk->dk", weights, basis[carriers])


def with_weights(rig: Rig, weights: np.ndarray) -> Rig:
    """The rig with its first blend weights (I,) at fixed values: they become part of its rest."""
    count = len(weights)
    turned = tuple(
        replace(part, rest=part.rest + part.basis[:, :, :count] @ weights, basis=part.basis[:, :, count:]) for part in rig.turned
    )
    basis = np.ascontiguousarray(rig.basis[:, :, count:])
    return replace(rig, base=rig.base + rig.basis[:, :, :count] @ weights, basis=basis, turned=turned)


def posed_points(rig: PointRig, weights: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """(P, 3) metres, of blend `weights` (K,) and the joints' `matrices` (M, 3, 3)."""
    turns = matrices - np.eye(3)
    points = rig.base + np.tensordot(rig.basis, weights, 1) + np.tensordot(rig.correctives, turns.ravel(), 1)
    for part, turn in zip(rig.turned, turns, strict=True):
        points[part.moved] += _from_joint(part, weights, turns) @ turn.T
    return points


def _from_joint(part: TurnedPoints, weights: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """(n, 3) what a joint turns."""
    return part.rest + np.tensordot(part.basis, weights, 1) + np.tensordot(part.correctives, turns.ravel(), 1)


def point_derivatives(rig: PointRig, weights: np.ndarray, matrices: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """(P, 3, K + M A): of `posed_points` by the weights and by A angles of each joint, of which `rates` (M, A, 3, 3) are what a joint's
    matrix changes by.
    """
    joints, angles = rates.shape[:2]
    turns, count = matrices - np.eye(3), len(weights)
    by_angle = np.zeros((joints, 9, joints, angles))  # the matrices' entries by the angles
    by_angle[np.arange(joints), :, np.arange(joints)] = rates.reshape(joints, angles, 9).transpose(0, 2, 1)
    by_angle = by_angle.reshape(9 * joints, joints * angles)
    derivative = np.concatenate([rig.basis, np.tensordot(rig.correctives, by_angle, 1)], axis=2)
    for m, part in enumerate(rig.turned):
        inner = np.concatenate([part.basis, np.tensordot(part.correctives, by_angle, 1)], axis=2)
        change = np.einsum("ab,nbk->nak", turns[m], inner)
        own = slice(count + angles * m, count + angles * (m + 1))
        change[:, :, own] += np.einsum("kab,nb->nak", rates[m], _from_joint(part, weights, turns))
        derivative[part.moved] += change
    return derivative


def turning_joints(model: HeadModel) -> list[tuple[str, Bounds, Bounds]]:
    """The joints that may turn, each a name and bounds of its pitch and yaw: the eyes, and the jaw where no expression opens it."""
    wanted = _EYES if "jawOpen" in model.expression_names else (*_EYES, _JAW)
    return [joint for joint in wanted if joint[0] in model.joint_names]


def turns(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R = R_y(yaw) R_x(pitch) of angles (M, 2) and its derivatives: (M, 3, 3) and (M, 2, 3, 3)."""
    zero = np.zeros(len(angles))
    pitch = axis_angle_to_matrix(np.stack([angles[:, 0], zero, zero], axis=1))
    yaw = axis_angle_to_matrix(np.stack([zero, angles[:, 1], zero], axis=1))
    about_x = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]], np.float64)
    about_y = np.array([[0, 0, 1], [0, 0, 0], [-1, 0, 0]], np.float64)
    return yaw @ pitch, np.stack([yaw @ about_x @ pitch, about_y @ yaw @ pitch], axis=1)
