# SPDX-License-Identifier: Apache-2.0
"""Gaussians that ride on triangles.

The frame of a triangle (v0, v1, v2) is R = [a0 n a2] with a0 = unit(v1 - v0), n = unit(a0 x (v2 - v0)), a2 = -(n x a0), the size
k = (|v1 - v0| + |a2 . (v2 - v0)|) / 2 and the centroid c. A local mean x, quaternion q and scale s are in the world
k R x + c, q_R q and k s (Qian et al., "GaussianAvatars", 2024, equations 2 to 5).
"""

from dataclasses import dataclass

import numpy as np

from ..rotations import matrix_to_quaternion, multiply_quaternions, quaternion_to_matrix

_TINY = 1e-12  # metres; a triangle smaller than this has no direction, its frame is then the identity scaled by nothing


@dataclass(frozen=True)
class TriangleFrames:
    """`rotations` (F, 3, 3), `centres` (F, 3) metres, `sizes` (F,) metres."""

    rotations: np.ndarray
    centres: np.ndarray
    sizes: np.ndarray


def triangle_frames(vertices: np.ndarray, faces: np.ndarray) -> TriangleFrames:
    """Frames of the triangles `faces` (F, 3) of `vertices` (V, 3)."""
    v0, v1, v2 = (vertices[faces[:, k]] for k in range(3))
    edge, side = v1 - v0, v2 - v0
    length = np.linalg.norm(edge, axis=1, keepdims=True)
    a0 = edge / np.maximum(length, _TINY)
    normal = np.cross(a0, side)
    height = np.linalg.norm(normal, axis=1, keepdims=True)
    n = normal / np.maximum(height, _TINY)
    a2 = -np.cross(n, a0)
    rotations = np.stack([a0, n, a2], axis=-1)
    rotations = np.where((height > _TINY)[..., None], rotations, np.eye(3, dtype=vertices.dtype))
    sizes = (length[:, 0] + np.abs(np.einsum("fi,fi->f", a2, side))) / 2
    return TriangleFrames(rotations, (v0 + v1 + v2) / 3, sizes)


def bound_to_world(
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, binding: np.ndarray, frames: TriangleFrames
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local means (N, 3), wxyz quats (N, 4) and scales (N, 3) on the triangles `binding` (N,) to world means, quats, scales."""
    sizes = frames.sizes[binding][:, None]
    world = np.einsum("nij,nj->ni", frames.rotations[binding], means) * sizes + frames.centres[binding]
    frame_quats = matrix_to_quaternion(frames.rotations).astype(quats.dtype)
    return world, multiply_quaternions(frame_quats[binding], quats), scales * sizes


def world_to_bound(
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, binding: np.ndarray, frames: TriangleFrames
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inverse of `bound_to_world`."""
    sizes = np.maximum(frames.sizes[binding][:, None], _TINY)
    rotations = frames.rotations[binding]
    local = np.einsum("nji,nj->ni", rotations, means - frames.centres[binding]) / sizes
    local_rotations = np.swapaxes(rotations, -1, -2) @ quaternion_to_matrix(quats)
    return local, matrix_to_quaternion(local_rotations).astype(quats.dtype), scales / sizes
