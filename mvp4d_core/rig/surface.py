# SPDX-License-Identifier: Apache-2.0
"""Meshes: normals, edges, connected parts, openings, and where a head is."""

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


def edges(faces: np.ndarray) -> np.ndarray:
    """(E, 2) undirected edges of triangles (F, 3), each once, in ascending order."""
    return np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)


def connected(pairs: np.ndarray, count: int) -> np.ndarray:
    """(count,) the set that each number belongs to, where pairs (n, 2) are of one set; sets are numbered from 0 by their first members."""
    label = np.arange(count)
    while True:
        low = np.minimum(label[pairs[:, 0]], label[pairs[:, 1]])
        after = label.copy()
        for column in (0, 1):
            np.minimum.at(after, pairs[:, column], low)
        after = after[after]
        if (after == label).all():
            return np.unique(label, return_inverse=True)[1]
        label = after


def parts(faces: np.ndarray, count: int) -> np.ndarray:
    """(V,) number of the connected part of the mesh that each vertex belongs to."""
    return connected(edges(faces), count)


def openings(faces: np.ndarray) -> list[np.ndarray]:
    """The rings of edges that have one face only, each its vertices in the order in which a face that closes it would name them."""
    directed = {(int(a), int(b)) for a, b in faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)}
    following = {b: a for a, b in directed if (b, a) not in directed}
    rings = []
    while following:
        ring = [next(iter(following))]
        while ring[-1] in following:
            ring.append(following.pop(ring[-1]))
        rings.append(np.array(ring[:-1]))
    return rings


def head_box(rig: HeadModel) -> tuple[np.ndarray, np.ndarray]:
    """The corners (3,) and (3,), in metres, of the box around a head at rest; shoulders and neck left out where the rig names its neck."""
    vertices = rig.v_template + rig.static_offsets
    if "neck" in rig.regions and len(rig.regions["neck"]) < len(vertices):
        vertices = vertices[~rig.region_mask("neck")]
    return vertices.min(axis=0), vertices.max(axis=0)
