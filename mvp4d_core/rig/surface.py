# SPDX-License-Identifier: Apache-2.0
"""Normals of meshes, and where a head is."""

import numpy as np

from .head_model import HeadModel


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) normals times twice the area, of triangles (F, 3) of vertices (V, 3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) float64 unit normals, triangles weighted by area; zero for vertices of no triangle."""
    normals = np.zeros((len(vertices), 3))
    per_face = face_normals(vertices, faces)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], per_face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def head_box(rig: HeadModel) -> tuple[np.ndarray, np.ndarray]:
    """The corners (3,) and (3,), in metres, of the box around a head at rest; shoulders and neck left out where the rig names its neck."""
    vertices = rig.v_template + rig.static_offsets
    if "neck" in rig.regions and len(rig.regions["neck"]) < len(vertices):
        vertices = vertices[~rig.region_mask("neck")]
    return vertices.min(axis=0), vertices.max(axis=0)
