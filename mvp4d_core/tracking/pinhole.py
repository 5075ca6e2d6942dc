# SPDX-License-Identifier: Apache-2.0
"""A head before a pinhole: where its points are seen, how that changes with its pose, and the pose to begin with.

Pixels are counted from the principal point, and the camera is at the origin, as `cameras` has it.
"""

import numpy as np

from ..rotations import nearest_rotation


def seen_from_pinhole(turned: np.ndarray, translation: np.ndarray, focal: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels and their derivatives.

    Args:
        turned: (P, 3) metres, the points of a head in the camera's axes, about the head's origin.
        translation: (3,) metres, of that origin.

    Returns:
        (P, 2) px, which are also their own derivative by the logarithm of `focal`; (P, 2, 3) by a small turn of the head about its origin;
        and (P, 2, 3) by the points' places.
    """
    in_camera = turned + translation
    depth = np.maximum(in_camera[:, 2], 1e-3)
    pixels = focal * in_camera[:, :2] / depth[:, None]
    by_place = np.zeros((len(turned), 2, 3))
    by_place[:, 0, 0] = by_place[:, 1, 1] = focal / depth
    by_place[:, :, 2] = -pixels / depth[:, None]
    cross = np.zeros((len(turned), 3, 3))  # d(exp(w) p)/dw = -[p]x
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = turned[:, 2], -turned[:, 1], turned[:, 0]
    cross -= cross.transpose(0, 2, 1)
    return pixels, by_place @ cross, by_place


def first_pose(points: np.ndarray, landmarks: np.ndarray, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,) that take `points` (P, 3) metres to `landmarks` (P, 3), pixels and relative depth, by a
    similarity (Umeyama 1991).
    """
    middle = points.mean(axis=0)
    source, target = points - middle, landmarks - landmarks.mean(axis=0)
    rotation = nearest_rotation(target.T @ source)
    scale = np.linalg.norm(target[:, :2]) / np.linalg.norm((source @ rotation.T)[:, :2])
    return rotation, np.append(landmarks[:, :2].mean(axis=0), focal) / scale - rotation @ middle


def facing(normals: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(L,) how far a surface is seen: from 0.1 where it looks away to 1. Outward unit normals (L, 3) and points (L, 3) in camera axes."""
    cosine = -np.einsum("nd,nd->n", normals, points) / np.linalg.norm(points, axis=1)
    return 0.1 + 0.9 * np.clip((cosine + 0.1) / 0.4, 0, 1)
