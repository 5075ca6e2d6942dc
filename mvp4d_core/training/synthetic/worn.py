# SPDX-License-Identifier: Apache-2.0
"""What a person wears on the head's surface: meshes of locks, tufts and frames that move with the head."""

from dataclasses import dataclass

import numpy as np

from ...rig import HeadModel, Parameters, joint_transforms
from ...rotations import axis_angle_to_matrix

# bands of the one texture that everything worn shares, as (lowest v, highest v)
LOCKS, SHELL, BEARD, FRAME = (0.51, 0.99), (0.26, 0.49), (0.11, 0.24), (0.01, 0.09)


@dataclass(frozen=True)
class Worn:
    """A mesh in the head's rest pose.

    Attributes:
        vertices, normals, tangents: (N, 3) float32; tangents run from root to tip.
        faces: (F, 3) int32; uvs (N, 2) float32, v up.
        weights: (N, J) float32, linear blend skinning.
        anchors: (N,) int32, the head's vertex whose expression a vertex follows, -1 for none.
    """

    vertices: np.ndarray
    normals: np.ndarray
    tangents: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    weights: np.ndarray
    anchors: np.ndarray


def joined(pieces: list[Worn]) -> Worn:
    """Several meshes as one."""
    firsts = np.cumsum([0] + [len(piece.vertices) for piece in pieces])
    names = ("vertices", "normals", "tangents", "uvs", "weights", "anchors")
    fields = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names}
    return Worn(faces=np.concatenate([p.faces + first for p, first in zip(pieces, firsts, strict=False)]).astype(np.int32), **fields)


def nothing(joints: int) -> Worn:
    """A bare head's."""
    flat = np.zeros((0, 3), np.float32)
    return Worn(flat, flat, flat, flat.astype(np.int32), flat[:, :2], np.zeros((0, joints), np.float32), np.zeros(0, np.int32))


def on_joint(
    model: HeadModel, points: np.ndarray, normals: np.ndarray, tangents: np.ndarray, uvs: np.ndarray, faces: np.ndarray, follow: np.ndarray
) -> Worn:
    """A mesh that follows the neck joint by `follow` (N,) and the root by the rest."""
    weights = np.zeros((len(points), len(model.joint_names)), np.float32)
    weights[:, 0] = 1 - follow
    weights[:, model.joint_names.index("neck") if "neck" in model.joint_names else 0] += follow
    points, normals, tangents, uvs = (np.asarray(array, np.float32) for array in (points, normals, tangents, uvs))
    return Worn(points, normals, tangents, faces.astype(np.int32), uvs, weights, np.full(len(points), -1, np.int32))


def posed(worn: Worn, rig: HeadModel, p: Parameters) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, normals and tangents (N, 3) float32 as the person's rig moves them."""
    joints = rig.J_regressor @ (rig.v_template + rig.exprdirs @ p.expression)
    transforms = joint_transforms(joints, rig.parents, axis_angle_to_matrix(p.rotations))
    blend = np.tensordot(worn.weights, transforms, axes=1)
    rest = worn.vertices.astype(np.float64)
    bound = np.flatnonzero(worn.anchors >= 0)
    rest[bound] += rig.exprdirs[worn.anchors[bound]] @ p.expression
    vertices = np.einsum("vab,vb->va", blend[:, :3, :3], rest) + blend[:, :3, 3] + p.translation
    turned = [np.einsum("vab,vb->va", blend[:, :3, :3], directions) for directions in (worn.normals, worn.tangents)]
    return tuple(a.astype(np.float32) for a in (vertices, *turned))  # pyright: ignore[reportReturnType]


def strip_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles (F, 3) of a grid of rows x columns vertices, row by row."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]).astype(np.int32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) of length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def directions_along(points: np.ndarray) -> np.ndarray:
    """Unit directions along the second-last axis of points (..., n, 3)."""
    return unit(np.gradient(points, axis=-2))


def ribbons(points: np.ndarray, normals: np.ndarray, uvs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Points, normals, tangents, uvs and faces, flattened, of ribbons (count, 2, stations, 3) whose normals are rounded across."""
    count, _, stations, _ = points.shape
    across = unit(points[:, 1] - points[:, 0])
    normals = normals.copy()
    normals[:, 0] -= 0.55 * across
    normals[:, 1] += 0.55 * across
    faces = (strip_faces(2, stations)[None] + (np.arange(count) * 2 * stations)[:, None, None]).reshape(-1, 3)
    return points.reshape(-1, 3), unit(normals).reshape(-1, 3), directions_along(points).reshape(-1, 3), uvs.reshape(-1, 2), faces
