# SPDX-License-Identifier: Apache-2.0
"""Rotations on numpy arrays: axis-angle vectors (radians), wxyz quaternions, 3x3 matrices.

All act on column vectors (`x' = R x`). Every function takes any leading batch shape and keeps the floating dtype it is given.
Formulas: Rodrigues' rotation formula; unit quaternions (q and -q are the same rotation, results have w >= 0 where a choice exists).
"""

import numpy as np

__all__ = [
    "axis_angle_to_matrix",
    "axis_angle_to_quaternion",
    "matrix_to_quaternion",
    "multiply_quaternions",
    "nearest_rotation",
    "normalize_quaternions",
    "quaternion_to_axis_angle",
    "quaternion_to_matrix",
]


def normalize_quaternions(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) from any non-zero ones; zero quaternions become the identity."""
    length = np.linalg.norm(quats, axis=-1, keepdims=True)
    identity = np.array([1, 0, 0, 0], dtype=quats.dtype)
    return np.where(length > 0, quats / np.where(length > 0, length, 1), identity)


def axis_angle_to_quaternion(axis_angle: np.ndarray) -> np.ndarray:
    """(..., 3) radians to unit wxyz (..., 4). Exact at zero."""
    angle = np.linalg.norm(axis_angle, axis=-1, keepdims=True)
    # numpy's sinc is sin(pi x)/(pi x): sin(angle/2)/angle, finite at zero
    imaginary = 0.5 * np.sinc(angle / (2 * np.pi)) * axis_angle
    return np.concatenate([np.cos(angle / 2), imaginary], axis=-1).astype(axis_angle.dtype)


def quaternion_to_axis_angle(quats: np.ndarray) -> np.ndarray:
    """Unit wxyz (..., 4) to the axis-angle (..., 3) of length at most pi."""
    quats = np.where(quats[..., :1] < 0, -quats, quats)
    sine = np.linalg.norm(quats[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quats[..., :1])
    small = sine < 1e-6
    ratio = np.where(small, 2 / np.maximum(quats[..., :1], 0.5), angle / np.where(small, 1, sine))
    return quats[..., 1:] * ratio


def quaternion_to_matrix(quats: np.ndarray) -> np.ndarray:
    """wxyz (..., 4), normalised here, to rotation matrices (..., 3, 3)."""
    w, x, y, z = np.moveaxis(normalize_quaternions(quats), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def axis_angle_to_matrix(axis_angle: np.ndarray) -> np.ndarray:
    """(..., 3) radians to rotation matrices (..., 3, 3)."""
    return quaternion_to_matrix(axis_angle_to_quaternion(axis_angle))


def matrix_to_quaternion(matrices: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) to unit wxyz (..., 4) with w >= 0.

    Takes, of the four ways to divide, the one with the largest divisor, so it is accurate at every angle.
    """
    m = matrices
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = np.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], axis=-1)
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    candidates = np.stack(
        [
            np.stack([squares[..., 0], wx, wy, wz], axis=-1),
            np.stack([wx, squares[..., 1], xy, xz], axis=-1),
            np.stack([wy, xy, squares[..., 2], yz], axis=-1),
            np.stack([wz, xz, yz, squares[..., 3]], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(squares, axis=-1)[..., None, None]
    quats = np.take_along_axis(candidates, best, axis=-2)[..., 0, :]
    return normalize_quaternions(np.where(quats[..., :1] < 0, -quats, quats))


def nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    """Of all rotations those nearest to any matrices (..., 3, 3), by the sum of squared differences; never a reflection.

    Of the sum of `outer(target, source)` over points about their middles it is what lays the source on the target best (Kabsch 1976).
    """
    left, _, right = np.linalg.svd(matrices)
    left[..., 2] *= np.sign(np.linalg.det(left @ right))[..., None]
    return left @ right


def multiply_quaternions(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Hamilton product (..., 4): the rotation `right` first, then `left`."""
    aw, ax, ay, az = np.moveaxis(left, -1, 0)
    bw, bx, by, bz = np.moveaxis(right, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )
